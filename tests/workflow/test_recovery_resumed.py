"""What recovery refuses, how it goes on, and its small parts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import secateur as sc
from secateur.tasks import Task
from secateur.training import History, l1
from secateur.weights import save_weights
from secateur.workflow import Dense, Numerics, PruneJob, Recovery, open_run
from secateur.workflow.recovery import check, joined, note_sparsity, schedule_for
from tests.small import pruner
from tests.tiny import augmented, tiny
from tests.workflow.spying import LEFT, STEPS, Spy, job, measured, run

# ---------------------------------------------------------------------------------------- resuming


class Stopped(Exception):  # noqa: N818  not an error: the end of a run, at the will of a test
    """Raised to end a run early."""


def stopping(task: Task, after: int) -> Task:
    """The task, whose loss gives up after so many batches."""
    left = [after]

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped
        return task.loss(outputs, targets)

    return replace(task, loss=loss)


RECOVERIES: dict[str, Callable[[Path], PruneJob]] = {
    "rewound rate": lambda _: job(Recovery(epochs=2, rewind="rate")),
    "rewound weights": lambda _: job(Recovery(epochs=2, rewind="weights")),
    "rounds, rewound rate": lambda _: job(Recovery("iterative", (0.5, 0.8), epochs=2, rewind="rate")),
    "rounds, rewound weights": lambda _: job(Recovery("iterative", (0.5, 0.8), epochs=2, rewind="weights")),
    "cubic, distilled, rewound rate": lambda _: job(Recovery("cubic", epochs=2, distill=0.5, rewind="rate")),
    "penalty": lambda _: job(Recovery(epochs=2), dense=Dense(3, regularizer=l1(1e-3))),
    "given weights": lambda place: job(Recovery(epochs=2), dense=Dense(weights=place / "given.safetensors")),
    "accumulated": lambda _: job(Recovery("cubic", epochs=2), numerics=Numerics(accumulate=3)),
    "autocast": lambda _: job(Recovery(epochs=2, distill=0.5), numerics=Numerics(autocast=torch.bfloat16)),
}


@pytest.mark.parametrize("name", RECOVERIES)
def test_a_run_that_stopped_goes_on_to_the_same_bits(tmp_path: Path, name: str) -> None:
    save_weights(tiny().model(), tmp_path / "given.safetensors")
    asked = RECOVERIES[name](tmp_path)
    whole = measured(run(tmp_path / "whole", asked, augmented()))
    with pytest.raises(Stopped):
        run(tmp_path / "run", asked, stopping(augmented(), STEPS + 2))
    found, stops = None, 0
    while found is None:
        try:
            found = measured(run(tmp_path / "run", asked, stopping(augmented(), STEPS + 2), resume=True))
        except Stopped:
            stops += 1
            assert stops < 20, "it makes no progress"  # each call comes an epoch further
    assert stops >= (0 if name == "given weights" else 2)
    assert found == whole
    for file in LEFT:
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


# ---------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("recovery", "words"),
    [
        (Recovery(rewind="rate", epochs=4), r"4 epochs .* dense training has 3\. Lower --epochs to 3"),
        (Recovery("cubic", rewind="weights", epochs=2), "not along a cubic schedule: use iterative, one_shot, or"),
        (Recovery("linear", rewind="weights", epochs=2), "not along a linear schedule"),
        (Recovery(divide_by=0), "--divide-by is 0; expected a number above 0"),
        (Recovery(divide_by=math.inf), "--divide-by is inf"),
        (Recovery(distill=1.5), "--distill is 1.5; expected a weight from 0 to 1"),
        (Recovery(distill=math.nan), "--distill is nan"),
        (Recovery(distill=0.5, temperature=0), "--temperature is 0; expected a number above 0"),
        (
            Recovery("cubic", epochs=0),
            "0 epochs of 0 steps in all are too few for the schedule to reach its end: raise --epochs",
        ),
        (Recovery("iterative", (0.5,), epochs=0), "0 epochs of 0 steps in all are too few"),
        (Recovery(adjust_dropout=True), "--adjust-dropout: the network of .* has no dropout. Leave the option out"),
        (Recovery("cubic", epochs=2, adjust_dropout=True), "along this cubic schedule it changes"),
        (Recovery("iterative", (0.5, 0.9), epochs=2, adjust_dropout=True), "along this iterative schedule it changes"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_trained(
    tmp_path: Path, recovery: Recovery, words: str
) -> None:
    spy = Spy(tiny())
    with pytest.raises(sc.RunError, match=words):
        run(tmp_path / "run", job(recovery), spy.spied())
    assert spy.first == []
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


@pytest.mark.parametrize(("epochs", "accumulate"), [(1, 4), (1, 9), (2, 9)])
def test_a_schedule_needs_two_steps(tmp_path: Path, epochs: int, accumulate: int) -> None:
    """An epoch has four batches: four to a step, or more, make one step of it."""
    spy = Spy(tiny())
    asked = job(Recovery("linear", epochs=epochs), numerics=Numerics(accumulate=accumulate))
    if epochs == 2:
        assert run(tmp_path / "run", asked)["sparsity"] == pytest.approx(0.8, abs=0.01)
        return
    with pytest.raises(sc.RunError, match="1 epochs of 1 steps in all are too few"):
        run(tmp_path / "run", asked, spy.spied())
    assert spy.first == []


def test_schedules_that_are_none_are_refused() -> None:
    with pytest.raises(sc.UnknownNameError, match="no schedule is named 'cubik'; nearest: cubic"):
        check(Recovery("cubik"), tiny(), Numerics(), 3, trained_here=True)
    for levels in ((), (0.5, 0.4), (0.5, 1.0)):
        with pytest.raises(sc.BudgetError, match="takes rising sparsities between 0 and 1"):
            check(Recovery("iterative", levels, rewind="weights"), tiny(), Numerics(), 9, trained_here=True)


def test_weights_are_rewound_only_where_the_dense_network_was_trained(tmp_path: Path) -> None:
    save_weights(tiny().model(), tmp_path / "given.safetensors")
    asked = job(Recovery(epochs=1, rewind="weights"), dense=Dense(weights=tmp_path / "given.safetensors"))
    with pytest.raises(sc.RunError, match="this run trains no dense network: use --rewind rate"):
        run(tmp_path / "run", asked)


@pytest.mark.parametrize(
    "recovery",
    [
        Recovery(),
        Recovery(epochs=3, rewind="rate"),
        Recovery(epochs=3, rewind="weights"),
        Recovery("cubic", epochs=3, rewind="rate"),
        Recovery("iterative", (0.5, 0.9), epochs=0, rewind="weights"),
        Recovery(epochs=0),
        Recovery(distill=1),
    ],
)
def test_the_rest_passes(recovery: Recovery) -> None:
    assert refusal(recovery) == ""


def refusal(recovery: Recovery) -> str:
    try:
        check(recovery, tiny(), Numerics(), 3, trained_here=True)
    except sc.SecateurError as error:
        return str(error)
    return ""


# ------------------------------------------------------------------------------------- small parts


def test_histories_are_joined_and_the_best_epoch_is_that_of_the_second() -> None:
    first, second = History((3.0, 2.0), (0.1, 0.9), 1), History((1.0, 0.5), (0.2, 0.3), 0)
    assert joined(first, second) == History((3.0, 2.0, 1.0, 0.5), (0.1, 0.9, 0.2, 0.3), 2)
    assert joined(first, History((1.0,), (math.nan,))).best_epoch is None
    assert joined(History(), second) == second
    assert joined(first, History()) == replace(first, best_epoch=None)


def test_sparsity_is_noted_once_an_epoch(tmp_path: Path) -> None:
    folder = open_run(tmp_path / "run", {}, resume=False)
    plan = pruner().plan(tiny().model(), sc.Budget(sparsity=0.5))
    note_sparsity(folder, 1, None)
    note_sparsity(folder, 2, plan)
    note_sparsity(folder, 2, None)  # of a run that goes on, and has been there before
    assert open_run(tmp_path / "run", {}, resume=True).known == {"sparsity/0": 0.0, "sparsity/1": plan.sparsity}


@pytest.mark.parametrize(
    ("recovery", "steps", "name"),
    [
        (Recovery("linear", epochs=3), 10, "linear(0, 20, 2)"),
        (Recovery("cubic", epochs=1), 4, "cubic(0, 2, 1)"),
        (Recovery("cubic", epochs=1), 1, "cubic(0, 1, 1)"),
        (Recovery("iterative", (0.5, 0.8, 0.9), epochs=2), 10, "iterative([0.5, 0.8, 0.9])"),
    ],
)
def test_schedules_are_in_steps(recovery: Recovery, steps: int, name: str) -> None:
    assert repr(schedule_for(recovery, steps)) == name


def test_rounds_begin_with_the_epochs_of_their_turn() -> None:
    schedule = schedule_for(Recovery("iterative", (0.25, 0.5), epochs=2), 3)
    assert {step: schedule(step) for step in range(20) if schedule(step) is not None} == {0: 0.5, 6: 1.0}
