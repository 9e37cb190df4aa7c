"""The verdicts, the table and the counts of the coverage benchmark, on rows made by hand."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        importlib.import_module("_coverage.counts")
        yield


def rows() -> Any:
    return importlib.import_module("_coverage.rows")


def counts() -> Any:
    return importlib.import_module("_coverage.counts")


TOLD = {
    "stage": "done", "forward": "yes", "difference": 1e-7, "predicted": "yes", "macs": "yes", "proof": "yes",
    "train_step": "yes", "reload": "yes", "kept": 0.5,
}  # fmt: skip


def row(name: str, **more: Any) -> dict[str, Any]:
    """A model that passes in tier 1 and with the peer, as the table has it: text."""
    passes = {"verdict": "pass", "kept": "0.4", "crossed_verdict": "as tier 1", "peer_verdict": "pass"}
    return {"library": "made", "model": name, **passes, "peer_kept": "0.4", **more}


# ------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("more", "verdict", "cause"),
    [
        ({}, "pass", ""),
        ({"kept": 0.9}, "pass", ""),
        ({"kept": 0.91}, "frozen", ""),
        ({"difference": 0.002}, "fail", "differs by 0.002"),
        ({"difference": float("nan")}, "fail", "differs by nan"),
        ({"difference": float("inf")}, "fail", "differs by inf"),
        ({"forward": "no", "cause": "shapes"}, "fail", "shapes"),
        ({"proof": "put back: a"}, "fail", "proof"),
        ({"reload": "no"}, "fail", "reload"),
        ({"stage": "prove", "cause": "out of time: prove"}, "fail", "out of time: prove"),
        ({"verdict": "as tier 1"}, "as tier 1", ""),
    ],
)
def test_a_model_passes_if_every_level_does(more: dict[str, Any], verdict: str, cause: str) -> None:
    found = rows().judged({**TOLD, **more})
    assert (found["verdict"], found["cause"]) == (verdict, cause)


def test_columns_of_tier_2_have_its_prefix() -> None:
    found = rows().judged(TOLD, rows().CROSSED, "crossed_")
    assert (found["crossed_verdict"], found["crossed_kept"], found["crossed_cause"]) == ("pass", 0.5, "")
    assert set(found) <= set(rows().COLUMNS)


def test_every_column_comes_once() -> None:
    assert len(set(rows().COLUMNS)) == len(rows().COLUMNS)


# -------------------------------------------------------------------------------- the file


def test_what_other_runs_write_stays(tmp_path: Path) -> None:
    file, order = tmp_path / "table.csv", [("a", "one"), ("a", "two")]
    rows().keep(order[1], {"verdict": "pass", "kept": 0.5}, order, file)
    rows().keep(order[0], {"verdict": "fail"}, order, file)
    whole = rows().keep(order[1], {"peer_verdict": "pass"}, order, file)
    assert (whole["verdict"], whole["kept"], whole["peer_verdict"]) == ("pass", "0.5", "pass")
    read = rows().read(file)
    assert list(read) == order
    assert read[order[0]]["verdict"] == "fail"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


# ------------------------------------------------------------------------------ the counts


def test_the_tier_that_leaves_less_counts_if_it_passes() -> None:
    best = counts().kept_at_best
    assert best(row("a")) == 0.4
    assert best(row("a", crossed_verdict="pass", crossed_kept="0.3")) == 0.3
    assert best(row("a", crossed_verdict="fail", crossed_kept="0.3")) == 0.4
    assert best(row("a", verdict="frozen", kept="1.0", crossed_verdict="pass", crossed_kept="0.3")) == 0.3
    assert best(row("a", verdict="frozen", kept="0.95")) == 1.0
    assert best({"library": "made", "model": "a"}) == 1.0  # nothing was run


def test_removal_is_compared_where_the_peer_passes() -> None:
    beside = counts().beside_the_peer
    assert beside(row("a")) == pytest.approx(1)
    assert beside(row("a", peer_kept="0.25")) == pytest.approx(0.8)  # 0.6 of 0.75
    assert beside(row("a", verdict="fail")) == 0
    assert beside(row("a", peer_verdict="fail")) is None
    assert beside(row("a", peer_verdict="frozen", peer_kept="1.0")) is None


def test_time_is_that_of_the_tier_that_removes_more() -> None:
    slower = counts().slower
    timed = row("a", seconds="3", crossed_seconds="5", peer_seconds="2", first_seconds="4", first_peer_seconds="2")
    assert slower(timed) == 1.5
    assert slower(timed, first=True) == 2
    assert slower({**timed, "crossed_verdict": "pass", "crossed_kept": "0.3"}) == 2.5
    assert slower({**timed, "peer_seconds": ""}) is None
    assert slower({**timed, "peer_verdict": "fail"}) is None


def test_the_counts_of_a_table_by_pencil() -> None:
    table = [
        row("a", convolutional="yes", seconds="1", peer_seconds="2"),
        row("b", convolutional="yes", kept="0.2", seconds="8", peer_seconds="1", layers_silent="2"),
        row("c", convolutional="no", peer_kept="0.1", crossed_verdict="pass", crossed_kept="0.3"),
        row("d", verdict="frozen", kept="1.0", crossed_verdict="pass", crossed_kept="0.3", peer_verdict="fail"),
        row("e", verdict="fail", crossed_verdict="", peer_verdict="frozen", peer_kept="1.0"),
    ]
    said = counts().summary(table).splitlines()
    assert said == [
        "made, 5 models",
        "  tier 1        3 pass, 1 frozen, 1 fail; kept 0.400 (median); 2 layers without a reason",
        "  tier 2        2 pass, 0 frozen, 0 fail, 2 as tier 1, 1 not run",
        "  tier 1 or 2   4 pass; kept 0.300 (median)",
        "  Torch-Pruning 3 pass, 1 frozen, 1 fail",
        "at least 90% of what Torch-Pruning removes leaves 2 of the 3 models that it passes, not these:",
        "  made c: 0.700 of the parameters leave, Torch-Pruning removes 0.900",
        "2 convolutional networks: 0.700 of the parameters leave in the median in tier 1, 0.700 in tier 1 or 2",
        "time over Torch-Pruning's (trace, plan and smaller model; the proof apart):",
        "  tier 1, median of the runs: 2.00 in the geometric mean of 2 models",  # of 1/2 and 8
        "  the tier that removes more, median of the runs: 2.00 in the geometric mean of 2 models",
        "  tier 1, first run: - in the geometric mean of 0 models",
        "  the tier that removes more, first run: - in the geometric mean of 0 models",
    ]


KEPT = st.floats(0.01, 0.99).map(lambda kept: f"{kept:.4f}")
VERDICTS = st.sampled_from(["pass", "frozen", "fail", ""])


@given(VERDICTS, VERDICTS, KEPT, KEPT)
def test_the_best_tier_is_no_worse_than_either(one: str, other: str, kept: str, crossed: str) -> None:
    found = counts().kept_at_best(row("a", verdict=one, kept=kept, crossed_verdict=other, crossed_kept=crossed))
    passed = [float(value) for value, verdict in ((kept, one), (crossed, other)) if verdict == "pass"]
    assert found == min([*passed, 1.0])
    assert (found < 1) == bool(passed)
