"""Random scores: the baseline that every criterion has to beat."""

from __future__ import annotations

import zlib
from functools import partial

import torch
from torch import Tensor

from secateur.criteria.criterion import Criterion, Group


def random(seed: int = 0) -> Criterion:
    """Uniform random scores, the same for the same seed and group name; the global generator is not touched.

    `score(u) ~ U[0, 1)`

    Args:
        seed: Any integer.

    Returns:
        Criterion: scores `(n_units,)`.

    Reference:
        Mittal, Bhardwaj, Khapra, Ravindran (2018), Recovering from Random Pruning.

    Example:
        >>> from secateur.granularity import weight
        >>> fc = torch.nn.Linear(4, 4)
        >>> group = Group("weight", weight()(fc)["weight"], {("weight", None): fc.weight.detach()})
        >>> bool((random(1).score(group) == random(1).score(group)).all())
        True
    """
    return Criterion(f"random(seed={seed})", partial(_score, seed=seed))


def _score(group: Group, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{group.name}".encode()))
    device = next(iter(group.parameters.values())).device
    return torch.rand(group.units.n_units, generator=generator).to(device)
