"""What two processes do that train together; run by `test_ranks.py`, one process a rank."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import secateur as sc
from secateur import allocation, criteria, granularity, ranks
from secateur.state import save_state
from secateur.tasks import Task
from secateur.training import finetune, l2, rates, sgd
from secateur.workflow import Numerics, PruneJob, Recovery, open_run, prune_task
from tests.tiny import tiny


def in_double(batch_size: int = 16, network: Callable[[], nn.Module] | None = None) -> Task:
    """The tiny task in double precision, so that rounding decides nothing."""
    task = tiny()
    wide = {
        split: TensorDataset(getattr(task, split).tensors[0].double(), getattr(task, split).tensors[1])
        for split in ("train", "validation", "test")
    }
    make = network or task.model
    return replace(task, **wide, model=lambda: make().double(), batch_size=batch_size)


JOBS: dict[str, tuple[int, Recovery, int]] = {
    # batches of 16 and of 9: the last of 64 samples has 1, which cannot be divided, the others are uneven
    "one shot": (16, Recovery(epochs=2), 1),
    "uneven": (9, Recovery(epochs=2), 1),
    "cubic": (16, Recovery("cubic", epochs=3), 1),
    "accumulated": (8, Recovery("cubic", epochs=3), 2),
    "rounds with rewound weights": (16, Recovery("iterative", (0.5, 0.8), epochs=1, rewind="weights"), 1),
    "distilled": (16, Recovery(epochs=2, distill=0.5), 1),
}


def pruned(folder: Path, name: str) -> dict[str, Any]:
    batch_size, recovery, accumulate = JOBS[name]
    pruner = sc.Pruner(criteria.magnitude(), granularity.weight(), allocation.global_())
    job = PruneJob(pruner, sc.Budget(sparsity=0.8), recovery, numerics=Numerics(accumulate=accumulate))
    return prune_task(in_double(batch_size), job, open_run(folder, {}, resume=True), say=lambda _: None, progress=False)


def dropping() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.BatchNorm1d(12), nn.Dropout(0.5), nn.Linear(12, 2))


def trained(path: Path | None, *, stop_after: int | None = None) -> dict[str, torch.Tensor]:
    """Dropout and batch norm, which differ from rank to rank, and a sampler that deals them different samples."""
    torch.manual_seed(ranks.rank())  # the first rank's weights win
    task = in_double(network=dropping)
    model, data = task.model(), task.train
    sampler: DistributedSampler[Any] = DistributedSampler(data, ranks.count(), ranks.rank(), seed=3)
    batches = DataLoader(data, 8, sampler=sampler)
    orders.clear()

    def on_epoch(history: Any) -> None:
        orders.append(list(sampler))
        if len(history.losses) == stop_after:
            raise KeyboardInterrupt

    finetune(
        model,
        batches,
        task.loss,
        learning_rate=0.1,
        divide_by=1,
        epochs=4,
        rate=rates.cosine(4),
        regularizer=l2(1e-3),
        validate=lambda _: torch.rand(1).item() + ranks.rank(),
        checkpoint=path,
        resume=True,
        progress=False,
        on_epoch=on_epoch,
        optimizer=sgd,
    )
    return model.state_dict()


orders: list[list[int]] = []


def failing() -> str:
    def work() -> None:
        raise ValueError("the first rank's words")

    try:
        ranks.by_first(work)
    except (ValueError, sc.RunError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def disagreeing() -> float:
    """A loss that is not finite on one rank."""
    model = nn.Linear(1, 1).double()
    loss = (lambda y, _: y.sum() * float("nan")) if ranks.rank() else (lambda y, _: y.sum())
    try:
        finetune(model, [(torch.ones(2, 1).double(), None)], loss, learning_rate=0.1, epochs=1, progress=False)
    except sc.RunError:
        return 1.0
    return 0.0


def held_masks() -> list[torch.Tensor]:
    """Two ranks prune while they train, each on its own samples, by the gradients they share."""
    torch.manual_seed(0)
    model = nn.Linear(6, 4).double()
    criterion = criteria.elementwise(lambda weight, gradient: (weight * gradient).abs(), needs=("gradient",))
    pruner = sc.Pruner(criterion, granularity.weight(), allocation.global_())
    hook = sc.GradualPruning(model, pruner, sc.Budget(sparsity=0.75), sc.schedules.linear(1, 6))
    own = torch.Generator().manual_seed(ranks.rank())
    shapes = [((5, 6), (5, 4))] * 4
    data = [tuple(torch.randn(shape, generator=own, dtype=torch.double) for shape in pair) for pair in shapes]
    finetune(model, data, nn.functional.mse_loss, learning_rate=0.1, epochs=2, hook=hook, progress=False)
    return [mask for _, mask in sorted(hook.plan.masks().items())] + [model.weight.detach()]


def main(place: Path, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place / 'meeting'}", rank=rank, world_size=2)
    found: dict[str, Any] = {}
    for name in JOBS:
        results = pruned(place / "two" / name, name)
        found[name] = {"accuracy": results["accuracy"], "losses": results["history"]["losses"]}
    found["whole"] = trained(place / "whole.safetensors")
    found["orders"] = [list(order) for order in orders]
    try:
        trained(place / "parts.safetensors", stop_after=2)
    except KeyboardInterrupt:
        found["parts"] = trained(place / "parts.safetensors")
    found["failing"], found["disagreeing"], found["masks"] = failing(), disagreeing(), held_masks()
    found["rank"] = (ranks.rank(), ranks.count(), ranks.gathered(rank), ranks.agreed(rank))
    found["mean"] = ranks.mean(float(rank + 1), float(rank + 1), torch.device("cpu"))
    save_state(place / f"rank-{rank}.safetensors", found)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
