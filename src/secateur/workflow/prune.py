"""The main job: train, prune, recover, measure, leave everything in a folder."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from secateur import schedules
from secateur.budget import Budget
from secateur.errors import RunError
from secateur.masking import mask
from secateur.plan import Plan
from secateur.pruner import Pruner
from secateur.schedules import Schedule
from secateur.tasks import Task, evaluate, loader, train
from secateur.training import GradualPruning, History, finetune
from secateur.weights import save_weights
from secateur.workflow.measure import distributions, layer_table, machine, sizes, weights_of
from secateur.workflow.run_folder import RunFolder

Say = Callable[[str], None]


@dataclass(frozen=True)
class PruneJob:
    """How a task is pruned.

    Args:
        pruner: Method, granularity, allocation.
        budget: How much goes; None where the granularity fixes it.
        schedule: Name of the schedule: one_shot, linear, cubic, iterative.
        levels: Sparsities of the rounds, for iterative.
        epochs: Epochs of recovery (of each round, for iterative).
        divide_by: The learning rate of recovery is the task's over this.
        seed: Of everything random.
        dense_epochs: Epochs of dense training; None: the task's.
    """

    pruner: Pruner
    budget: Budget | None
    schedule: str = "one_shot"
    levels: tuple[float, ...] = ()
    epochs: int = 5
    divide_by: float = 10
    seed: int = 0
    dense_epochs: int | None = None


def prune_task(task: Task, job: PruneJob, folder: RunFolder, *, say: Say, progress: bool = True) -> dict[str, Any]:
    """Train a task's model, prune it, recover it, and measure all three.

    Leaves in the folder: `dense.safetensors`, `plan.safetensors`, `weights.safetensors`, and the states from which a
    run that stopped goes on.

    Args:
        task: The task.
        job: How.
        folder: Where.
        say: Told what is going on, a line a stage.
        progress: Show bars on a terminal.

    Returns:
        The results, plain JSON.
    """
    started = time.perf_counter()
    say(f"training {task.name}, dense")
    dense, _ = train(
        task,
        seed=job.seed,
        epochs=job.dense_epochs,
        checkpoint=folder.state("dense"),
        resume=True,
        progress=progress,
    )
    accuracy = {"dense": folder.once("dense", lambda: evaluate(dense, task))}
    save_weights(dense, folder.file("dense.safetensors"))
    say(f"pruning: {job.pruner.granularity}, {job.pruner.method}, {job.pruner.allocation}")
    once = first_plan(dense, task, job)
    accuracy["pruned_only"] = folder.once("pruned_only", lambda: evaluate(mask(dense, once), task))
    say("recovering")
    model = copy.deepcopy(dense)
    plan, history = recover(model, task, job, once, folder, progress=progress)
    accuracy["fine_tuned"] = folder.once("fine_tuned", lambda: evaluate(model, task))
    plan.save(folder.file("plan.safetensors"))
    save_weights(model, folder.file("weights.safetensors"))
    before, after = weights_of(dense), weights_of(model)
    return {
        "kind": "prune",
        "task": task.name,
        "metric": task.metric_name,
        "seeds": [job.seed],
        "created": folder.created,
        "settings": {name: value for name, value in folder.settings.items() if value not in (None, [])},
        **machine(),
        "accuracy": accuracy,
        "sparsity": plan.sparsity,
        "weights_total": plan.weights,
        "weights_left": plan.nonzeros,
        "history": {
            "losses": list(history.losses),
            "validation": list(history.validation),
            "sparsity": [folder.known[f"sparsity/{epoch}"] for epoch in range(len(history.losses))],
        },
        "layers": layer_table(plan),
        "weights": distributions(before, after),
        "sizes": sizes(before, after),
        "seconds": round(time.perf_counter() - started, 2),
    }


def first_plan(model: nn.Module, task: Task, job: PruneJob) -> Plan:
    """The plan for the whole budget at once, on the dense model.

    Args:
        model: The dense model.
        task: Where statistics come from, if the method needs some.
        job: How.

    Returns:
        The plan.
    """
    return job.pruner.plan(model, job.budget, data=loader(task), loss=task.loss)


def recover(
    model: nn.Module, task: Task, job: PruneJob, once: Plan, folder: RunFolder, *, progress: bool
) -> tuple[Plan, History]:
    """Prune a model along the schedule while it trains at a small rate, or prune it at once and then train it.

    Args:
        model: The dense model, changed in place.
        task: Data and loss.
        job: How.
        once: The plan for the whole budget at once.
        folder: Where the state is kept; a run that stopped goes on from there.
        progress: Show a bar on a terminal.

    Returns:
        The plan in force at the end, and what happened.

    Raises:
        RunError: The schedule did not reach its end within the epochs.
    """
    with torch.random.fork_rng():
        torch.manual_seed(job.seed)
        batches = loader(task, seed=job.seed)
        hook = None
        if job.schedule != "one_shot":
            hook = GradualPruning(model, job.pruner, job.budget, schedule_for(job, len(batches)))
        history = finetune(
            model,
            batches,
            task.loss,
            learning_rate=task.learning_rate,
            divide_by=job.divide_by,
            epochs=job.epochs * max(1, len(job.levels)),
            optimizer=task.optimizer,
            plan=once if hook is None else None,
            hook=hook,
            validate=lambda trained: evaluate(trained, task, "validation"),
            checkpoint=folder.state("recovery"),
            resume=True,
            progress=progress,
            on_epoch=lambda so_far: _note_sparsity(folder, so_far, once if hook is None else hook.plan),
        )
    if hook is None:
        return once, history
    if hook.plan is None or not hook.settled:
        raise RunError(f"{job.epochs} epochs are too few for the schedule to reach its end: raise --epochs")
    return hook.plan, history


def _note_sparsity(folder: RunFolder, history: History, plan: Plan | None) -> None:
    folder.once(f"sparsity/{len(history.losses) - 1}", lambda: plan.sparsity if plan else 0.0)


def schedule_for(job: PruneJob, steps_per_epoch: int) -> Schedule:
    """A schedule in steps, from its name and the number of epochs: it ends after two thirds, to leave time to recover.

    Args:
        job: Names the schedule.
        steps_per_epoch: Steps of the optimizer in an epoch.

    Returns:
        The schedule.

    Example:
        >>> from secateur import Budget, Pruner, allocation, criteria, granularity
        >>> pruner = Pruner(criteria.magnitude(), granularity.weight(), allocation.uniform())
        >>> schedule_for(PruneJob(pruner, Budget(sparsity=0.9), "cubic", epochs=3), 10)
        cubic(0, 20, 2)
    """
    if job.schedule == "iterative":
        return schedules.iterative(job.levels, every=steps_per_epoch * job.epochs)
    end = max(1, job.epochs * steps_per_epoch * 2 // 3)
    shape = {"linear": schedules.linear, "cubic": schedules.cubic}[job.schedule]
    return shape(0, end, max(1, steps_per_epoch // 4))
