"""What reproductions of reconstruction share: a network cut to a part of its operations, mended, and perhaps tuned."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
from _reproduction import CHECKPOINTS, Job, shortened
from _training import trained_on
from torch import nn
from torch.utils.data import DataLoader, Subset

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.reconstruction import errors
from secateur.tasks import Task, evaluate, fashion, loader
from secateur.weights import load_weights
from secateur.workload import workload

IMAGES = 1000
SHORT = 64
EPOCHS = 4
SLOWER = 10.0  # the rate of tuning is that of the dense network divided by this
# The residual streams keep their channels: the layers that make them, and so the names of their groups.
STREAMS = {"resnet-20": ("conv", "stages.1.0.conv2", "stages.2.0.conv2"), "vgg-small": ()}


def start_of(network: str, seed: int, arguments: argparse.Namespace) -> tuple[Task, nn.Module]:
    """The task and the dense network."""
    task = fashion(network, data_dir=arguments.data_dir)
    model = task.model()
    load_weights(model, CHECKPOINTS / f"fashion-{network}-{seed}.safetensors")
    return (shortened(task, 3 * SHORT) if arguments.short else task), model.eval()


def images(task: Task, short: bool, *, skip: int = 0) -> DataLoader[Any]:
    """Training images as they are; `skip` so many times as many first."""
    count = SHORT if short else IMAGES
    some = Subset(task.train, range(skip * count, (skip + 1) * count))
    return loader(replace(task, train=some, augment=None))


def cut(
    network: str, seed: int, ratio: float, method: Any, refit: Any, tune: bool, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Cut a network to so many times fewer multiply-accumulates.

    Args:
        network: Its name.
        seed: Of its checkpoint.
        ratio: Multiply-accumulates before over after.
        method: For `Pruner`.
        refit: For `Pruner`.
        tune: Whether to train it on as well.
        arguments: What the user wrote.

    Returns:
        Accuracies: dense, as cut, tuned; the part of the operations left; errors of the layers on other images.
    """
    task, model = start_of(network, seed, arguments)
    pruner = sc.Pruner(
        method, granularity.channel(task.example), allocation.uniform(), refit=refit, exclude=STREAMS[network]
    )
    plan = pruner.plan(model, sc.Budget(macs=1 / ratio), data=images(task, arguments.short))
    small = sc.shrink(model, plan)
    before, after = (workload(one, task.example).macs for one in (model, small))
    found = {
        "dense": evaluate(model, task),
        "cut": evaluate(small, task),
        "left": after / before,
        "errors": errors(model, sc.mask(model, plan), images(task, arguments.short, skip=1)),
    }
    if not tune:
        return found
    epochs = 1 if arguments.short else EPOCHS
    return {**found, "tuned": trained_on(small, task, seed, epochs=epochs, slower=SLOWER, autocast=torch.bfloat16)}


def jobs_of(
    pruned: Callable[..., Any],
    networks: Sequence[str],
    seeds: Sequence[int],
    ratios: Sequence[float],
    names: Callable[[str], Sequence[str]],
    minutes: Mapping[str, float],
    arguments: argparse.Namespace,
    *,
    longest: str,
) -> list[Job]:
    """Every network cut by every method to every ratio; the method that is trained on too takes twice as long."""
    return [
        Job(
            f"{network}/{name}/{ratio}/{seed}",
            pruned,
            (network, name, ratio, seed, arguments),
            minutes[network] * (2 if name == longest else 1),
        )
        for network in networks
        for seed in seeds
        for ratio in ratios
        for name in names(network)
    ]


def show(measured: Mapping[str, Any]) -> None:
    """Print a row for each cut."""
    for key, job in measured.items():
        row = job["value"]
        more = f", tuned {row['tuned']:.2%}" if "tuned" in row else ""
        shown = f"dense {row['dense']:.2%}, cut {row['cut']:.2%}{more}; {row['left']:.3f} of the operations"
        sys.stdout.write(f"{key}: {shown}, layers off by {layer_error([row]):.3f}\n")


def increase(rows: Sequence[dict[str, Any]], key: str = "cut") -> float:
    """By how many points the test error grows, the mean over seeds."""
    return fmean(row["dense"] - row[key] for row in rows) * 100


def layer_error(rows: Sequence[dict[str, Any]]) -> float:
    """Reconstruction error, the mean over layers and seeds."""
    return fmean(value for row in rows for value in row["errors"].values())


def first_units() -> sc.Criterion:
    """The baseline that keeps the first channels."""
    return sc.Criterion("first k", lambda group: -torch.arange(float(group.units.n_units)))


def weight_sum(role: Any) -> sc.Criterion:
    """The sum of the magnitudes of the weights that make a channel (`out`), or of those that read it (`in`)."""
    return criteria.elementwise(torch.abs, name=f"weight sum, {role}", roles=(role,))
