"""The table of docs/criteria.md on the command line: what it says goes together prunes, the rest is refused early."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import secateur as sc
from secateur.cli.main import app
from secateur.tasks import Task, load_task, train
from secateur.weights import save_weights

PAGE = Path(__file__).resolve().parents[2] / "docs" / "criteria.md"
FIXED = ("2:4", "kernel-pattern")  # take no budget


def cells() -> Iterator[tuple[str, str, bool]]:
    """Criterion, granularity, and whether they go together."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    granularities = rows[0][1:]
    for name, *marks in rows[1:]:
        yield from ((name.strip("`"), kind, mark == "yes") for kind, mark in zip(granularities, marks, strict=True))


def task_for(criterion: str, kind: str) -> str:
    """Digits, but for what its network does not have: norms and heads."""
    if kind == "head":
        return "tests.tiny:attentive"
    return "tests.tiny:normed" if criterion == "bn_scale" else "digits"


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights of each task after an epoch."""
    folder, found = tmp_path_factory.mktemp("dense"), {}
    for name in ("digits", "tests.tiny:attentive", "tests.tiny:normed"):
        found[name] = folder / f"{name.rpartition(':')[2]}.safetensors"
        task: Task = load_task(name)
        save_weights(train(task, seed=0, epochs=1)[0], found[name])
    return found


@pytest.mark.parametrize(("criterion", "kind", "fits"), list(cells()))
def test_a_criterion_with_a_granularity(
    criterion: str, kind: str, fits: bool, dense: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = task_for(criterion, kind)
    options = ["--task", name, "--weights", str(dense[name]), "--criterion", criterion, "--granularity", kind]
    options += ["--epochs", "0", "--allocation", "uniform", *([] if kind in FIXED else ["--sparsity", "0.25"])]
    last = {"digits": "fc2", "tests.tiny:normed": "7", "tests.tiny:attentive": "fc"}[name]
    found = CliRunner().invoke(app, ["prune", *options, "--exclude", last, "--json", "--out", "run"])
    told = json.loads(found.stdout)
    if not fits:
        assert found.exit_code == 1
        assert re.match(rf"({criterion}|zeros) ", told["error"]["message"])
        return
    assert found.exit_code == 0, found.stdout + found.stderr
    plan = sc.Plan.load("run/plan.safetensors")
    assert any(part.kept < part.units.n_units for part in plan.parts)
    assert told["weights_left"] < told["weights_total"]
