import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import secateur as sc
from secateur.cli.main import app, default_folder
from secateur.cli.names import factories, pairs, resolve
from secateur.tasks import evaluate, load_task

TASK = ["--task", "tests.tiny:tiny"]


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("kind", "text", "name"),
    [
        ("granularity", "weight", "weight"),
        ("granularity", "2:4", "pattern(2, 4)"),
        ("granularity", "pattern:1:4", "pattern(1, 4)"),
        ("granularity", "block:4x1", "block(4, 1)"),
        ("granularity", "block:32,32", "block(32, 32)"),
        ("granularity", "vector:column", "vector(column)"),
        ("granularity", "input-channel", "input_channel"),
        ("granularity", "kernel_pattern", "kernel_pattern(8 patterns)"),
        ("criterion", "magnitude:1", "magnitude(p=1)"),
        ("criterion", "random:7", "random(seed=7)"),
        ("allocation", "global", "global"),
        ("allocation", "erdos_renyi:false", "erdos_renyi(kernel=False)"),
    ],
)
def test_names_stand_for_values(kind: str, text: str, name: str) -> None:
    assert repr(resolve(kind, text)) == name


def test_names_and_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(sc.UnknownNameError, match="nearest: filter"):
        resolve("granularity", "filtre")
    with pytest.raises(sc.SecateurError, match="used as block:ROWS:COLUMNS"):
        resolve("granularity", "block:4")
    with pytest.raises(sc.SecateurError, match="numbers are expected"):
        resolve("criterion", "magnitude:two")
    with pytest.raises(sc.SecateurError, match="NAME=NUMBER"):
        pairs("--maximum", ["conv1"])


def test_help_does_not_wait_for_torch() -> None:
    check = "import sys; from secateur.cli.main import app; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("command", [[], ["demo"], ["prune"], ["report"], ["list"]])
def test_every_command_explains_itself(command: list[str]) -> None:
    found = call(*command, "--help")
    assert found.exit_code == 0
    assert "Usage" in found.stdout


def test_list_names_everything_there_is() -> None:
    found = json.loads(call("list", "--json").stdout)
    assert set(found) == {"granularity", "criterion", "allocation", "schedule", "task"}
    for kind in ("granularity", "criterion", "allocation"):
        assert {entry.partition(":")[0] for entry in found[kind]} == set(factories(kind))
        assert all(words for words in found[kind].values())
    assert call("list").exit_code == 0


def test_prune_prints_its_results_for_machines_alone() -> None:
    found = call("prune", *TASK, "--sparsity", "0.7", "--epochs", "1", "--json")
    assert found.exit_code == 0, found.stderr
    results = json.loads(found.stdout)
    assert results["sparsity"] == pytest.approx(0.7, abs=0.01)
    assert Path("runs/prune/report.html").stat().st_size > 1000
    assert json.loads(Path("runs/prune/results.json").read_text()) == results
    again = call("prune", *TASK, "--sparsity", "0.7", "--epochs", "1", "--json", "--resume")
    assert json.loads(again.stdout) == results
    assert "finished before" in again.stderr
    shown = call("report", "runs/prune")
    assert shown.exit_code == 0
    assert "report.html" in shown.stdout


@pytest.mark.parametrize(
    "options",
    [
        ["--granularity", "2:4"],
        ["--granularity", "filter", "--exclude", "5", "--allocation", "uniform", "--sparsity", "0.5"],
        ["--schedule", "iterative:0.3,0.6"],
        ["--schedule", "cubic", "--nonzeros", "200"],
        ["--per-group", "5=0.5", "--criterion", "magnitude:1", "--normalize", "mean"],
        ["--weights-removed", "0.5", "--minimum", "0=0.2", "--maximum", "5=0.6"],
    ],
)
def test_prune_understands_its_options(options: list[str]) -> None:
    found = call("prune", *TASK, *options, "--epochs", "1", "--dense-epochs", "1", "--out", "run")
    assert found.exit_code == 0, found.stderr
    assert Path("run/plan.safetensors").exists()


