"""A pruned network trained on: from the folder of one run into another, zeros held."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import secateur as sc
from secateur.tasks import Task, evaluate, loader
from secateur.training import distill, finetune
from secateur.weights import load_weights
from secateur.workflow import (
    Demo,
    Dense,
    FinetuneJob,
    Numerics,
    Recovery,
    earlier_run,
    finetune_task,
    open_run,
    run_demo,
)
from tests.runs import bits
from tests.small import pruner, same_masks
from tests.tiny import augmented, tiny
from tests.workflow.spying import STEPS, Spy, job, measured, run


def pruned(path: Path, recovery: Recovery | None = None, task: Task | None = None, **more: Any) -> dict[str, Any]:
    """A finished run and its results."""
    results = run(path, job(recovery or Recovery(epochs=2), **more), task or augmented())
    (path / "results.json").write_text(json.dumps(results))
    return results


def on(
    path: Path,
    before: Path,
    recovery: Recovery | None = None,
    task: Task | None = None,
    *,
    resume: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Train the network of a run on."""
    asked = FinetuneJob(before, recovery or Recovery(epochs=2), **more)
    folder = open_run(path, {"b": 2}, resume=resume)
    results = finetune_task(task or augmented(), asked, folder, say=lambda _: None, progress=False)
    folder.write_json("results.json", results)
    return results


def network(path: Path, file: str = "weights.safetensors") -> nn.Module:
    model = tiny().model()
    load_weights(model, path / file)
    return model


