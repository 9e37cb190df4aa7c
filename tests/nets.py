"""Small models, and layers of every kind, for tests of units, criteria, allocations and statistics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from secateur.index_maps import Arange, IndexMap
from secateur.units import ParameterAxis, Units

WEIGHT = ParameterAxis("weight")

# Every kind of prunable layer, four or eight input channels per group.
LAYERS = {
    "linear": lambda: nn.Linear(8, 3),
    "conv1d": lambda: nn.Conv1d(4, 3, 5),
    "conv2d": lambda: nn.Conv2d(8, 3, (2, 3)),
    "conv3d": lambda: nn.Conv3d(4, 2, (1, 2, 3)),
    "grouped": lambda: nn.Conv2d(8, 6, 3, groups=2),
    "transposed1d": lambda: nn.ConvTranspose1d(8, 3, 2),
    "transposed2d": lambda: nn.ConvTranspose2d(4, 3, (2, 3)),
    "transposed3d": lambda: nn.ConvTranspose3d(4, 2, (1, 2, 2)),
    "transposed grouped": lambda: nn.ConvTranspose2d(8, 6, 3, groups=2),
}


def layer(kind: str, seed: int = 0) -> Any:
    """One of `LAYERS`, with weights drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LAYERS[kind]()


class Tied(nn.Module):
    """Encoder and decoder of one weight, as in a language model."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.second(self.first(x)))


def one_scope(n: int, scope: IndexMap | None = None, keep: int | None = None, frozen: str = "") -> Units:
    """Units of one weight each, in one scope unless given."""
    return Units({WEIGHT: Arange((n,))}, scope or Arange((n,), repeat=(n,)), {WEIGHT: "out"}, keep, frozen)


def numbers(units: Units) -> Tensor:
    """The integers of a group's first parameter axis."""
    return next(iter(units.index.values())).numbers()