@pytest.mark.parametrize(
    ("method", "granularity"), [("lasso", "channel"), ("thinet", "input-channel"), ("sparsegpt", "2:4")]
)
def test_methods_that_choose_and_mend(method: str, granularity: str) -> None:
    budget = [] if granularity == "2:4" else ["--sparsity", "0.5"]
    options = ["--criterion", method, "--granularity", granularity, *budget, "--dense-epochs", "1", "--epochs", "1"]
    found = call("prune", *TASK, *options, "--out", "run")
    assert found.exit_code == 0, found.stderr
    plan = sc.Plan.load(Path("run/plan.safetensors"))
    assert plan.updates
    assert plan.made_by["allocation"] == "uniform"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--schedule", "cubic"], "one_shot, or iterative"),
        (["--normalize", "mean"], "gives none"),
        (["--allocation", "global"], "uniform"),
    ],
)
def test_what_methods_that_mend_cannot_do_is_told_before_training(options: list[str], said: str) -> None:
    asked = ["--criterion", "lasso", "--granularity", "channel", "--sparsity", "0.5"]
    found = call("prune", *TASK, *asked, *options, "--out", "run")
    assert found.exit_code == 1
    assert said in found.stderr
    assert "training" not in found.stdout


def test_channels_leave_a_smaller_model() -> None:
    options = ["--granularity", "channel", "--allocation", "uniform", "--sparsity", "0.5", "--dense-epochs", "1"]
    found = call("prune", *TASK, *options, "--epochs", "1", "--json", "--out", "run")
    assert found.exit_code == 0, found.stderr
    results = json.loads(found.stdout)
    before, after = results["report"]["parameters"]
    assert after < before
    task = load_task(TASK[1])
    small = sc.restore("run/small.safetensors", task.model())
    assert evaluate(small, task) == results["accuracy"]["fine_tuned"]
    told = call("prune", *TASK, *options, "--epochs", "1", "--out", "run", "--resume")
    assert "smaller model: run/small.safetensors" in told.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--granularity", "filtre", "--sparsity", "0.5"], "nearest: filter"),
        (["--sparsity", "1.5"], "0 <= s < 1"),
        ([], "how much is to go?"),
        (["--sparsity", "0.5", "--exclude", "fc9"], "no group is named 'fc9'"),
        (["--sparsity", "0.5", "--nonzeros", "5"], "exactly one measure"),
        (["--schedule", "iterative:0.5,0.2"], "rising sparsities"),
        (["--schedule", "iterative:0.2,0.5", "--sparsity", "0.9"], "leave the budget out"),
        (["--schedule", "sometimes", "--sparsity", "0.5"], "no schedule is named"),
        (["--granularity", "2:4", "--sparsity", "0.9"], "pattern"),
    ],
)
def test_mistakes_show_before_any_training(options: list[str], words: str) -> None:
    found = call("prune", *TASK, *options, "--json")
    assert found.exit_code == 1
    assert words in json.loads(found.stdout)["error"]["message"]
    assert words in " ".join(found.stderr.split())
    assert not Path("runs").exists()


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import secateur.cli.run as commands

    def stopped(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(commands, "prune_task", stopped)
        found = call("prune", *TASK, "--sparsity", "0.5", "--out", "run")
    assert found.exit_code == 130
    assert "--resume" in found.stderr
    unfinished = call("report", "run")
    assert unfinished.exit_code == 1
    assert "not finished" in unfinished.stderr


def test_a_folder_in_use_is_refused_and_new_runs_get_new_folders() -> None:
    assert default_folder("prune", resume=False) == default_folder("prune", resume=True) == Path("runs/prune")
    Path("runs/prune").mkdir(parents=True)
    Path("runs/prune-2").mkdir()
    assert default_folder("prune", resume=False) == Path("runs/prune-3")
    assert default_folder("prune", resume=True) == Path("runs/prune-2")
    Path("runs/prune/notes").write_text("")
    found = call("prune", *TASK, "--sparsity", "0.5", "--out", "runs/prune")
    assert found.exit_code == 1
    assert "holds no run" in " ".join(found.stderr.split())


def test_demo_prints_the_curves() -> None:
    found = call("demo", *TASK, "--seeds", "1", "--epochs", "1", "--json")
    assert found.exit_code == 0, found.stderr
    results = json.loads(found.stdout)
    assert set(results["curves"]["iterative"]) >= {"sparsity", "accuracy"}
    assert call("demo", "--version").exit_code == 2
