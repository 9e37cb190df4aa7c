"""A task that notes what is done with it, and runs of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import secateur as sc
from secateur.tasks import Task
from secateur.training import sgd
from secateur.workflow import Dense, PruneJob, Recovery, open_run, prune_task
from tests.runs import bits
from tests.small import pruner
from tests.tiny import tiny

STEPS = 4  # batches in an epoch of the task
DENSE = Dense(epochs=3)
LEFT = ("dense.safetensors", "plan.safetensors", "weights.safetensors")


@dataclass
class Spy:
    """A task that notes what is done with it, one list for each time that an optimizer is built."""

    task: Task
    first: list[dict[str, Tensor]] = field(default_factory=list)  # weights when the optimizer is built
    rates: list[list[float]] = field(default_factory=list)
    decays: list[float] = field(default_factory=list)
    kinds: list[set[torch.dtype]] = field(default_factory=list)  # of the outputs that the loss is taken of

    def spied(self) -> Task:
        return replace(self.task, optimizer=self._optimizer, loss=self._loss)

    def _optimizer(self, parameters: list[nn.Parameter], rate: float) -> Optimizer:
        made = sgd(parameters, rate)
        names = [name for name, _ in self.task.model().named_parameters()]
        self.first.append({name: p.detach().clone() for name, p in zip(names, parameters, strict=True)})
        self.rates.append(rates := [])
        self.kinds.append(set())
        self.decays.append(math.nan)

        def before(*_: Any) -> None:
            rates.append(made.param_groups[0]["lr"])
            self.decays[-1] = made.param_groups[0]["weight_decay"]

        made.register_step_pre_hook(before)
        return made

    def _loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.kinds[-1].add(outputs.dtype)
        return self.task.loss(outputs, targets)


def job(recovery: Recovery, criterion: sc.Criterion | None = None, **more: Any) -> PruneJob:
    sparsity = recovery.levels[-1] if recovery.levels else 0.8
    return PruneJob(pruner(criterion=criterion), sc.Budget(sparsity=sparsity), recovery, **{"dense": DENSE, **more})


def run(path: Path, asked: PruneJob, task: Task | None = None, *, resume: bool = False) -> dict[str, Any]:
    folder = open_run(path, {"a": 1}, resume=resume)
    return prune_task(task or tiny(), asked, folder, say=lambda _: None, progress=False)


def measured(results: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in results.items() if key not in ("seconds", "created")}


def masked(weights: dict[str, Tensor], plan: sc.Plan) -> Any:
    masks = plan.masks()
    return bits({name: w.masked_fill(~masks[name], 0) if name in masks else w for name, w in weights.items()})