def test_the_network_is_trained_on_with_its_zeros_held(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    first = pruned(one)
    before = {file.name: file.read_bytes() for file in one.iterdir() if file.is_file()}
    spy = Spy(augmented())
    second = on(two, one, task=spy.spied())
    plan = sc.Plan.load(two / "plan.safetensors")
    assert same_masks(plan, sc.Plan.load(one / "plan.safetensors"))
    left = load_file(two / "weights.safetensors")
    assert all(not bool(left[name][~mask].any()) for name, mask in plan.masks().items())
    assert bits(spy.first[0]) == bits(load_file(one / "weights.safetensors"))
    assert bits(left) != bits(load_file(one / "weights.safetensors"))
    assert bits(load_file(two / "dense.safetensors")) == bits(load_file(one / "dense.safetensors"))
    assert {file.name: file.read_bytes() for file in one.iterdir() if file.is_file()} == before  # it is only read
    assert second["before"] == first["accuracy"]["fine_tuned"]
    assert second["accuracy"] == {**first["accuracy"], "fine_tuned": evaluate(network(two), tiny())}
    assert second["weights_left"] == first["weights_left"] == plan.nonzeros
    assert (second["kind"], second["seeds"], second["dense_epochs"]) == ("prune", [0], 3)


def test_the_history_is_that_of_both_runs(tmp_path: Path) -> None:
    first = pruned(tmp_path / "one", Recovery("cubic", epochs=2))
    second = on(tmp_path / "two", tmp_path / "one", Recovery(epochs=3))
    third = on(tmp_path / "three", tmp_path / "two", Recovery(epochs=1))
    for key in ("losses", "validation", "sparsity"):
        assert second["history"][key][:2] == first["history"][key]
        assert third["history"][key][:5] == second["history"][key]
        assert [len(results["history"][key]) for results in (first, second, third)] == [2, 5, 6]
    assert first["history"]["sparsity"][0] < first["history"]["sparsity"][1]
    assert third["history"]["sparsity"][1:] == [first["sparsity"]] * 5
    assert third["before"] == second["accuracy"]["fine_tuned"]


def test_no_epochs_leave_the_network_as_it_is(tmp_path: Path) -> None:
    first = pruned(tmp_path / "one")
    second = on(tmp_path / "two", tmp_path / "one", Recovery(epochs=0))
    assert bits(load_file(tmp_path / "two" / "weights.safetensors")) == bits(
        load_file(tmp_path / "one" / "weights.safetensors")
    )
    for key in ("accuracy", "history", "layers", "weights", "sizes", "sparsity"):
        assert second[key] == first[key]


def test_it_is_finetune_by_hand_with_the_dense_network_as_teacher(tmp_path: Path) -> None:
    task = augmented()
    pruned(tmp_path / "one")
    on(tmp_path / "two", tmp_path / "one", Recovery(epochs=1, distill=0.5, temperature=2, divide_by=4), seed=3)
    model, teacher = network(tmp_path / "one"), network(tmp_path / "one", "dense.safetensors")
    taught, loss = distill(teacher, loader(task, seed=3), task.loss, weight=0.5, temperature=2)
    plan = sc.Plan.load(tmp_path / "one" / "plan.safetensors")
    finetune(model, taught, loss, learning_rate=task.learning_rate, divide_by=4, epochs=1, plan=plan)
    assert bits(load_file(tmp_path / "two" / "weights.safetensors")) == bits(dict(model.state_dict()))


@pytest.mark.parametrize("between", [False, True])
def test_a_rewound_rate_is_that_of_the_dense_training_of_the_first_run(tmp_path: Path, between: bool) -> None:
    first, second = Spy(augmented()), Spy(augmented())
    pruned(tmp_path / "one", Recovery(epochs=1), first.spied(), dense=Dense(4))
    last = tmp_path / "one"
    if between:
        on(tmp_path / "two", last, Recovery(epochs=1))
        last = tmp_path / "two"
    on(tmp_path / "three", last, Recovery(epochs=3, rewind="rate"), second.spied())
    assert second.rates == [first.rates[0][-3 * STEPS :]]
    assert len(set(second.rates[0])) == 3 * STEPS


def test_numerics_are_passed_on(tmp_path: Path) -> None:
    pruned(tmp_path / "one")
    spy = Spy(augmented())
    on(tmp_path / "two", tmp_path / "one", task=spy.spied(), numerics=Numerics(autocast=torch.bfloat16, accumulate=3))
    assert spy.kinds == [{torch.bfloat16}]
    assert len(spy.rates[0]) == 2 * 2  # epochs, and in each three batches and the one left over


def test_what_a_plan_mended_is_not_put_back_after_training(tmp_path: Path) -> None:
    def refit(model: nn.Module, _plan: sc.Plan, _data: Any) -> dict[str, Tensor]:
        return {"5.bias": torch.full((2,), 3.0)}

    asked = job(Recovery(epochs=2))
    asked = replace(asked, pruner=replace(asked.pruner, refit=refit))
    results = run(tmp_path / "one", asked, augmented())
    (tmp_path / "one" / "results.json").write_text(json.dumps(results))
    trained = load_file(tmp_path / "one" / "weights.safetensors")
    assert trained["5.bias"].tolist() != [3, 3]
    spy = Spy(augmented())
    on(tmp_path / "two", tmp_path / "one", task=spy.spied())
    assert bits(spy.first[0]) == bits(trained)
    assert sc.Plan.load(tmp_path / "two" / "plan.safetensors").updates.keys() == {"5.bias"}


def test_all_training_draws_from_a_seeded_generator_and_leaves_the_global_one(tmp_path: Path) -> None:
    task, seeds = augmented(), []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        seeds.append(torch.initial_seed())
        return task.loss(outputs, targets)

    before = torch.get_rng_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        pruned(tmp_path / "one", task=replace(task, loss=loss), seed=7)
        on(tmp_path / "two", tmp_path / "one", task=replace(task, loss=loss), seed=8)
        assert torch.initial_seed() == 99
    assert seeds == [7] * (5 * STEPS) + [8] * (2 * STEPS)
    assert torch.equal(torch.get_rng_state(), before)


class Stopped(Exception):  # noqa: N818  not an error: the end of a run, at the will of a test
    """Raised to end a run early."""


@pytest.mark.parametrize("recovery", [Recovery(epochs=3), Recovery(epochs=3, rewind="rate", distill=0.5)])
@pytest.mark.parametrize("after", [0, STEPS + 1, 3 * STEPS - 1])
def test_a_run_that_stopped_goes_on_to_the_same_bits(tmp_path: Path, recovery: Recovery, after: int) -> None:
    pruned(tmp_path / "one")
    whole = measured(on(tmp_path / "whole", tmp_path / "one", recovery))
    task, left = augmented(), [after]

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        if not left[0]:
            raise Stopped
        left[0] -= 1
        return task.loss(outputs, targets)

    with pytest.raises(Stopped):
        on(tmp_path / "two", tmp_path / "one", recovery, replace(task, loss=loss))
    left[0] = 3 * STEPS
    assert measured(on(tmp_path / "two", tmp_path / "one", recovery, replace(task, loss=loss), resume=True)) == whole
    assert left[0] == after // STEPS * STEPS  # epochs that were over are not gone through again
    for name in ("dense.safetensors", "plan.safetensors", "weights.safetensors"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


# ---------------------------------------------------------------------------------------- refusals


def test_runs_that_hold_no_pruned_network_are_refused(tmp_path: Path) -> None:
    folder = open_run(tmp_path / "demo", {}, resume=False)
    shown = run_demo(Demo(tiny(), (0,), (0.5,), 1, 1), folder, say=lambda _: None, progress=False)
    folder.write_json("results.json", shown)
    with pytest.raises(sc.RunError, match=r"demo holds a run of 'demo'; expected one of secateur prune or finetune"):
        on(tmp_path / "two", tmp_path / "demo")
    open_run(tmp_path / "begun", {}, resume=False)
    with pytest.raises(sc.RunError, match="begun is not finished: go on with it by the same command and --resume"):
        on(tmp_path / "three", tmp_path / "begun")
    with pytest.raises(
        sc.RunError, match=r"nowhere holds no run that can be read .*: give the folder that --out named"
    ):
        on(tmp_path / "four", tmp_path / "nowhere")


def test_a_damaged_run_is_refused(tmp_path: Path) -> None:
    results = pruned(tmp_path / "one")
    for name, words in (("dense", "cannot be read"), ("weights", "cannot be read"), ("plan", "the plan was not read")):
        file = tmp_path / "one" / f"{name}.safetensors"
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(sc.SecateurError, match=words):
            on(tmp_path / f"without {name}", tmp_path / "one")
        file.write_bytes(content)
    del results["history"]
    (tmp_path / "one" / "results.json").write_text(json.dumps(results))
    with pytest.raises(sc.RunError, match=r"one/results\.json lacks \['history'\]: remove it and make it anew"):
        on(tmp_path / "two", tmp_path / "one")


def test_another_task_is_refused(tmp_path: Path) -> None:
    pruned(tmp_path / "one")
    other = replace(tiny(), model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 2)))
    with pytest.raises(sc.ModelError, match=r"dense\.safetensors does not fit Sequential"):
        on(tmp_path / "two", tmp_path / "one", task=other)


def test_a_plan_of_another_network_is_refused_before_it_is_measured(tmp_path: Path) -> None:
    pruned(tmp_path / "one")
    pruner().plan(nn.Linear(4, 2), sc.Budget(sparsity=0.5)).save(tmp_path / "one" / "plan.safetensors")
    with pytest.raises(sc.PlanError, match="was it made for another model"):
        earlier_run(tiny(), FinetuneJob(tmp_path / "one", Recovery(epochs=1)))


@pytest.mark.parametrize(
    ("recovery", "words"),
    [
        (Recovery(epochs=1, rewind="weights"), "trains no dense network: use --rewind rate"),
        (Recovery(epochs=4, rewind="rate"), "dense training has 3. Lower --epochs to 3 or less"),
        (Recovery(epochs=1, divide_by=-1), "--divide-by is -1"),
    ],
)
def test_recoveries_that_do_not_fit_are_refused(tmp_path: Path, recovery: Recovery, words: str) -> None:
    pruned(tmp_path / "one")
    with pytest.raises(sc.RunError, match=words):
        on(tmp_path / "two", tmp_path / "one", recovery)
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["run.json"]
