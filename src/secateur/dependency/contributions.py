"""By how much each unit makes an integer of the model larger."""

from __future__ import annotations

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


def contributions(model: nn.Module, solution: Solution, group: Coupled) -> dict[Attribute, Numbers]:
    """The attributes of a model that count a group's units.

    Every size is a number of positions that stay, so an attribute loses as much as each unit that leaves has there.

    Args:
        model: The model that was recorded.
        solution: The labels, fitted to the model.
        group: One of its groups.

    Returns:
        For each attribute an integer for each unit; only attributes that change.
    """
    found: dict[Attribute, Numbers] = {}
    none = Cut(solution, np.empty(0, np.int64))
    for use in asked(solution.record):
        if not isinstance(use.expression, Attribute) or use.expression in found or to_the_end(model, none, use):
            continue
        counts = _counts(model, solution, group, none, use)
        if counts is not None and counts.any():
            found[use.expression] = counts
    return found


def _counts(model: nn.Module, solution: Solution, group: Coupled, none: Cut, use: SizeUse) -> Numbers | None:
    """Positions of each unit in what an integer counts."""
    labels = _labels(solution, use)
    if labels is None:
        return None
    order = np.argsort(group.roots)
    at = np.minimum(np.searchsorted(group.roots[order], labels), len(order) - 1)
    units = np.where(group.roots[order][at] == labels, order[at], -1)
    sign = 1
    if use.kind in ("start", "stop"):
        bound = before(model, none, use)
        sign, units = (1, units[:bound]) if bound >= 0 else (-1, units[bound:])  # counted from the end: nearer to 0
    if use.kind == "groups":
        units = _whole(units, before(model, none, use))
    if use.kind == "repeat" and before(model, none, use) != solution.record.values[use.value].shape[use.dim]:
        return None
    return sign * np.bincount(units[units >= 0], minlength=len(group.roots)).astype(np.int64)


def _labels(solution: Solution, use: SizeUse) -> Numbers | None:
    for facet in solution.values[use.value].facets:
        if along(facet.core) == {use.dim}:
            return solution.partition.seen(facet.core).ravel()
    return None


def _whole(units: Numbers, groups: int) -> Numbers:
    """The unit of each group that leaves as a whole; -1 for the others, of which every one loses the same channels."""
    cut = units.reshape(groups, -1)
    return np.where((cut == cut[:, :1]).all(1), cut[:, 0], -1)
