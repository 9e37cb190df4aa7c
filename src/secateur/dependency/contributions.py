"""By how much each unit makes an integer of the model larger."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from secateur.dependency.facets import along
from secateur.dependency.groups import Coupled
from secateur.dependency.labels import Numbers
from secateur.dependency.record import SizeUse
from secateur.dependency.resize import Cut
from secateur.dependency.rewrites import asked, before, to_the_end
from secateur.dependency.solver import Solution
from secateur.units import Attribute


def contributions(model: nn.Module, solution: Solution, groups: Sequence[Coupled]) -> list[dict[Attribute, Numbers]]:
    """The attributes of a model that count the units of groups.

    Every size is a number of positions that stay, so an attribute loses as much as each unit that leaves has there.

    Args:
        model: The model that was recorded.
        solution: The labels, fitted to the model.
        groups: Its groups.

    Returns:
        For every group the attributes that change with it, with an integer for each unit.
    """
    found: list[dict[Attribute, Numbers]] = [{} for _ in groups]
    none = Cut(solution, np.empty(0, np.int64))
    owner = np.repeat(np.arange(len(groups)), [len(group.roots) for group in groups])
    starts = np.searchsorted(owner, np.arange(len(groups) + 1))
    unit_of = _units(solution, groups)
    for use in asked(solution.record):
        if not isinstance(use.expression, Attribute) or to_the_end(model, none, use):
            continue
        counts = _counts(model, solution, unit_of, none, use)
        for at in np.unique(owner[np.flatnonzero(counts)]):
            found[at].setdefault(use.expression, counts[starts[at] : starts[at + 1]].copy())
    return found


def _units(solution: Solution, groups: Sequence[Coupled]) -> Numbers:
    """The unit of every label, those of all groups one after another; -1 where there is none."""
    found = np.full(len(solution.partition.labels) + 1, -1)  # the last one answers for what is fixed
    roots = np.concatenate([np.empty(0, np.int64), *(group.roots for group in groups)])
    found[roots] = np.arange(len(roots))
    return found


def _counts(model: nn.Module, solution: Solution, unit_of: Numbers, none: Cut, use: SizeUse) -> Numbers:
    """Positions of each unit in what an integer counts."""
    units, old = unit_of[_labels(solution, use)], before(model, none, use)
    sign = 1
    if use.kind in ("start", "stop"):
        sign, units = (1, units[:old]) if old >= 0 else (-1, units[old:])  # counted from the end: nearer to 0
    if use.kind in ("groups", "heads") and len(units):
        units = _whole(units, old)
    if use.kind == "repeat" and old != solution.record.values[use.value].shape[use.dim]:
        units = units[:0]
    return sign * np.bincount(units[units >= 0], minlength=unit_of.max() + 1).astype(np.int64)


def _labels(solution: Solution, use: SizeUse) -> Numbers:
    for facet in solution.values[use.value].facets:
        if along(facet.core) == {use.dim}:
            return solution.partition.seen(facet.core).ravel()
    return np.empty(0, np.int64)


def _whole(units: Numbers, groups: int) -> Numbers:
    """The unit of each group that leaves as a whole; -1 for the others, of which every one loses the same channels."""
    cut = units.reshape(groups, -1)
    return np.where((cut == cut[:, :1]).all(1), cut[:, 0], -1)
