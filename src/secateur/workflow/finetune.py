"""Training a pruned network on: from the folder of one run into the folder of another."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from secateur.errors import RunError
from secateur.masking import check_fits
from secateur.plan import Plan
from secateur.tasks import Task, evaluate, seeded
from secateur.training import History
from secateur.weights import load_weights, save_weights
from secateur.workflow.dense import Numerics
from secateur.workflow.prune import Say, results_of
from secateur.workflow.recovery import Bench, Recovery, check, hold_and_train
from secateur.workflow.run_folder import RunFolder, read_results
from secateur.workflow.smaller import left


@dataclass(frozen=True)
class FinetuneJob:
    """How a pruned network is trained on.

    Args:
        run: Folder of the finished run that pruned it.
        recovery: How; its plan is held, so the schedule is one_shot.
        numerics: Device and precision.
        seed: Of the order of the data.
    """

    run: Path
    recovery: Recovery = field(default_factory=Recovery)
    numerics: Numerics = field(default_factory=Numerics)
    seed: int = 0


def finetune_task(
    task: Task, job: FinetuneJob, folder: RunFolder, *, say: Say, progress: bool = True
) -> dict[str, Any]:
    """Train the network of a finished run on, its zeros held, and measure it.

    Args:
        task: The task of that run.
        job: Which run, and how.
        folder: Where the new one is left; that of the old one is only read.
        say: Told what is going on, a line a stage.
        progress: Show a bar on a terminal.

    Returns:
        The results, plain JSON: accuracies before any pruning, right after it, and now; the history of both runs.
    """
    started = time.perf_counter()
    earlier = earlier_run(task, job)
    dense, model, found = earlier.dense, earlier.model, earlier.results
    folder.leave("dense.safetensors", lambda path: save_weights(dense, path))
    for network in (dense, model):
        network.to(job.numerics.device)
    before = _history(found, folder)
    was = folder.once("before", lambda: evaluate(left(model, earlier.plan), task))
    say(f"training {job.run} on, from {task.metric_name} {was:.4g}")
    epochs = earlier.dense_epochs
    held = replace(earlier.plan, updates={})  # what the plan mended has been trained since
    bench = Bench(task, job.recovery, job.numerics, folder, dense, epochs, job.seed, progress=progress)
    with seeded(job.seed):
        history = hold_and_train(model, held, bench, "recovery", before)
    now = folder.once("fine_tuned", lambda: evaluate(left(model, earlier.plan), task))
    return {
        **results_of(task, folder, earlier.plan, history, dense, model),
        "seeds": [job.seed],
        "accuracy": {**found["accuracy"], "fine_tuned": now},
        "before": was,
        "dense_epochs": epochs,
        "seconds": round(time.perf_counter() - started, 2),
    }


@dataclass(frozen=True)
class Earlier:
    """What a finished run left.

    Args:
        results: Its results.
        dense: The dense network.
        model: The pruned one.
        plan: What is removed.
        dense_epochs: Of dense training.
    """

    results: dict[str, Any]
    dense: nn.Module
    model: nn.Module
    plan: Plan
    dense_epochs: int


def earlier_run(task: Task, job: FinetuneJob) -> Earlier:
    """The run whose network is trained on; refuse what cannot be done, before anything is.

    Args:
        task: The task of that run.
        job: Which run, and how.

    Returns:
        What it left.

    Raises:
        RunError: The run is not finished, damaged, or pruned nothing, or the recovery does not fit it.
        ModelError: It is a run of another task.
        PlanError: Its plan is damaged.
    """
    found = read_results(job.run)
    if found.get("kind") != "prune":
        raise RunError(f"{job.run} holds a run of {found.get('kind')!r}; expected one of secateur prune or finetune")
    if lacking := [key for key in ("accuracy", "history") if not isinstance(found.get(key), dict)]:
        raise RunError(f"{job.run}/results.json lacks {lacking}: remove it and make it anew by --resume")
    epochs = found.get("dense_epochs", task.epochs)
    check(job.recovery, task, job.numerics, epochs, trained_here=False)
    dense, model = task.model(), task.model()
    load_weights(dense, job.run / "dense.safetensors")
    load_weights(model, job.run / "weights.safetensors")
    plan = Plan.load(job.run / "plan.safetensors")
    check_fits(model, plan)
    return Earlier(found, dense, model, plan, epochs)


def _history(earlier: dict[str, Any], folder: RunFolder) -> History:
    """The history of the earlier run, its sparsities written into the new run's journal."""
    found = earlier["history"]
    for epoch, sparsity in enumerate(found["sparsity"]):
        folder.once(f"sparsity/{epoch}", lambda sparsity=sparsity: sparsity)  # type: ignore[misc]
    return History(tuple(found["losses"]), tuple(found["validation"]))
