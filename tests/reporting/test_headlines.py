"""The main finding, computed from the numbers."""

from typing import Any

import pytest

from secateur.reporting.headlines import headline, key_figures, lede


def results(dense: float | None, **curves: list[tuple[float, float]]) -> dict[str, Any]:
    drawn = {
        key: {"sparsity": [point[0] for point in points], "accuracy": [point[1] for point in points]}
        for key, points in curves.items()
    }
    before = {} if dense is None else {"dense": {"accuracy": {"mean": dense}}}
    return {"kind": "demo", "task": "digits", "curves": drawn, **before}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            results(0.9, iterative=[(0.5, 0.9), (0.9, 0.895)]),
            "90 % of the weights can go at a cost of 0.5 points of accuracy",
        ),
        (
            results(0.9, iterative=[(0.5, 0.9)]),
            "50 % of the weights can go with accuracy unchanged to a tenth of a point",
        ),
        (results(0.9, iterative=[(0.5, 0.92)]), "50 % of the weights can go and accuracy rises by 2.0 points"),
        (results(0.9, iterative=[(0.5, 0.89)]), "50 % of the weights can go at a cost of 1.0 point of accuracy"),
        (
            results(0.9, iterative=[(0.5, 0.8), (0.9, 0.7)], fine_tuned=[(0.5, 0.7)]),
            "Even at 50 % sparsity, the lowest measured, accuracy falls by 10.0 points",
        ),
        (
            results(0.9, iterative=[(0.9, 0.89)], fine_tuned=[(0.9, 0.899)]),
            "90 % of the weights can go at a cost of 0.1 points of accuracy",
        ),
        (results(None, iterative=[(0.5, 0.8), (0.9, 0.7)]), "Accuracy is 70.0 % with 90 % of the weights removed"),
        (results(0.9), "Results for digits"),
        (
            results(31.4, iterative=[(0.5, 31.395), (0.9, 30.9)]),
            "50 % of the weights can go at a cost of 0.005 of accuracy",
        ),
    ],
)
def test_headline(given: dict[str, Any], says: str) -> None:
    assert headline(given) == says


def test_headline_without_fine_tuning() -> None:
    given = {"kind": "prune", "task": "digits", "accuracy": {"dense": 0.9, "pruned_only": 0.9}, "sparsity": 0.5}
    assert headline(given) == "At 50 % sparsity, accuracy is 90.0 %, 0.0 points against the dense network"


def test_headline_counts_weights_and_not_units() -> None:
    """Half of the filters are not half of the weights, where a layer was left out."""
    given = {"accuracy": {"dense": 0.9, "fine_tuned": 0.88}, "sparsity": 0.5, "weights_left": 52, "weights_total": 100}
    assert headline(given).startswith("With 48.0 % of the weights removed, accuracy is 88.0 %, −2.0 points")
    del given["weights_total"]
    assert headline({**given, "weights": 104}).startswith("With 50.0 % of the weights removed")
    assert headline({**given, "dense": {"accuracy": {"mean": 0.9}, "weights": 208}}).startswith("With 75.0 %")


def test_headline_of_a_dense_network_only() -> None:
    assert headline({"kind": "prune", "task": "digits", "accuracy": {"dense": 0.9}}) == "Dense accuracy is 90.0 %"


def test_lede_compares_methods_at_the_highest_sparsity_all_have() -> None:
    given = results(0.9, pruned_only=[(0.5, 0.9), (0.9, 0.4)], iterative=[(0.9, 0.8), (0.95, 0.7)])
    assert lede(given).endswith(
        "At 90 %, pruning only is left with 40.0 %, iterative pruning + fine-tuning with 80.0 %."
    )
    assert "Pruning only reaches 90.0 % at 50 % sparsity, against 90.0 % for the dense network." in lede(given)


def test_key_figures_are_those_known() -> None:
    assert key_figures({"kind": "demo", "task": "digits"}) == []
    given = {"weights_left": 10, "weights_total": 100, "seconds": 4.2}
    assert [figure.value for figure in key_figures(given)] == ["10", "4.2 s"]


@pytest.mark.parametrize(("spread", "warned"), [(0.02, True), (0.001, False)])
def test_lede_warns_where_seeds_differ_more_than_networks(spread: float, warned: bool) -> None:
    given = results(0.9, iterative=[(0.9, 0.895)])
    given["curves"]["iterative"]["spread"] = [spread]
    assert ("smaller than the spread" in lede(given)) is warned


def test_lede_says_if_there_was_one_seed() -> None:
    given = {"accuracy": {"dense": 0.9, "fine_tuned": 0.88}, "seeds": [3]}
    assert lede(given) == "Accuracy: 90.0 % dense, 88.0 % after fine-tuning (one seed)."


def test_tolerance_follows_the_scale_of_the_metric() -> None:
    """One in a hundred of 31.4 is within it, three are not."""
    given = results(31.4, iterative=[(0.5, 31.2), (0.9, 30.4)])
    assert headline(given).startswith("50 % of the weights can go")
