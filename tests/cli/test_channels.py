"""Channels and heads from the command line: budgets, multiples, the smaller model, what is reported of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import secateur as sc
from secateur.cli.main import app
from secateur.cli.names import numbers, resolve
from secateur.cli.options import SCHEDULES, complete
from secateur.reconstruction import reestimate
from secateur.tasks import Task, evaluate, load_task, loader
from secateur.workload import workload

QUICK = ["--dense-epochs", "1", "--allocation", "uniform"]
CHANNEL = ["--granularity", "channel"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def task_named(name: str) -> Task:
    return load_task(f"tests.tiny:{name}")


def prune(*options: str, task: str = "tiny", epochs: int = 1, out: str = "run") -> dict[str, Any]:
    """Results of a run."""
    given = ["prune", "--task", f"tests.tiny:{task}", *QUICK, "--epochs", str(epochs), *options]
    found = call(*given, "--json", "--out", out)
    assert found.exit_code == 0, found.stderr
    return json.loads(found.stdout)  # type: ignore[no-any-return]


def small_model(task: str, out: str = "run") -> torch.nn.Module:
    return sc.restore(f"{out}/small.safetensors", task_named(task).model())


def check_small(results: dict[str, Any], task: str, out: str = "run") -> None:
    """The file is the network whose accuracy and counts are reported."""
    small, example = small_model(task, out), task_named(task).example
    found = workload(small, example)
    assert evaluate(small, task_named(task)) == results["accuracy"]["fine_tuned"]
    assert results["report"]["macs"] == [workload(task_named(task).model(), example).macs, found.macs]
    assert results["report"]["parameters"][1] == found.parameter_count
    # the plan, carried out on what the folder holds in the shapes of the whole network, is that network again
    model = task_named(task).model()
    model.load_state_dict(load_file(f"{out}/weights.safetensors"))
    again = sc.shrink(model, sc.Plan.load(f"{out}/plan.safetensors"), prove=False).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in small.state_dict().items())


SCHEDULED = [[], ["--schedule", "cubic"], ["--schedule", "iterative:0.25,0.5"]]
ROUNDS = ["--schedule", "iterative:0.25,0.5", "--rewind", "rate"]


@pytest.mark.parametrize("schedule", [*SCHEDULED, ROUNDS, [*ROUNDS[:3], "weights"], ["--rewind", "weights"]])
@pytest.mark.parametrize("measure", ["macs", "parameters"])
def test_a_budget_of_macs_or_parameters_is_kept_along_every_schedule(measure: str, schedule: list[str]) -> None:
    results = prune(*CHANNEL, f"--{measure}", "0.5", *schedule)
    before, after = results["report"][measure]
    assert after <= 0.5 * before
    check_small(results, "tiny")


def test_rounds_name_what_is_gone_of_the_multiply_accumulates() -> None:
    """After the round that ends with a quarter gone, no more than three quarters are left, and more than half."""
    prune(*CHANNEL, "--macs", "0.5", *ROUNDS, out="both")
    results = prune(*CHANNEL, "--macs", "0.75", "--schedule", "iterative:0.25", "--rewind", "rate", out="first")
    before, after = results["report"]["macs"]
    assert 0.5 * before < after <= 0.75 * before
    one, both = (sc.Plan.load(f"{name}/plan.safetensors") for name in ("first", "both"))
    for first, last in zip(one.parts, both.parts, strict=True):
        assert not bool((last.keep & ~first.keep).any())


@pytest.mark.parametrize("options", [["--weights-removed", "0.4"], ["--nonzeros", "300"], ["--per-group", "0=0.5"]])
def test_other_budgets_take_channels_too(options: list[str]) -> None:
    check_small(prune(*CHANNEL, *options), "tiny")


def test_rounds_of_weights_removed() -> None:
    results = prune("--weights-removed", "0.5", "--schedule", "iterative:0.25,0.5")
    assert results["weights_left"] <= 0.5 * results["weights_total"]


@pytest.mark.parametrize("multiple", [2, 4])
def test_channels_stay_in_multiples_and_in_a_number(multiple: int) -> None:
    results = prune(*CHANNEL, "--macs", "0.7", "--round-to", str(multiple), "--min-channels", "2")
    free = [part for part in sc.Plan.load("run/plan.safetensors").parts if not part.units.frozen]
    assert {part.kept % multiple for part in free} == {0}
    assert min(part.kept for part in free) >= 2
    assert any(part.sparsity for part in free)
    check_small(results, "tiny")
    by_name = prune(*CHANNEL, "--macs", "0.6", "--round-to", f"2={multiple}", "--min-channels", "0=3", out="named")
    plan = sc.Plan.load("named/plan.safetensors")
    assert plan["2"].kept % multiple == 0
    assert plan["0"].kept >= 3
    assert by_name["settings"]["round_to"] == [f"2={multiple}"]


def test_heads_leave_whole() -> None:
    results = prune("--granularity", "head", "--sparsity", "0.5", task="attentive")
    assert small_model("attentive").qkv.out_features == 3 * 2 * 2
    check_small(results, "attentive")
    prune("--granularity", "head", "--sparsity", "0.25", "--min-channels", "3", task="attentive", out="more")
    assert small_model("attentive", "more").qkv.out_features == 3 * 3 * 2


@pytest.mark.parametrize("schedule", [[], ROUNDS])
def test_across_norms_the_network_that_is_trained_is_the_smaller_one(schedule: list[str]) -> None:
    results = prune(*CHANNEL, "--cross-norms", "--sparsity", "0.5", *schedule, task="attentive", epochs=1)
    assert small_model("attentive").embed.out_features == 4
    check_small(results, "attentive")
    again = call("finetune", "run", "--epochs", "1", "--json", "--out", "on")
    assert again.exit_code == 0, again.stderr
    on = json.loads(again.stdout)
    assert on["before"] == results["accuracy"]["fine_tuned"]
    check_small(on, "attentive", "on")


def test_statistics_of_batch_norms_are_measured_again_and_both_accuracies_told() -> None:
    results = prune(*CHANNEL, "--sparsity", "0.5", task="normed", epochs=0)
    accuracy = results["accuracy"]
    assert list(accuracy) == ["dense", "pruned_only", "reestimated", "fine_tuned"]
    assert accuracy["fine_tuned"] == accuracy["reestimated"]
    check_small(results, "normed")
    task, plan = task_named("normed"), sc.Plan.load("run/plan.safetensors")
    dense = task.model()
    dense.load_state_dict(load_file("run/dense.safetensors"))
    small = sc.shrink(dense, plan, example=task.example)
    assert evaluate(small, task) == accuracy["pruned_only"]
    again = reestimate(small, loader(task, seed=0)).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in small_model("normed").state_dict().items())
    shown = call("report", "run").stdout
    assert "pruning, batch norms measured again" in shown


def test_statistics_are_left_as_they_are_where_that_is_asked_or_there_are_none() -> None:
    left = prune(*CHANNEL, "--sparsity", "0.5", "--no-reestimate", task="normed", epochs=0)
    assert "reestimated" not in left["accuracy"]
    assert left["accuracy"]["fine_tuned"] == left["accuracy"]["pruned_only"]
    assert "reestimated" not in prune(*CHANNEL, "--sparsity", "0.5", out="none")["accuracy"]


def test_single_weights_have_their_batch_norms_measured_again_too() -> None:
    results = prune("--sparsity", "0.5", task="normed", epochs=0)
    assert results["accuracy"]["fine_tuned"] == results["accuracy"]["reestimated"]
    assert "report" not in results
    assert not Path("run/small.safetensors").exists()


def test_the_report_is_shown_again_and_names_what_was_measured() -> None:
    results = prune(*CHANNEL, "--macs", "0.5")
    assert [row["batch"] for row in results["report"]["latency"]] == [1, 64]
    assert all(row["before"] > 0 and row["after"] > 0 and row["pairs"] >= 3 for row in results["report"]["latency"])
    assert "thread" in results["report"]["device"]
    shown = call("report", "run", "--out", "elsewhere.html")
    assert shown.exit_code == 0, shown.stderr
    assert "multiply-accumulates" in shown.stdout
    assert "whole / smaller" in shown.stdout
    assert "smaller model: run/small.safetensors" in shown.stdout
    assert "run: run\npage: elsewhere.html" in shown.stdout
    assert "The smaller model" in Path("elsewhere.html").read_text()
    assert json.loads(call("report", "run", "--json").stdout) == results


def test_a_finished_run_is_shown_and_not_measured_again() -> None:
    results = prune(*CHANNEL, "--macs", "0.5")
    assert prune(*CHANNEL, "--macs", "0.5", "--resume") == results


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--macs", "0.5"], "needs channels coupled across the layers of Sequential"),
        (["--granularity", "filter", "--parameters", "0.5"], "use granularity.channel(example)"),
        ([*CHANNEL, "--macs", "1.5"], "macs is the fraction that may stay, 0 < f <= 1"),
        ([*CHANNEL, "--macs", "0.0001"], "cannot be met"),
        ([*CHANNEL, "--macs", "0.5", "--sparsity", "0.5"], "exactly one measure"),
        ([*CHANNEL, "--macs", "0.5", "--schedule", "iterative:0.5,0.8"], "--macs 0.5 asks for 0.5: end them with 0.5"),
        ([*CHANNEL, "--nonzeros", "300", "--schedule", "iterative:0.5,0.8"], "leave the budget out"),
        (["--sparsity", "0.5", "--round-to", "8"], "--round-to goes with --granularity channel; given: weight"),
        (["-g", "head", "--sparsity", "0.5", "--round-to", "8"], "--round-to goes with --granularity channel"),
        (["-g", "filter", "--sparsity", "0.5", "--min-channels", "8"], "--granularity channel or head; given: filter"),
        (["-g", "2:4", "--cross-norms"], "--cross-norms goes with --granularity channel; given: pattern"),
        ([*CHANNEL, "--sparsity", "0.5", "--round-to", "0"], "--round-to takes one whole number, e.g. 8"),
        ([*CHANNEL, "--sparsity", "0.5", "--round-to", "8", "--round-to", "4"], "--round-to takes one whole number"),
        ([*CHANNEL, "--sparsity", "0.5", "--round-to", "9=4"], "no group is named '9'"),
        ([*CHANNEL, "--sparsity", "0.5", "--minimum", "8"], "channels that stay are --min-channels 8"),
        (["-g", "head", "--sparsity", "0.5"], "every group is excluded or frozen"),
    ],
)
def test_mistakes_show_before_any_training(options: list[str], words: str) -> None:
    found = call("prune", "--task", "tests.tiny:tiny", *options, "--json")
    assert found.exit_code == 1
    assert words in json.loads(found.stdout)["error"]["message"]
    assert not Path("runs").exists()


@pytest.mark.parametrize("schedule", ["cubic", "linear", "iterative:0.2,0.5"])
def test_across_norms_nothing_is_trained_masked(schedule: str) -> None:
    options = [*CHANNEL, "--cross-norms", "--schedule", schedule]
    budget = [] if ":" in schedule else ["--sparsity", "0.5"]
    found = call("prune", "--task", "tests.tiny:attentive", *options, *budget, "--json")
    assert found.exit_code == 1
    assert "Use one_shot, or iterative with --rewind rate" in json.loads(found.stdout)["error"]["message"]
    assert not Path("runs").exists()


def test_granularities_take_their_options() -> None:
    options = {"--round-to": 8, "--min-channels": {"fc": 4}, "--cross-norms": True}
    made = resolve("granularity", "channel", torch.zeros(1, 2), options)
    assert repr(made) == "channel(round_to=8, minimum={'fc': 4}, cross_norms=True)"
    assert repr(resolve("granularity", "head", torch.zeros(1, 2), {"--min-channels": 2})) == "head(minimum=2)"


@pytest.mark.parametrize("texts", [["-1"], ["1.5"], ["fc="], ["=8"], ["fc=x"], ["8", "fc=4"], [""]])
def test_numbers_that_are_none_are_refused(texts: list[str]) -> None:
    with pytest.raises(sc.SecateurError, match="takes one whole number"):
        numbers("--round-to", texts)


def test_values_are_completed() -> None:
    assert complete("granularity")("h") == ["head"]
    assert complete("granularity")("ch") == ["channel"]
    assert complete("schedule")("it") == ["iterative:"]
    from secateur.workflow.recovery import SCHEDULES as THERE_ARE

    assert tuple(name.rstrip(":") for name in SCHEDULES) == THERE_ARE


def test_help_tells_of_channels() -> None:
    shown = call("prune", "--help").stdout
    for option in ("--macs", "--parameters", "--round-to", "--min-channels", "--cross-norms", "--no-reestimate"):
        assert option in shown
