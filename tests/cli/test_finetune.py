"""`secateur finetune`, and the options of recovery, as they are typed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

import secateur as sc
from secateur.cli.main import app
from secateur.tasks import Task
from secateur.weights import save_weights
from tests.small import same_masks
from tests.tiny import tiny

ROOT = Path(__file__).parents[2]
TASK = ["--task", "tests.tiny:tiny"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def results(*arguments: str) -> dict[str, Any]:
    """What a command prints for machines."""
    found = call(*arguments, "--json")
    assert found.exit_code == 0, found.stderr
    return json.loads(found.stdout)  # type: ignore[no-any-return]


def prune(*options: str, out: str = "one", task: list[str] = TASK) -> dict[str, Any]:
    return results("prune", *task, "--sparsity", "0.8", "--epochs", "1", *options, "--out", out)


def refused(*arguments: str) -> str:
    """The words with which a command ends, the same for people and for machines; no folder was made."""
    before = sorted(Path().rglob("*"))
    found = call(*arguments, "--json")
    assert found.exit_code == 1, found.output
    words = json.loads(found.stdout)["error"]["message"]
    assert words in found.stderr
    assert sorted(Path().rglob("*")) == before
    return str(words)


# -------------------------------------------------------------------------------------- finetune


def test_the_network_of_a_run_is_trained_on(tmp_path: Path) -> None:
    first = prune()
    second = results("finetune", "one", "--epochs", "2")
    plan = sc.Plan.load("runs/finetune/plan.safetensors")
    assert same_masks(plan, sc.Plan.load("one/plan.safetensors"))
    left = load_file("runs/finetune/weights.safetensors")
    assert all(not bool(left[name][~mask].any()) for name, mask in plan.masks().items())
    assert second["before"] == first["accuracy"]["fine_tuned"]
    assert {**second["accuracy"], "fine_tuned": None} == {**first["accuracy"], "fine_tuned": None}
    for key, values in first["history"].items():
        assert second["history"][key][:1] == values
        assert len(second["history"][key]) == 3
    assert json.loads(Path("runs/finetune/results.json").read_text()) == second
    assert Path("runs/finetune/report.html").stat().st_size > 1000
    assert second["settings"]["command"] == "finetune"
    assert (second["settings"]["run"], second["settings"]["task"]) == ("one", "tests.tiny:tiny")
    third = results("finetune", "runs/finetune", "--epochs", "1", "--rewind", "rate", "--distill", "0.5")
    assert third["before"] == second["accuracy"]["fine_tuned"]
    assert Path("runs/finetune-2/weights.safetensors").exists()
    shown = call("report", "runs/finetune-2")
    assert shown.exit_code == 0, shown.stderr


def test_finetune_does_something_else_with_each_option() -> None:
    first = prune()["history"]["losses"]

    def losses(*options: str) -> tuple[float, ...]:
        found = results("finetune", "one", "--epochs", "1", *options)["history"]["losses"]
        assert found[:1] == first
        return tuple(found[1:])

    given = (
        ["--rewind", "rate"],
        ["--distill", "0.5"],
        ["--distill", "0.5", "--temperature", "2"],
        ["--autocast"],
        ["--accumulate", "2"],
        ["--rewind", "rate", "--seed", "3"],
        ["--seed", "3"],
        ["--divide-by", "4"],
    )
    assert len({losses(), *(losses(*options) for options in given)}) == 1 + len(given)


def test_a_run_that_stopped_or_was_finished_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    import secateur.cli.run as commands

    prune()
    whole = results("finetune", "one", "--epochs", "2", "--out", "whole")

    def stopped(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(commands, "finetune_task", stopped)
        found = call("finetune", "one", "--epochs", "2")
    assert found.exit_code == 130
    assert "--resume" in found.stderr
    assert "not finished" in refused("finetune", "runs/finetune")
    assert "already holds a run" in refused("finetune", "one", "--epochs", "2", "--out", "runs/finetune")
    assert "epochs was 2, now 3" in refused("finetune", "one", "--epochs", "3", "--resume")
    again = results("finetune", "one", "--epochs", "2", "--resume")
    kept = [{key: value for key, value in one.items() if key not in ("seconds", "created")} for one in (whole, again)]
    assert kept[0] == kept[1]
    assert results("finetune", "one", "--epochs", "2", "--resume") == again
    assert not Path("runs/finetune-2").exists()


def test_runs_of_other_kinds_are_refused() -> None:
    assert "nowhere holds no run that can be read" in refused("finetune", "nowhere")
    assert call("demo", *TASK, "--seeds", "1", "--epochs", "1", "--out", "demo").exit_code == 0
    assert "a run of 'demo'; expected one of secateur prune or finetune" in refused("finetune", "demo")


def test_options_of_finetune_that_do_not_fit_are_refused() -> None:
    prune()
    for options, words in (
        (["--rewind", "weights", "--epochs", "1"], "use --rewind rate"),
        (["--rewind", "rate", "--epochs", "3"], "dense training has 2. Lower --epochs to 2 or less"),
        (["--network", "x"], "tests.tiny:tiny does not take --network; leave it out"),
        (["--task", "digits"], "does not fit Sequential"),
        (["--device", "nonsense"], "--device is 'nonsense'; expected cpu, cuda, or auto"),
    ):
        assert words in refused("finetune", "one", *options)


def test_a_run_that_does_not_say_its_task_needs_it() -> None:
    prune()
    described = json.loads(Path("one/run.json").read_text())
    del described["settings"]["task"]
    Path("one/run.json").write_text(json.dumps(described))
    assert "the run in one does not say of which task it is: name it by --task" in refused("finetune", "one")
    results("finetune", "one", *TASK, "--epochs", "0")


# ----------------------------------------------------------------------------- options of recovery


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (["--rewind", "rate"], {"rewind": "rate"}),
        (["--rewind", "weights"], {"rewind": "weights"}),
        (["--rewind", "rate", "--schedule", "iterative:0.5,0.8"], {"rewind": "rate", "schedule": "iterative:0.5,0.8"}),
        (["--distill", "0.5", "--temperature", "2"], {"distill": 0.5, "temperature": 2}),
        (["--regularize", "l1:1e-3"], {"regularize": "l1:1e-3"}),
        (["--autocast"], {"autocast": True}),
        (["--accumulate", "2"], {"accumulate": 2}),
        (["--divide-by", "2"], {"divide_by": 2}),
        (["--seed", "3"], {"seed": 3}),
    ],
)
def test_prune_does_something_else_with_each_option(options: list[str], settings: dict[str, Any]) -> None:
    plain, found = prune(out="plain"), prune(*options)
    assert found["history"]["losses"] != plain["history"]["losses"]
    assert {key: found["settings"][key] for key in settings} == settings
    # at most half a unit from what was asked
    assert found["sparsity"] == pytest.approx(0.8, abs=0.5 / found["weights_total"])


def test_prune_takes_weights_from_a_file() -> None:
    torch.manual_seed(0)
    save_weights(tiny().model(), "given.safetensors")
    found = call("prune", *TASK, "--sparsity", "0.8", "--epochs", "1", "--weights", "given.safetensors", "--out", "one")
    assert found.exit_code == 0, found.stderr
    assert "dense weights from given.safetensors" in found.stderr
    given, dense = load_file("given.safetensors"), load_file("one/dense.safetensors")
    assert given.keys() == dense.keys()
    assert all(torch.equal(dense[name], value) for name, value in given.items())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rewind", "sideways"], "no choice of --rewind is named 'sideways'; there are: rate, weights"),
        (["--rewind", "rate", "--epochs", "9"], "dense training has 2. Lower --epochs to 2 or less"),
        (["--rewind", "weights", "--schedule", "cubic"], "not along a cubic schedule: use iterative, one_shot, or"),
        (["--regularize", "l3:1"], "no choice of --regularize is named 'l3'"),
        (["--regularize", "l1:x"], "--regularize is written l1:1e-5, l2:1e-4 or bn_l1:1e-4; given: 'l1:x'"),
        (["--regularize", "l1"], "--regularize is written l1:1e-5, l2:1e-4 or bn_l1:1e-4; given: 'l1'"),
        (["--regularize", "bn_l1:1e-4"], "Sequential has no norm with a scale among the types BatchNorm"),
        (["--regularize", "l1:-1"], "the strength of the regularizer is -1.0; expected a number of 0 or more"),
        (["--device", "nonsense"], "--device is 'nonsense'; expected cpu, cuda, or auto, a GPU if there is one"),
        (["--device", "meta"], "--device meta cannot be used here ("),
        (["--device", "cuda:99"], "--device cuda:99 cannot be used here ("),
        (["--network", "x"], "the task tests.tiny:tiny does not take --network; leave it out"),
        (["--data-dir", "x"], "the task tests.tiny:tiny does not take --data-dir; leave it out"),
        (["--weights", "nowhere.safetensors"], "nowhere.safetensors cannot be read as safetensors"),
        (["--weights", "other.safetensors"], "other.safetensors does not fit Sequential"),
        (
            ["--weights", "given.safetensors", "--rewind", "weights"],
            "this run trains no dense network: use --rewind rate",
        ),
        (["--weights", "given.safetensors", "--regularize", "l1:1"], "leave out --regularize or --weights"),
        (["--distill", "0.5", "--temperature", "0"], "--temperature is 0.0; expected a number above 0"),
        (["--divide-by", "0"], "--divide-by is 0.0; expected a number above 0"),
        (["--adjust-dropout"], "has no dropout. Leave the option out"),
        (
            ["--schedule", "linear", "--epochs", "0"],
            "0 epochs of 0 steps in all are too few for the schedule to reach its end",
        ),
    ],
)
def test_mistakes_show_before_a_folder_is_made(options: list[str], words: str) -> None:
    save_weights(tiny().model(), "given.safetensors")
    save_weights(nn.Linear(2, 2), "other.safetensors")
    assert words in refused("prune", *TASK, "--sparsity", "0.8", "--epochs", "1", *options)


@pytest.mark.parametrize(
    "options", [["--distill", "2"], ["--distill", "-1"], ["--accumulate", "0"], ["--epochs", "-1"]]
)
@pytest.mark.parametrize("command", [["prune", *TASK], ["finetune", "one"]])
def test_numbers_out_of_range_are_wrong_usage(command: list[str], options: list[str]) -> None:
    found = call(*command, *options)
    assert found.exit_code == 2
    assert f"'{options[0]}'" in found.stderr


# ------------------------------------------------------------------------------ options of a task

OWN = """
from tests.cli.test_finetune import of_width

