"""Magnitude: small weights matter little."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from secateur.criteria.criterion import Criterion, elementwise
from secateur.errors import SecateurError


def magnitude(p: float = 2) -> Criterion:
    """The Lp norm of a unit's weights.

    `score(u) = (sum over w in u of |w|^p)^(1/p)`; `p = inf` is the largest magnitude; for a single weight all are
    `|w|`.

    Args:
        p: Order of the norm, above 0: 1 for L1, 2 for L2, `math.inf`.

    Returns:
        Criterion: scores `(n_units,)`, in the unit of the weights.

    Raises:
        SecateurError: `p` is not above 0.

    Reference:
        Han et al. (2015), Learning both Weights and Connections (single weights); Li et al. (2017), Pruning Filters for
        Efficient ConvNets (L1 of filters); Wen et al. (2016), Learning Structured Sparsity (L2 of groups).

    Example:
        The textbook neuron y = ReLU(10 x0 - 8 x1 + 0.1 x2): its smallest weight scores lowest.

        >>> from secateur.criteria import Group
        >>> from secateur.granularity import weight
        >>> neuron = torch.nn.Linear(3, 1, bias=False)
        >>> _ = neuron.weight.data.copy_(torch.tensor([[10.0, -8.0, 0.1]]))
        >>> units = weight()(neuron)["weight"]
        >>> magnitude().score(Group("weight", units, {("weight", None): neuron.weight.detach()}))
        tensor([10.0000,  8.0000,  0.1000])
    """
    if not p > 0:
        raise SecateurError(f"the order p of a norm is above 0 (1, 2, math.inf); given: {p}")
    name = f"magnitude(p={p:g})"
    if math.isinf(p):
        return elementwise(torch.abs, name=name, within="max")
    return elementwise(partial(_power, p=p), name=name, finish=partial(_root, p=p), alone=torch.abs)


def _power(weights: Tensor, p: float) -> Tensor:
    """Powers in double precision, where those of single-precision weights neither overflow nor vanish for usual p."""
    weights = weights if p == 1 else weights.double()
    return weights.abs() if p == 1 else weights.square() if p == 2 else weights.abs().pow(p)


def _root(sums: Tensor, p: float) -> Tensor:
    return sums if p == 1 else sums.sqrt() if p == 2 else sums.pow(1 / p)
