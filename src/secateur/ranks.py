"""Several processes that train one model together: who they are, and how they agree.

Without `torch.distributed`, or before it is initialised, there is one rank, and every function here does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from secateur.batches import samples_in
from secateur.errors import RunError

T = TypeVar("T")


def count() -> int:
    """How many processes there are.

    Returns:
        1 or more.

    Example:
        >>> count(), rank()
        (1, 0)
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is.

    Returns:
        From 0; the first is the one that writes files and speaks.
    """
    return dist.get_rank() if count() > 1 else 0


def wait() -> None:
    """Go on when every rank has come here."""
    if count() > 1:
        dist.barrier()


def gathered(value: T) -> list[T]:
    """The values of all ranks.

    Args:
        value: Of this one.

    Returns:
        One for each rank, in order.

    Example:
        >>> gathered(3)
        [3]
    """
    if count() == 1:
        return [value]
    found: list[Any] = [None] * count()
    dist.all_gather_object(found, value)
    return found


def agreed(value: T) -> T:
    """The value of the first rank, on every rank, so that all decide alike.

    Args:
        value: Of this one.

    Returns:
        That of the first.
    """
    if count() == 1:
        return value
    holder = [value]
    dist.broadcast_object_list(holder, src=0)
    return holder[0]


def mean(value: float, weight: float, device: torch.device) -> float:
    """The mean of a number over ranks, each with a weight.

    Args:
        value: Of this rank.
        weight: Of this rank.
        device: Where the ranks exchange tensors.

    Returns:
        The sum of weight times value over the sum of weights, the same on every rank.
    """
    if count() == 1:
        return value
    sums = torch.tensor([value * weight, weight], dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return float(sums[0] / sums[1])


def weight_of(samples: int, device: torch.device) -> float:
    """What the loss of this rank's samples is multiplied by, so that the mean over ranks is the mean over samples.

    Args:
        samples: Of this rank, in this step.
        device: Where the ranks exchange tensors.

    Returns:
        The samples of this rank over the mean number of a rank: 1 where all have as many.
    """
    return samples / mean(float(samples), 1.0, device)


def joined(model: nn.Module) -> nn.Module:
    """A model whose backward pass averages the gradients over ranks, around the very parameters of this one.

    Args:
        model: The model; its parameters and buffers become those of the first rank.

    Returns:
        The model itself where there is one rank.
    """
    return model if count() == 1 else DistributedDataParallel(model)


def same_buffers(model: nn.Module) -> None:
    """Make running statistics, which each rank has taken of its own samples, those of the first rank.

    Args:
        model: Changed in place.
    """
    if count() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def by_first(work: Callable[[], T]) -> T:
    """What the first rank's work returns, on every rank; where it fails, every rank fails.

    Args:
        work: Done by the first rank only.

    Returns:
        Its result.

    Raises:
        RunError: On the other ranks, with the first rank's words.
    """
    if count() == 1:
        return work()
    result: Any = None
    error: BaseException | None = None
    if rank() == 0:
        try:
            result = work()
        except Exception as failure:
            error = failure
    result, words = agreed((result, None if error is None else str(error)))
    if error is not None:
        raise error
    if words is not None:
        raise RunError(words)
    return result  # type: ignore[no-any-return]


def share(value: Any) -> Any:
    """This rank's samples of a batch that all ranks hold: every n-th, n being the number of ranks.

    A batch with fewer samples than ranks is not divided: every rank has all of it, which gives the same mean.

    Args:
        value: A batch: tensors, also in tuples, lists and dicts, with the samples along the first dimension.

    Returns:
        The same structure.
    """
    if count() == 1 or samples_in(value) < count():
        return value
    return _part(value)


def _part(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value[rank() :: count()]
    if isinstance(value, Mapping):
        return {key: _part(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        parts = [_part(inner) for inner in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value
