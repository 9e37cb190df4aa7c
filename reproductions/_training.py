"""How networks that were pruned are trained on."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from secateur.tasks import Task, evaluate, loader, seeded
from secateur.training import finetune, rates


def trained(model: nn.Module, task: Task, seed: int, **how: Any) -> float:
    """Train a network in place.

    Args:
        model: The network.
        task: Its task.
        seed: Of the order of the data.
        **how: What else `finetune` takes: epochs and rates.

    Returns:
        The test accuracy of the epoch that was best in validation.
    """
    with seeded(seed):
        finetune(
            model,
            loader(task, seed=seed),
            task.loss,
            learning_rate=task.learning_rate,
            optimizer=task.optimizer,
            validate=lambda candidate: evaluate(candidate, task, "validation"),
            progress=False,
            **how,
        )
    return evaluate(model, task)


def trained_on(
    model: nn.Module, task: Task, seed: int, *, epochs: int, slower: float, autocast: torch.dtype | None = None
) -> float:
    """Train a network on in place, from a part of its first rate down half a cosine.

    Args:
        model: The network.
        task: Its task.
        seed: Of the order of the data.
        epochs: Of training.
        slower: The rate of dense training over this is where it begins.
        autocast: Precision of mixed-precision training.

    Returns:
        The test accuracy of the epoch that was best in validation.
    """
    how = {"epochs": epochs, "rate": rates.cosine(epochs), "divide_by": slower, "autocast": autocast}
    return trained(model, task, seed, **how)
