"""Recovery: what is done so that a pruned network gets its accuracy back."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from secateur import schedules
from secateur.budget import Budget
from secateur.criteria import Criterion
from secateur.errors import RunError, UnknownNameError
from secateur.masking import mask
from secateur.plan import Plan
from secateur.pruner import Pruner
from secateur.schedules import Schedule
from secateur.statistics import Statistics, calibrate
from secateur.surgery.shrink import cut, put_into
from secateur.tasks import Task, dense_rate, evaluate, loader, seeded
from secateur.training import GradualPruning, History, adjusted_dropout, distill, finetune, rates, rewind
from secateur.training.display import Watched
from secateur.training.gradual import OBSERVED
from secateur.weights import load_weights
from secateur.workflow.dense import Numerics
from secateur.workflow.run_folder import RunFolder
from secateur.workflow.smaller import check_crossing, proven, takes_slices

Rewind = Literal["", "rate", "weights"]
SCHEDULES = ("one_shot", "linear", "cubic", "iterative")


@dataclass(frozen=True)
class Recovery:
    """How a pruned network recovers.

    Args:
        schedule: Along which it is pruned: one_shot, linear, cubic, iterative.
        levels: Of the rounds, for iterative: what is gone after each, in the measure of the budget, so 0.25, 0.5 for
            `Budget(macs=0.5)`; the last is the budget.
        epochs: Of training (of each round, for iterative).
        divide_by: The learning rate is the task's over this, constant.
        rewind: `rate`: the learning rate is instead what it was in the last `epochs` epochs of dense training;
            `weights`: so are the weights at the beginning.
        distill: Weight of the dense network's outputs in the loss, 0 to 1.
        temperature: Of distillation.
        adjust_dropout: Lower the rates of dropout to fit the connections that are left.
    """

    schedule: str = "one_shot"
    levels: tuple[float, ...] = ()
    epochs: int = 5
    divide_by: float = 10
    rewind: Rewind = ""
    distill: float = 0.0
    temperature: float = 4.0
    adjust_dropout: bool = False


@dataclass(frozen=True)
class Bench:
    """All that recovery works with.

    Args:
        task: Data and loss.
        recovery: How.
        numerics: Device and precision.
        folder: Where the state is kept; a run that stopped goes on from there.
        dense: The dense network, never changed: the teacher of distillation.
        dense_epochs: Epochs it was trained.
        seed: Of the order of the data.
        progress: Show a bar on a terminal.
    """

    task: Task
    recovery: Recovery
    numerics: Numerics
    folder: RunFolder
    dense: nn.Module
    dense_epochs: int
    seed: int
    progress: bool


def check(recovery: Recovery, task: Task, numerics: Numerics, dense_epochs: int, *, trained_here: bool) -> None:
    """Refuse what cannot be done, before anything is trained.

    Args:
        recovery: How.
        task: Says how many batches there are.
        numerics: Says how many batches make a step.
        dense_epochs: Epochs of dense training.
        trained_here: Whether this run trains the dense network.

    Raises:
        RunError: It cannot be done; what to change is said.
    """
    for option, value, fits, expected in (
        ("--divide-by", recovery.divide_by, 0 < recovery.divide_by < math.inf, "a number above 0, such as 10"),
        ("--distill", recovery.distill, 0 <= recovery.distill <= 1, "a weight from 0 to 1, such as 0.9"),
        ("--temperature", recovery.temperature, 0 < recovery.temperature < math.inf, "a number above 0, such as 4"),
    ):
        if not fits:
            raise RunError(f"{option} is {value}; expected {expected}. Change it")
    _check_schedule(recovery, steps_in_epoch(task, numerics))
    if recovery.adjust_dropout and not any(isinstance(module, _DropoutNd) for module in task.model().modules()):
        raise RunError(f"--adjust-dropout: the network of {task.name} has no dropout. Leave the option out")
    if recovery.rewind and recovery.epochs > dense_epochs:
        raise RunError(
            f"{recovery.epochs} epochs of recovery cannot go back by as many: dense training has {dense_epochs}. "
            f"Lower --epochs to {dense_epochs} or less"
        )
    if recovery.rewind == "weights" and recovery.schedule in ("linear", "cubic"):
        raise RunError(
            f"weights are rewound after a plan, not along a {recovery.schedule} schedule: use iterative, one_shot, or "
            "--rewind rate"
        )
    if recovery.rewind == "weights" and not trained_here:
        raise RunError(
            "weights are rewound to those of dense training in the same run, and this run trains no dense network: use "
            "--rewind rate"
        )


def _check_schedule(recovery: Recovery, steps_per_epoch: int) -> None:
    if recovery.schedule not in SCHEDULES:
        raise UnknownNameError("schedule", recovery.schedule, SCHEDULES)
    if recovery.schedule == "iterative":
        schedules.iterative(recovery.levels)  # raises unless they rise
    one_plan = not along(recovery)
    steps = recovery.epochs * steps_per_epoch
    # linear and cubic schedules end with the second step at the earliest
    if not one_plan and steps < (1 if recovery.schedule == "iterative" else 2):
        raise RunError(_too_few(recovery.epochs, steps))
    if recovery.adjust_dropout and not one_plan:
        raise RunError(
            f"--adjust-dropout goes by a plan that stays, and along this {recovery.schedule} schedule it changes while "
            "the network is trained: use one_shot, or iterative with --rewind rate"
        )


def _too_few(epochs: int, steps: int) -> str:
    return f"{epochs} epochs of {steps} steps in all are too few for the schedule to reach its end: raise --epochs"


def recover(model: nn.Module, once: Plan, pruner: Pruner, budget: Budget | None, bench: Bench) -> tuple[Plan, History]:
    """Prune a model and train it on, at once or along a schedule.

    Args:
        model: A copy of the dense model, changed in place.
        once: The plan for the whole budget at once.
        pruner: Makes the other plans, where the schedule has some.
        budget: The final one; None where the granularity fixes it.
        bench: All that is needed.

    Returns:
        The plan in force at the end, and what happened.

    Raises:
        RunError: The schedule did not reach its end within the epochs.
    """
    how = bench.recovery
    check_crossing(once, trained_along=along(how))
    with seeded(bench.seed):
        if how.rewind and how.schedule == "iterative":
            return _rounds(model, pruner, budget, bench)
        if how.schedule == "one_shot":
            return once, hold_and_train(model, once, bench, "recovery", History())
        return _gradual(model, pruner, budget, bench)


def along(recovery: Recovery) -> bool:
    """Whether a network is trained while it is pruned, with masks that change.

    Args:
        recovery: How.

    Returns:
        False where a plan is made, and then held.
    """
    return recovery.schedule != "one_shot" and not (recovery.schedule == "iterative" and recovery.rewind)


def hold_and_train(model: nn.Module, plan: Plan, bench: Bench, state: str, before: History) -> History:
    """Train with a plan's zeros held, or what it leaves of channels, after rewinding the weights if that is wanted.

    Args:
        model: Changed in place.
        plan: What is removed.
        bench: All that is needed.
        state: Name of the file the state is kept in.
        before: What happened earlier.

    Returns:
        The history, earlier and now.
    """
    if bench.recovery.rewind == "weights":
        early = bench.task.model().to(bench.numerics.device)
        load_weights(early, bench.folder.file("early.safetensors"))
        rewind(model, early.state_dict(), plan)
        plan = replace(plan, updates={})  # they are for the trained weights

    def on_epoch(so_far: History) -> None:
        note_sparsity(bench.folder, len(before.losses) + len(so_far.losses), plan)

    adjusted = adjusted_dropout(model, plan, bench.task.example) if bench.recovery.adjust_dropout else nullcontext()
    with adjusted:
        if not takes_slices(plan):
            return joined(before, _trained(model, bench, state, on_epoch=on_epoch, plan=plan))
        mask(model, plan, inplace=True)
        small = cut(model, plan)
        history = joined(before, _trained(small, bench, state, on_epoch=on_epoch))
    put_into(model, small, plan)
    return history


def _rounds(model: nn.Module, pruner: Pruner, budget: Budget | None, bench: Bench) -> tuple[Plan, History]:
    """Prune to each level, rewind, train; the plan of a round begins with that of the round before."""
    plan, history, levels = None, History(), bench.recovery.levels
    for number, level in enumerate(levels, 1):
        data, part = Watched(loader(bench.task), show=bench.progress), level / levels[-1]
        planned = pruner.plan(model, budget, data=data, loss=bench.task.loss, start=plan, fraction=part)
        plan = proven(model, planned, bench.task)
        history = hold_and_train(model, plan, bench, f"recovery-{number}", history)
    if plan is None:
        raise RunError("an iterative schedule needs the sparsities of its rounds: iterative:0.5,0.8,0.9")
    return plan, history


def _gradual(model: nn.Module, pruner: Pruner, budget: Budget | None, bench: Bench) -> tuple[Plan, History]:
    steps = steps_in_epoch(bench.task, bench.numerics)
    schedule = schedule_for(bench.recovery, steps)
    hook = GradualPruning(model, pruner, budget, schedule, statistics=_at_the_start(model, pruner, bench.task))

    def on_epoch(so_far: History) -> None:
        note_sparsity(bench.folder, len(so_far.losses), hook.plan)

    epochs = bench.recovery.epochs * max(1, len(bench.recovery.levels))
    history = _trained(model, bench, "recovery", on_epoch=on_epoch, hook=hook, epochs=epochs)
    if hook.plan is None or not hook.settled:
        raise RunError(_too_few(epochs, epochs * steps))
    return proven(model, hook.plan, bench.task), history


def _at_the_start(model: nn.Module, pruner: Pruner, task: Task) -> Statistics | None:
    """What a criterion needs beside what training yields, measured once, before it is pruned along a schedule."""
    needs = pruner.method.needs - OBSERVED if isinstance(pruner.method, Criterion) else frozenset()
    return calibrate(model, loader(task), needs, loss=task.loss) if needs else None


def _trained(
    model: nn.Module, bench: Bench, state: str, *, on_epoch: Callable[[History], None], **more: Any
) -> History:
    task, how, numerics = bench.task, bench.recovery, bench.numerics
    batches, loss = loader(task, seed=bench.seed), task.loss
    if how.distill:
        batches, loss = distill(  # type: ignore[assignment]
            bench.dense,
            batches,
            loss,
            weight=how.distill,
            temperature=how.temperature,
            autocast=numerics.autocast,
        )
    settings = {
        "divide_by": 1 if how.rewind else how.divide_by,
        "rate": rates.rewound(dense_rate(task, bench.dense_epochs), bench.dense_epochs - how.epochs)
        if how.rewind
        else None,
        "epochs": how.epochs,
        **more,
    }
    return finetune(
        model,
        batches,
        loss,
        learning_rate=task.learning_rate,
        optimizer=task.optimizer,
        validate=lambda trained: evaluate(trained, task, "validation"),
        autocast=numerics.autocast,
        accumulate=numerics.accumulate,
        checkpoint=bench.folder.state(state),
        resume=True,
        progress=bench.progress,
        on_epoch=on_epoch,
        **settings,
    )


def steps_in_epoch(task: Task, numerics: Numerics) -> int:
    """Steps of the optimizer in an epoch of recovery.

    Args:
        task: The task.
        numerics: Says how many batches make a step.

    Returns:
        The number, a last step of fewer batches included.
    """
    return -(-len(loader(task)) // max(1, numerics.accumulate))


def joined(before: History, after: History) -> History:
    """One history out of two that follow on one another; the best epoch is that of the second.

    Args:
        before: The first.
        after: The second.

    Returns:
        Both.

    Example:
        >>> joined(History((0.9,), (0.5,), 0), History((0.8,), (0.6,), 0))
        History(losses=(0.9, 0.8), validation=(0.5, 0.6), best_epoch=1)
    """
    best = None if after.best_epoch is None else len(before.validation) + after.best_epoch
    return replace(
        after, losses=before.losses + after.losses, validation=before.validation + after.validation, best_epoch=best
    )


def note_sparsity(folder: RunFolder, epochs: int, plan: Plan | None) -> None:
    """Write into the journal how much is removed after so many epochs.

    Args:
        folder: The run.
        epochs: Done.
        plan: In force; None: nothing is removed.
    """
    folder.once(f"sparsity/{epochs - 1}", lambda: plan.sparsity if plan else 0.0)


def schedule_for(recovery: Recovery, steps_per_epoch: int) -> Schedule:
    """A schedule in steps, from its name and the number of epochs: it ends after two thirds, to leave time to recover.

    Args:
        recovery: Names the schedule.
        steps_per_epoch: Steps of the optimizer in an epoch.

    Returns:
        The schedule.

    Example:
        >>> schedule_for(Recovery("cubic", epochs=3), 10)
        cubic(0, 20, 2)
    """
    if recovery.schedule == "iterative":
        return schedules.iterative(recovery.levels, every=steps_per_epoch * recovery.epochs)
    end = max(1, recovery.epochs * steps_per_epoch * 2 // 3)
    shape = {"linear": schedules.linear, "cubic": schedules.cubic}[recovery.schedule]
    return shape(0, end, max(1, steps_per_epoch // 4))
