"""The main job: train, prune, recover, measure, leave everything in a folder."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from secateur.budget import Budget
from secateur.criteria import Criterion
from secateur.errors import RunError
from secateur.plan import Plan
from secateur.pruner import Pruner
from secateur.recipe import name_of
from secateur.tasks import Task, evaluate, loader
from secateur.training import History
from secateur.training.display import Watched
from secateur.weights import load_weights, save_weights
from secateur.workflow.dense import Dense, Numerics, dense_model
from secateur.workflow.measure import distributions, layer_table, machine, sizes, smaller_form, weights_of
from secateur.workflow.recovery import Bench, Recovery, along, check, recover
from secateur.workflow.run_folder import RunFolder
from secateur.workflow.smaller import leave_smaller, left, measured_again, proven, pruned, takes_slices, whole

Say = Callable[[str], None]


@dataclass(frozen=True)
class PruneJob:
    """How a task is pruned.

    Args:
        pruner: Method, granularity, allocation.
        budget: How much goes; None where the granularity fixes it.
        recovery: How the network gets its accuracy back, and along which schedule it is pruned.
        dense: Where the dense network comes from.
        numerics: Device and precision.
        seed: Of everything random.
        reestimate: Measure the statistics of batch norms again right after pruning, where there are some: on what
            remains at once, before it is trained on.
    """

    pruner: Pruner
    budget: Budget | None
    recovery: Recovery = field(default_factory=Recovery)
    dense: Dense = field(default_factory=Dense)
    numerics: Numerics = field(default_factory=Numerics)
    seed: int = 0
    reestimate: bool = True


def prune_task(task: Task, job: PruneJob, folder: RunFolder, *, say: Say, progress: bool = True) -> dict[str, Any]:
    """Train a task's model, prune it, recover it, and measure all three.

    Leaves in the folder: `dense.safetensors`, `plan.safetensors`, `weights.safetensors`, where channels leave also
    `small.safetensors`, the smaller model, for `secateur.restore`; and the states from which a run that stopped goes
    on. Where channels leave it is the smaller model that is measured, and trained unless it is pruned along a schedule;
    `weights.safetensors` holds its numbers in the dense shapes.

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
    epochs = check_job(task, job)
    say(f"training {task.name}, dense" if job.dense.weights is None else f"dense weights from {job.dense.weights}")
    keep = epochs - job.recovery.epochs if job.recovery.rewind == "weights" else None
    dense = dense_model(task, job.dense, job.numerics, folder, seed=job.seed, keep=keep, progress=progress)
    accuracy = {"dense": folder.once("dense", lambda: evaluate(dense, task))}
    folder.leave("dense.safetensors", lambda path: save_weights(dense, path))
    say(f"pruning: {job.pruner.granularity}, {job.pruner.method}, {job.pruner.allocation}")
    once = first_plan(dense, task, job, progress=progress)
    network = pruned(dense, once)
    accuracy["pruned_only"] = folder.once("pruned_only", lambda: evaluate(network, task))
    again = measured_again(network, task, job.seed) if job.reestimate else None
    if again is not None:
        accuracy["reestimated"] = folder.once("reestimated", lambda: evaluate(again, task))
    say("recovering")
    model = copy.deepcopy(dense) if again is None or along(job.recovery) else whole(dense, again, once)
    bench = Bench(task, job.recovery, job.numerics, folder, dense, epochs, job.seed, progress=progress)
    plan, history = recover(model, once, job.pruner, job.budget, bench)
    accuracy["fine_tuned"] = folder.once("fine_tuned", lambda: evaluate(left(model, plan), task))
    return {
        **results_of(task, folder, plan, history, dense, model),
        "seeds": [job.seed],
        "accuracy": accuracy,
        "dense_epochs": epochs,
        "seconds": round(time.perf_counter() - started, 2),
    }


def check_job(task: Task, job: PruneJob) -> int:
    """Refuse what cannot be done, before anything is trained.

    Args:
        task: The task.
        job: How.

    Returns:
        Epochs of dense training; where weights come from a file, those that are taken to have made them.

    Raises:
        RunError: It cannot be done; what to change is said.
    """
    epochs = task.epochs if job.dense.epochs is None else job.dense.epochs
    check(job.recovery, task, job.numerics, epochs, trained_here=job.dense.weights is None)
    if along(job.recovery) and not isinstance(job.pruner.method, Criterion):
        raise RunError(
            f"{name_of(job.pruner.method)} chooses and mends at once, and along this {job.recovery.schedule} schedule "
            "the choice changes while the network is trained: use one_shot, or iterative with --rewind rate"
        )
    if job.dense.weights is not None:
        load_weights(task.model(), job.dense.weights)
    return epochs


def results_of(
    task: Task, folder: RunFolder, plan: Plan, history: History, dense: nn.Module, model: nn.Module
) -> dict[str, Any]:
    """Leave plan and weights in the folder, and what tables and the page show of them.

    Args:
        task: The task.
        folder: Where.
        plan: In force at the end.
        history: Of the recovery.
        dense: The dense model.
        model: The pruned one.

    Returns:
        Plain JSON.
    """
    folder.leave("plan.safetensors", plan.save)
    folder.leave("weights.safetensors", lambda path: save_weights(model, path))
    network = left(model, plan)
    before, after = weights_of(dense), weights_of(model)
    forms = sizes(before, after)
    if takes_slices(plan):
        forms.append(smaller_form(weights_of(network)))
    return {
        "kind": "prune",
        "task": task.name,
        "metric": task.metric_name,
        "created": folder.created,
        "settings": _shown(folder.settings),
        **machine(),
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
        "sizes": forms,
        **leave_smaller(task, folder, plan, dense, network),
    }


def _shown(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value not in (None, [], "") and value is not False}


def first_plan(model: nn.Module, task: Task, job: PruneJob, *, progress: bool = False) -> Plan:
    """The plan for the whole budget at once, on the dense model, proved where channels leave.

    Args:
        model: The dense model.
        task: Where statistics come from, if the method needs some.
        job: How.
        progress: Show a bar on a terminal for each pass over the data.

    Returns:
        The plan.
    """
    data = Watched(loader(task), show=progress)
    return proven(model, job.pruner.plan(model, job.budget, data=data, loss=task.loss), task)
