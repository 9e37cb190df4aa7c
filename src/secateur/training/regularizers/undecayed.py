"""An optimizer without its weight decay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer


def undecayed(optimizer: Callable[[list[nn.Parameter], float], Optimizer]) -> _Undecayed:
    """The same optimizer without weight decay, for a run whose loss has a penalty of its own.

    Args:
        optimizer: Of (parameters, learning rate).

    Returns:
        Of the same; the weight decay of every group is 0.

    Example:
        >>> import torch
        >>> from secateur.training import sgd
        >>> undecayed(sgd)([nn.Parameter(torch.zeros(1))], 0.1).param_groups[0]["weight_decay"]
        0
    """
    return _Undecayed(optimizer)


@dataclass(frozen=True)
class _Undecayed:
    optimizer: Callable[[list[nn.Parameter], float], Optimizer]

    def __call__(self, parameters: list[nn.Parameter], learning_rate: float) -> Optimizer:
        built = self.optimizer(parameters, learning_rate)
        for group in built.param_groups:
            group["weight_decay"] = 0
        return built
