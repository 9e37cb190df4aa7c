import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.tasks import evaluate
from secateur.workflow import (
    Demo,
    PruneJob,
    Recovery,
    demo,
    open_run,
    prune,
    prune_task,
    read_results,
    read_run,
    run_demo,
)
from tests.tiny import tiny


def silent(_: str) -> None:
    """Says nothing."""


def job(**more: Any) -> PruneJob:
    pruner = sc.Pruner(criteria.magnitude(), granularity.weight(), allocation.global_())
    return PruneJob(pruner, sc.Budget(sparsity=0.8), Recovery(**{"epochs": 2, **more}))


def run(path: Path, asked: PruneJob, *, resume: bool = False) -> dict[str, Any]:
    return prune_task(tiny(), asked, open_run(path, {"a": 1}, resume=resume), say=silent, progress=False)


def without_time(results: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in results.items() if key not in ("seconds", "created")}


@pytest.mark.parametrize(
    ("schedule", "levels"), [("one_shot", ()), ("linear", ()), ("cubic", ()), ("iterative", (0.5, 0.8))]
)
def test_a_run_leaves_what_it_reports(tmp_path: Path, schedule: str, levels: tuple[float, ...]) -> None:
    results = run(tmp_path / "run", job(schedule=schedule, levels=levels))
    plan = sc.Plan.load(tmp_path / "run" / "plan.safetensors")
    model = tiny().model()
    model.load_state_dict(load_file(tmp_path / "run" / "weights.safetensors"))
    assert evaluate(model, tiny()) == results["accuracy"]["fine_tuned"]
    assert plan.sparsity == pytest.approx(0.8, abs=1 / plan.weights)
    for name, mask in plan.masks().items():
        assert not bool(model.get_parameter(name)[~mask].any())
    model.load_state_dict(load_file(tmp_path / "run" / "dense.safetensors"))
    assert evaluate(model, tiny()) == results["accuracy"]["dense"]
    assert results["weights_left"] == plan.nonzeros
    assert len(results["history"]["losses"]) == 2 * max(1, len(levels))
    json.dumps(results)


@pytest.mark.parametrize("schedule", ["one_shot", "cubic"])
@pytest.mark.parametrize("stop", ["first_plan", "recover", "save_weights", "sizes"])
def test_a_run_that_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str, stop: str) -> None:
    whole = run(tmp_path / "whole", job(schedule=schedule))

    def stopped(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(prune, stop, stopped)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", job(schedule=schedule))
    assert without_time(run(tmp_path / "run", job(schedule=schedule), resume=True)) == without_time(whole)


def test_too_few_epochs_for_a_schedule_are_said(tmp_path: Path) -> None:
    with pytest.raises(sc.RunError, match="too few for the schedule"):
        run(tmp_path / "run", job(schedule="cubic", epochs=0))


def small_demo() -> Demo:
    return Demo(tiny(), seeds=(0, 1), levels=(0.5, 0.9), epochs=1, dense_epochs=1)


def test_the_demonstration_measures_everything(tmp_path: Path) -> None:
    results = run_demo(small_demo(), open_run(tmp_path / "demo", {}, resume=False), say=silent, progress=False)
    assert set(results["curves"]) == {"pruned_only", "fine_tuned", "iterative"}
    for curve in results["curves"].values():
        assert curve["sparsity"] == [0.5, 0.9]
        assert curve["accuracy"] == [sum(pair) / 2 for pair in zip(*curve["each"], strict=True)]
        assert all(0 <= value <= 1 for value in curve["accuracy"])
    assert len(results["granularities"]) == 10
    # At least what was asked, at most one unit more: the largest is a block of 16 of 288 weights.
    assert all(0.75 <= row["weights_removed"] < 0.75 + 16 / 288 for row in results["granularities"])
    assert {row["name"] for row in results["sizes"]} >= {"dense, float32", "pruned, CSR"}
    plan = sc.Plan.load(tmp_path / "demo" / "plan.safetensors")
    weights = load_file(tmp_path / "demo" / "weights.safetensors")
    for name, mask in plan.masks().items():
        assert torch.equal(weights[name] != 0, mask)


@pytest.mark.parametrize("stop", ["fine_tuned", "_compare", "_shown"])
def test_the_demonstration_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str) -> None:
    whole = run_demo(small_demo(), open_run(tmp_path / "whole", {}, resume=False), say=silent, progress=False)
    calls = []
    original = getattr(demo, stop)

    def stopped(*args: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == (4 if stop == "fine_tuned" else 1):
            raise KeyboardInterrupt
        return original(*args, **named)

    with monkeypatch.context() as patched:
        patched.setattr(demo, stop, stopped)
        with pytest.raises(KeyboardInterrupt):
            run_demo(small_demo(), open_run(tmp_path / "demo", {}, resume=False), say=silent, progress=False)
    again = run_demo(small_demo(), open_run(tmp_path / "demo", {}, resume=True), say=silent, progress=False)
    assert without_time(again) == without_time(whole)


def test_a_folder_remembers_and_drops_a_line_that_was_cut(tmp_path: Path) -> None:
    folder = open_run(tmp_path / "run", {"sparsity": 0.5}, resume=False)
    assert folder.once("a", lambda: 1) == 1
    assert folder.once("a", lambda: 2) == 1
    assert folder.once("b", lambda: {"x": [1.5]}) == {"x": [1.5]}
    journal = tmp_path / "run" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-4])
    again = open_run(tmp_path / "run", {"sparsity": 0.5}, resume=True)
    assert again.known == {"a": 1}
    assert again.once("b", lambda: 3) == 3
    assert open_run(tmp_path / "run", {"sparsity": 0.5}, resume=True).known == {"a": 1, "b": 3}


def test_folders_in_no_state_to_go_on_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    open_run(path, {"sparsity": 0.5}, resume=False)
    with pytest.raises(sc.RunError, match="already holds a run"):
        open_run(path, {"sparsity": 0.5}, resume=False)
    with pytest.raises(sc.RunError, match=r"sparsity was 0\.5, now 0\.6"):
        open_run(path, {"sparsity": 0.6}, resume=True)
    with pytest.raises(sc.RunError, match="is not finished"):
        read_results(path)
    described = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**described, "version": 99}))
    with pytest.raises(sc.RunError, match="of version 99; this secateur reads version 1"):
        open_run(path, {"sparsity": 0.5}, resume=True)
    (path / "run.json").write_text("{}")
    with pytest.raises(sc.RunError, match="was not written by secateur"):
        read_run(path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    with pytest.raises(sc.RunError, match="is not empty and holds no run"):
        open_run(tmp_path / "other", {}, resume=True)
    with pytest.raises(sc.RunError, match="holds no run that can be read"):
        read_run(tmp_path / "nowhere")