def task(network="narrow", data_dir="somewhere"):
    return of_width(network, data_dir)

def other():
    return of_width("narrow", "elsewhere")
"""


def of_width(network: str, data_dir: str) -> Task:
    """A task with two networks, and a folder in its name."""
    hidden = {"narrow": 4, "wide": 9}[network]

    def model() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(36, hidden), nn.ReLU(), nn.Linear(hidden, 2))

    return replace(tiny(), name=f"{network} of {data_dir}", model=model)


def test_network_and_folder_go_to_the_function_of_the_task_and_are_remembered() -> None:
    Path("own.py").write_text(OWN)
    options = ["--task", "own.py:task", "--network", "wide", "--data-dir", "here"]
    first = prune(task=options)
    assert (first["task"], first["weights_total"]) == ("wide of here", 9 * 36 + 2 * 9)
    assert (first["settings"]["network"], first["settings"]["data_dir"]) == ("wide", "here")
    second = results("finetune", "one", "--epochs", "1")
    assert (second["task"], second["weights_total"]) == ("wide of here", 9 * 36 + 2 * 9)
    assert (second["settings"]["network"], second["settings"]["data_dir"]) == ("wide", "here")
    moved = results("finetune", "one", "--epochs", "1", "--data-dir", "there")
    assert moved["task"] == "wide of there"
    assert results("finetune", "runs/finetune-2", "--epochs", "1")["task"] == "wide of there"
    assert prune(task=["--task", "own.py:task"], out="narrow")["task"] == "narrow of somewhere"


def test_the_options_of_one_task_are_not_given_to_another() -> None:
    Path("own.py").write_text(OWN)
    prune(task=["--task", "own.py:task", "--network", "narrow", "--data-dir", "here"])
    second = results("finetune", "one", "--task", "own.py:other", "--epochs", "1")
    assert second["task"] == "narrow of elsewhere"


# -------------------------------------------------------------------------------- as a program


def test_the_package_is_a_program(tmp_path: Path) -> None:
    def program(*arguments: str) -> str:
        command = [sys.executable, "-m", "secateur", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert program("--version") == f"secateur {sc.__version__}\n"
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    program("prune", *TASK, "--sparsity", "0.8", "--epochs", "1", "--out", one)
    found = json.loads(program("finetune", one, "--epochs", "1", "--out", two, "--json"))
    assert len(found["history"]["losses"]) == 2


@pytest.mark.parametrize("command", ["prune", "finetune"])
def test_help_names_the_options_of_recovery(command: str) -> None:
    found = call(command, "--help")
    assert found.exit_code == 0
    for option in (
        "--rewind",
        "--distill",
        "--temperature",
        "--adjust-dropout",
        "--network",
        "--data-dir",
        "--autocast",
        "--accumulate",
    ):
        assert option in found.stdout
