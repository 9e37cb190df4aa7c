"""Two processes that train together do what one does, and agree to the bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import secateur as sc
from secateur import ranks
from secateur.state import load_state
from tests.training.two_ranks import JOBS, pruned

ROOT = Path(__file__).parents[2]
DOUBLE = 2**-53


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two ranks have done all their work."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-W", "error", "-m", "tests.training.two_ranks", str(folder)]
    both = [subprocess.Popen([*command, str(rank)], cwd=ROOT, stderr=subprocess.PIPE, text=True) for rank in range(2)]
    for process in both:
        _, words = process.communicate(timeout=300)
        assert process.returncode == 0, words
    return folder


@pytest.fixture(scope="module")
def found(place: Path) -> list[dict[str, Any]]:
    return [load_state(place / f"rank-{rank}.safetensors") for rank in range(2)]


@pytest.mark.parametrize("name", JOBS)
def test_two_ranks_give_what_one_gives(place: Path, found: list[dict[str, Any]], name: str, tmp_path: Path) -> None:
    one = pruned(tmp_path / "one", name)
    two = place / "two" / name
    assert (
        sc.Plan.load(two / "plan.safetensors").masks().keys()
        == sc.Plan.load(tmp_path / "one" / "plan.safetensors").masks().keys()
    )
    for parameter, mask in sc.Plan.load(tmp_path / "one" / "plan.safetensors").masks().items():
        assert torch.equal(sc.Plan.load(two / "plan.safetensors").masks()[parameter], mask)
    alone, together = (load_weights_of(folder / "weights.safetensors") for folder in (tmp_path / "one", two))
    for parameter, value in alone.items():
        # Some 40 steps at rate 0.1 and less, each with a few thousand roundings of numbers below 10, none amplified
        # more than tenfold by a network of three layers.
        assert float((together[parameter] - value).abs().max()) < 40 * 3000 * 10 * DOUBLE
    assert found[0][name]["accuracy"] == one["accuracy"]
    assert found[0][name]["losses"] == pytest.approx(one["history"]["losses"], abs=40 * 3000 * 10 * DOUBLE)


def load_weights_of(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


@pytest.mark.parametrize("name", ["whole", "parts", "masks", *JOBS])
def test_both_ranks_have_the_same_bits(found: list[dict[str, Any]], name: str) -> None:
    first, second = (flat(one[name]) for one in found)
    assert first.keys() == second.keys()
    for key, value in first.items():
        same = torch.equal(value, second[key]) if isinstance(value, torch.Tensor) else value == second[key]
        assert same, key


def flat(tree: Any, place: str = "") -> dict[str, Any]:
    if isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {key: value for name, inner in items for key, value in flat(inner, f"{place}/{name}").items()}
    return {place: tree}


def test_two_ranks_that_stopped_go_on_to_the_same_bits(found: list[dict[str, Any]]) -> None:
    for one in found:
        assert one["whole"].keys() == one["parts"].keys()
        for name, value in one["whole"].items():
            assert torch.equal(value, one["parts"][name]), name


def test_half_of_the_weights_of_every_rank_are_pruned_by_shared_gradients(found: list[dict[str, Any]]) -> None:
    (mask, *_, weight) = found[0]["masks"]
    assert int(mask.sum()) == 6  # a quarter of 24
    assert torch.equal(weight != 0, mask)


def test_a_sampler_deals_each_rank_other_samples_in_another_order_every_epoch(found: list[dict[str, Any]]) -> None:
    first, second = (one["orders"] for one in found)
    for mine, other in zip(first, second, strict=True):
        assert sorted(mine + other) == list(range(64))
    assert len({tuple(order) for order in first}) == 4


def test_the_first_rank_fails_for_all(found: list[dict[str, Any]]) -> None:
    assert [one["failing"] for one in found] == [
        "ValueError: the first rank's words",
        "RunError: the first rank's words",
    ]


def test_a_loss_that_is_not_finite_on_one_rank_stops_both(found: list[dict[str, Any]]) -> None:
    assert [one["disagreeing"] for one in found] == [1.0, 1.0]


def test_ranks_know_who_they_are_and_agree(found: list[dict[str, Any]]) -> None:
    assert [one["rank"] for one in found] == [(0, 2, [0, 1], 0), (1, 2, [0, 1], 0)]
    assert [one["mean"] for one in found] == [5 / 3, 5 / 3]  # (1 * 1 + 2 * 2) / (1 + 2)


def test_one_rank_needs_no_others() -> None:
    assert (ranks.count(), ranks.rank(), ranks.gathered(7), ranks.agreed(7)) == (1, 0, [7], 7)
    assert ranks.mean(3.0, 0.5, torch.device("cpu")) == 3.0
    batch = (torch.arange(3), torch.arange(3))
    assert ranks.share(batch) is batch
    model = torch.nn.Linear(1, 1)
    assert ranks.joined(model) is model


def test_the_command_runs_under_torchrun(tmp_path: Path) -> None:
    asked = ["-m", "secateur", "prune", "--task", "tests.training.two_ranks:in_double", "--sparsity", "0.8", "--json"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, command in (("one", asked), ("two", [*launch, *asked])):
        done = subprocess.run(
            [sys.executable, *command, "--out", str(tmp_path / name)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count('"kind": "prune"') == 1  # the first rank speaks, and only once
        assert (tmp_path / name / "report.html").is_file()
    one, two = (sc.Plan.load(tmp_path / name / "plan.safetensors").masks() for name in ("one", "two"))
    for parameter, mask in one.items():
        assert torch.equal(two[parameter], mask)
