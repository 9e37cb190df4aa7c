"""What collectors are given: a batch that has gone through the model, and a way to run the model again unseen."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from secateur.errors import DataError

_AGAIN: ContextVar[bool] = ContextVar("the model runs again", default=False)


@dataclass(frozen=True)
class Batch:
    """A batch that has just gone through the model.

    Args:
        inputs: What the model was called with.
        targets: What the loss was given beside the outputs.
        outputs: What the model returned.
        samples: How many samples it has.
        loss: Loss of the batch, a scalar; None where no statistic wants one.
        loss_of: From outputs and targets to the loss.

    Example:
        >>> Batch(torch.ones(2, 1), None, torch.tensor([[1.0], [3.0]]), 2).outputs.shape
        torch.Size([2, 1])
    """

    inputs: Any
    targets: Any
    outputs: Any
    samples: int
    loss: Tensor | None = None
    loss_of: Callable[[Any, Any], Tensor] | None = None


@contextmanager
def running_again() -> Generator[None, None, None]:
    """While a collector runs the model once more on a batch, the hooks of the others do not count it.

    Yields:
        Nothing.

    Example:
        >>> with running_again():
        ...     counted_already()
        True
        >>> counted_already()
        False
    """
    token = _AGAIN.set(True)
    try:
        yield
    finally:
        _AGAIN.reset(token)


def counted_already() -> bool:
    """Whether what runs now was counted before: a hook that adds up what it sees asks this first.

    Returns:
        True while a collector runs the model once more.
    """
    return _AGAIN.get()


def loss_in(batch: Batch, kind: str, parameters: object) -> Tensor:
    """The loss of a batch, if gradients can be taken of it.

    Args:
        batch: The batch.
        kind: The statistic, for the message.
        parameters: Those that require gradients; empty: none.

    Returns:
        The loss.

    Raises:
        DataError: There is no loss, or none that depends on the parameters.
    """
    loss = batch.loss
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad or not parameters:
        raise DataError(
            f"{kind} need of every batch a loss, one number, as a tensor that depends on parameters that "
            "require gradients: return the loss itself, not loss.item(), and freeze no parameter that is pruned"
        )
    return loss


def wide(values: Tensor) -> Tensor:
    """Values in single precision at least.

    Args:
        values: Floating point.

    Returns:
        The values, detached.

    Example:
        >>> wide(torch.ones(1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return values.detach().to(torch.promote_types(values.dtype, torch.float32))
