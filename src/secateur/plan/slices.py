"""Slices that a plan takes out of tensors, where its units are slices along an axis."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from secateur.index_maps import Embedded, IndexMap
from secateur.plan.part import Part, overlapping
from secateur.units import ParameterAxis

Stays = dict[ParameterAxis, Tensor]
"""Of parameters and buffers along an axis: whether each position stays, bool."""


def stays(parts: Iterable[Part]) -> Stays:
    """What stays along each parameter axis of which slices leave; several parts may take from one.

    Args:
        parts: Of a plan; those whose weights leave one by one say nothing here.

    Returns:
        A bool for each position.

    Example:
        >>> from secateur.index_maps import Arange
        >>> from secateur.units import Units
        >>> axis = ParameterAxis("fc.weight", 0)
        >>> rows = Units({axis: Arange((2, 3), repeat=(1, 3))}, Arange((2,), repeat=(2,)), {axis: "out"})
        >>> stays([Part("fc", rows, torch.tensor([True, False]))])
        {ParameterAxis(parameter='fc.weight', axis=0): tensor([ True, False])}
    """
    found: Stays = {}
    for part in parts:
        if bool(part.keep.all()):
            continue
        decided = torch.cat([part.keep.cpu(), torch.ones(1, dtype=torch.bool)])  # -1: of no unit, stays
        for axis, index in (*part.units.index.items(), *part.units.beside.items()):
            if axis.axis is not None:
                stay = decided[along(index, axis.axis)]
                found[axis] = stay & found[axis] if axis in found else stay
    return found


def fixed_patterns(parts: Iterable[Part]) -> list[ParameterAxis]:
    """Along which axes fixed patterns lie, such as 2 of every 4 consecutive inputs: a slice less would shift them.

    Args:
        parts: Of a plan.

    Returns:
        The axes of those that remove something; none for patterns that overlap, which lie within kernels.

    Example:
        >>> from secateur.granularity import pattern
        >>> units = pattern(1, 2)(torch.nn.Linear(4, 3))["weight"]
        >>> fixed_patterns([Part("fc", units, torch.tensor([True, False]).repeat(6))])
        [ParameterAxis(parameter='weight', axis=1)]
    """
    found = []
    for part in parts:
        if part.units.keep_per_scope is not None and not bool(part.keep.all()) and not overlapping(part.units):
            for axis, index in part.units.index.items():
                inner = index.inner if isinstance(index, Embedded) else index  # neighbours in what was planned on
                scope = part.units.scope.numbers().cpu()[inner.numbers().cpu()]
                found += [ParameterAxis(axis.parameter, dim) for dim in range(scope.ndim) if _shared(scope, dim)]
    return found


def _shared(scope: Tensor, dim: int) -> bool:
    """Whether neighbours along an axis are in one scope."""
    one, other = scope.narrow(dim, 0, scope.shape[dim] - 1), scope.narrow(dim, 1, scope.shape[dim] - 1)
    return bool((one == other).any())


def along(index: IndexMap, axis: int) -> Tensor:
    """The unit of each position along an axis, of units that are slices along it.

    Args:
        index: Of a parameter.
        axis: Which axis.

    Returns:
        int64, as many as the parameter has positions there; -1 for those of no unit.

    Example:
        >>> from secateur.index_maps import Stored
        >>> rows = Stored((2, 3), torch.tensor([[0], [1]]), 2)
        >>> along(Embedded(rows, (3, 3), (torch.tensor([0, 2]), torch.arange(3))), 0)
        tensor([ 0, -1,  1])
    """
    if isinstance(index, Embedded):
        units = torch.full((index.shape[axis],), -1)
        units[index.kept[axis]] = along(index.inner, axis)
        return units
    units = index.numbers().cpu()
    for dim in reversed(range(units.ndim)):
        if dim != axis:
            units = units.select(dim, 0)
    return units.expand(index.shape[axis])
