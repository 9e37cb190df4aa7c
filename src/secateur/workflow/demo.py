"""The demonstration: the three curves of the field and every granularity, measured on a task in about a minute."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from secateur import allocation, criteria, granularity
from secateur.budget import Budget
from secateur.granularity import Granularity
from secateur.masking import mask
from secateur.plan import Plan
from secateur.pruner import Pruner
from secateur.state import load_state, save_state
from secateur.tasks import Task, evaluate, loader, train
from secateur.training import finetune
from secateur.weights import save_weights
from secateur.workflow.measure import distributions, layer_table, machine, mean_and_spread, sizes, weights_of
from secateur.workflow.prune import Say
from secateur.workflow.run_folder import RunFolder

LEVELS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
SHOWN = 0.9  # the level whose network, plan and distributions the run leaves
EQUAL = 0.75  # the sparsity at which granularities are compared: what 1:4 has
CURVES = ("pruned_only", "fine_tuned", "iterative")


@dataclass(frozen=True)
class Demo:
    """What the demonstration measures.

    Args:
        task: The task.
        seeds: Of training; every figure is a mean over them.
        levels: Sparsities of the curves, rising.
        epochs: Of fine-tuning at each level, for both curves that fine-tune.
        dense_epochs: Of dense training; None: the task's.
    """

    task: Task
    seeds: tuple[int, ...] = (0, 1, 2)
    levels: tuple[float, ...] = LEVELS
    epochs: int = 3
    dense_epochs: int | None = None


def run_demo(demo: Demo, folder: RunFolder, *, say: Say, progress: bool = True) -> dict[str, Any]:
    """Measure everything; what the folder's journal knows already is not measured again.

    Args:
        demo: What to measure.
        folder: Where.
        say: Told what is going on.
        progress: Show bars on a terminal.

    Returns:
        The results, plain JSON.
    """
    started = time.perf_counter()
    networks = [_dense(demo, seed, folder, say, progress) for seed in demo.seeds]
    dense = [
        folder.once(f"dense/{seed}", partial(evaluate, model, demo.task))
        for seed, model in zip(demo.seeds, networks, strict=True)
    ]
    curves = _curves(demo, networks, folder, say)
    compared = _granularities(demo, networks, folder, say)
    shown = _shown(demo, networks[0], folder)
    seconds = folder.once("seconds", lambda: round(time.perf_counter() - started, 2))
    return {
        "kind": "demo",
        "command": "secateur demo",
        "task": demo.task.name,
        "metric": demo.task.metric_name,
        "seeds": list(demo.seeds),
        "created": folder.created,
        "settings": dict(folder.settings),
        **machine(),
        "dense": {
            "accuracy": mean_and_spread(dense),
            "weights": sum(value.numel() for value in weights_of(networks[0]).values()),
            "parameters": sum(value.numel() for value in networks[0].parameters()),
        },
        "curves": curves,
        "granularities": compared,
        **shown,
        "seconds": seconds,
    }


def _dense(demo: Demo, seed: int, folder: RunFolder, say: Say, progress: bool) -> nn.Module:
    say(f"training {demo.task.name}, seed {seed}")
    checkpoint = folder.state(f"dense-{seed}")
    model, _ = train(
        demo.task, seed=seed, epochs=demo.dense_epochs, checkpoint=checkpoint, resume=True, progress=progress
    )
    return model


def _pruner(chosen: Granularity, share: Any, exclude: tuple[Any, ...] = ()) -> Pruner:
    return Pruner(criteria.magnitude(), chosen, share, exclude=exclude)


def fine_tuned(model: nn.Module, plan: Plan, task: Task, *, seed: int, epochs: int) -> nn.Module:
    """A copy of a model, pruned by a plan and fine-tuned at a tenth of the task's rate, best epoch by validation.

    Args:
        model: The model.
        plan: What goes.
        task: Data and loss.
        seed: Of the order of the data.
        epochs: How many.

    Returns:
        The copy.
    """
    copied = copy.deepcopy(model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        finetune(
            copied,
            loader(task, seed=seed),
            task.loss,
            learning_rate=task.learning_rate,
            epochs=epochs,
            optimizer=task.optimizer,
            plan=plan,
            validate=lambda trained: evaluate(trained, task, "validation"),
            progress=False,
        )
    return copied


def _curves(demo: Demo, networks: Sequence[nn.Module], folder: RunFolder, say: Say) -> dict[str, Any]:
    each: dict[str, list[list[float]]] = {name: [] for name in CURVES}
    for seed, model in zip(demo.seeds, networks, strict=True):
        say(f"pruning and fine-tuning at {len(demo.levels)} sparsities, seed {seed}")
        each["pruned_only"].append(list(_pruned_only(demo, seed, model, folder)))
        each["fine_tuned"].append(list(_one_shot(demo, seed, model, folder)))
        each["iterative"].append(list(_iterative(demo, seed, model, folder)))
    return {name: _curve(demo.levels, values) for name, values in each.items()}


def _curve(levels: Sequence[float], each: list[list[float]]) -> dict[str, Any]:
    points = [mean_and_spread(values) for values in zip(*each, strict=True)]
    return {
        "sparsity": list(levels),
        "accuracy": [point["mean"] for point in points],
        "spread": [point["spread"] for point in points],
        "each": each,
    }


def _plan(model: nn.Module, level: float) -> Plan:
    return _pruner(granularity.weight(), allocation.global_()).plan(model, Budget(sparsity=level))


def _pruned_only(demo: Demo, seed: int, model: nn.Module, folder: RunFolder) -> Iterator[float]:
    for level in demo.levels:
        yield folder.once(f"pruned_only/{seed}/{level}", partial(_evaluate_pruned, demo, model, level))


def _evaluate_pruned(demo: Demo, model: nn.Module, level: float) -> float:
    return evaluate(mask(model, _plan(model, level)), demo.task)


def _one_shot(demo: Demo, seed: int, model: nn.Module, folder: RunFolder) -> Iterator[float]:
    for level in demo.levels:
        yield folder.once(f"fine_tuned/{seed}/{level}", partial(_evaluate_tuned, demo, seed, model, level))


def _evaluate_tuned(demo: Demo, seed: int, model: nn.Module, level: float) -> float:
    return evaluate(fine_tuned(model, _plan(model, level), demo.task, seed=seed, epochs=demo.epochs), demo.task)


def _iterative(demo: Demo, seed: int, model: nn.Module, folder: RunFolder) -> Iterator[float]:
    """Each level starts from the network of the level before it, which is kept in a file in case the run stops."""
    for level in demo.levels:
        path, key = folder.state(f"iterative-{seed}-{level}"), f"iterative/{seed}/{level}"
        if not path.exists():
            model = fine_tuned(model, _plan(model, level), demo.task, seed=seed, epochs=demo.epochs)
            save_state(path, model.state_dict())
        else:
            model = copy.deepcopy(model)
            model.load_state_dict(load_state(path))
        yield folder.once(key, partial(evaluate, model, demo.task))


def compared(model: nn.Module) -> dict[str, tuple[Pruner, Budget]]:
    """The granularities, each with the budget that removes the same fraction of the convolutions' weights.

    Linear layers have no kernels, so only convolutions are compared, and of these not the first, whose single input
    channel N:M does not fit.

    Args:
        model: A trained model, whose kernels' own patterns are taken.

    Returns:
        Pruner and budget by name.
    """
    first = next(layer.name for layer in granularity.weight_layers(model) if layer.kernel)
    patterns = granularity.natural_patterns(model, entries=2, count=8)
    shapes: dict[str, Granularity] = {
        "weight": granularity.weight(),
        "vector, row": granularity.vector("row"),
        "vector, column": granularity.vector("column"),
        "pattern 1:4": granularity.pattern(1, 4),
        "kernel pattern, 2 of 9": granularity.kernel_pattern(patterns),
        "block 4x1": granularity.block(4, 1),
        "block 4x4": granularity.block(4, 4),
        "kernel": granularity.kernel(),
        "input channel": granularity.input_channel(),
        "filter": granularity.filter(),
    }
    budget = Budget(weights_removed=EQUAL)
    return {
        name: (_pruner(chosen, allocation.uniform(), (nn.Linear, first)), budget) for name, chosen in shapes.items()
    }


def _granularities(demo: Demo, networks: Sequence[nn.Module], folder: RunFolder, say: Say) -> list[dict[str, Any]]:
    say(f"comparing granularities at {EQUAL:.0%} of the convolutions' weights")
    rows = []
    for name in compared(networks[0]):
        measured = [
            folder.once(f"granularity/{name}/{seed}", partial(_compare, demo, name, seed, model))
            for seed, model in zip(demo.seeds, networks, strict=True)
        ]
        rows.append(
            {
                "name": name,
                "weights_removed": sum(row["weights_removed"] for row in measured) / len(measured),
                **{key: mean_and_spread([row[key] for row in measured]) for key in ("pruned_only", "fine_tuned")},
            }
        )
    return rows


def _compare(demo: Demo, name: str, seed: int, model: nn.Module) -> dict[str, float]:
    pruner, budget = compared(model)[name]
    plan = pruner.plan(model, budget)
    free = [part for part in plan.parts if not part.units.frozen]
    tuned = fine_tuned(model, plan, demo.task, seed=seed, epochs=demo.epochs)
    return {
        "weights_removed": sum(part.weights_removed for part in free) / sum(part.weights for part in free),
        "pruned_only": evaluate(mask(model, plan), demo.task),
        "fine_tuned": evaluate(tuned, demo.task),
    }


def _shown(demo: Demo, model: nn.Module, folder: RunFolder) -> dict[str, Any]:
    """The network of the first seed at one level of the iterative curve: its plan, weights, sizes, distributions."""
    level = min(demo.levels, key=lambda level: abs(level - SHOWN))
    pruned = copy.deepcopy(model)
    pruned.load_state_dict(load_state(folder.state(f"iterative-{demo.seeds[0]}-{level}")))
    plan = _plan(pruned, level)  # the zeros are the lowest magnitudes, so this is the plan that made them
    plan.save(folder.file("plan.safetensors"))
    save_weights(pruned, folder.file("weights.safetensors"))
    before, after = weights_of(model), weights_of(pruned)
    return {
        "shown": {"curve": "iterative", "sparsity": level, "seed": demo.seeds[0]},
        "layers": layer_table(plan),
        "weights": distributions(before, after),
        "sizes": sizes(before, after),
    }
