"""Criteria by name on the command line: each prunes, along every kind of schedule, or says early what it is not for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import secateur as sc
from secateur.cli.main import app
from secateur.cli.names import resolve

SHORT = ["--dense-epochs", "1", "--epochs", "1"]
FILTERS = ["--granularity", "filter", "--exclude", "fc2"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def prune(*options: str) -> dict[str, Any]:
    """Results of a run."""
    found = CliRunner().invoke(app, ["prune", *options, *SHORT, "--json", "--out", "run"])
    assert found.exit_code == 0, found.stdout + found.stderr
    return json.loads(found.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "options",
    [
        ["--criterion", "apoz", *FILTERS],
        ["--criterion", "fpgm", *FILTERS, "--normalize", "mean"],
        ["--criterion", "fpgm", "--granularity", "channel"],
        ["--criterion", "wanda", "--granularity", "weight:true", "--allocation", "uniform"],
        ["--criterion", "wanda", "--normalize", "mean"],
    ],
    ids=" ".join,
)
def test_digits_in_short(options: list[str]) -> None:
    results = prune("--task", "digits", *options, "--sparsity", "0.3")
    removed = sum(part.units.n_units - part.kept for part in sc.Plan.load("run/plan.safetensors").parts)
    assert removed > 0
    assert results["weights_left"] < results["weights_total"]
    assert results["settings"]["criterion"] == options[1]


def test_scales_of_norms() -> None:
    prune("--task", "tests.tiny:normed", "--criterion", "bn_scale", "--granularity", "channel", "--sparsity", "0.4")
    assert {part.name for part in sc.Plan.load("run/plan.safetensors").parts if part.sparsity} <= {"0", "2", "3"}
    assert Path("run/small.safetensors").exists()


@pytest.mark.parametrize("schedule", [["cubic"], ["iterative:0.25,0.5"], ["iterative:0.25,0.5", "--rewind", "rate"]])
@pytest.mark.parametrize("criterion", ["apoz", "wanda"])
def test_statistics_along_a_schedule(criterion: str, schedule: list[str]) -> None:
    options = ["--criterion", criterion, "--granularity", "filter", "--exclude", "5", "--allocation", "uniform"]
    budget = [] if ":" in schedule[0] else ["--sparsity", "0.5"]
    prune("--task", "tests.tiny:tiny", *options, "--schedule", *schedule, *budget)
    assert sc.Plan.load("run/plan.safetensors")["2"].kept == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--criterion", "bn_scale", "--granularity", "channel"], "likewise 'conv2', 'conv3', 'fc1'"),
        (["--criterion", "apoz", "--granularity", "filter"], "none reads the output channels of group 'fc2'"),
        (["--criterion", "fpgm"], "are single weights"),
        (["--criterion", "appoz"], "nearest: apoz"),
    ],
    ids=["bn_scale", "apoz", "fpgm", "appoz"],
)
def test_what_a_criterion_is_not_for_shows_before_any_training(options: list[str], words: str) -> None:
    found = CliRunner().invoke(app, ["prune", "--task", "digits", *options, "--sparsity", "0.3", "--json"])
    assert found.exit_code == 1
    assert words in json.loads(found.stdout)["error"]["message"]
    assert not Path("runs").exists()


def test_names_stand_for_criteria() -> None:
    assert [repr(resolve("criterion", name)) for name in ("apoz", "bn_scale", "fpgm", "wanda")] == [
        "apoz",
        "bn_scale",
        "fpgm",
        "wanda",
    ]
    assert repr(resolve("granularity", "weight:true")) == "weight(per_output=True)"
