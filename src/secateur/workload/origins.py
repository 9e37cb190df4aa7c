"""Sizes that know which slices of parameters they count, so that they can follow a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.dependency import Solution
from secateur.dependency.facets import along
from secateur.dependency.groups import slots
from secateur.dependency.partition import FIXED
from secateur.units import ParameterAxis

Positions = NDArray[np.int32]
Origin = tuple[tuple[ParameterAxis, Positions], ...]
Stays = Mapping[ParameterAxis, NDArray[np.bool_]]
"""For each parameter axis that loses something, a bool for each of its positions."""


class Extent(int):
    """The size of a dimension of which something may leave; in all else it is the plain integer.

    Args:
        value: The size.
        origin: Pairs of a parameter axis and, for each position of the dimension, the position of that axis with which
            it leaves, -1 for none.

    Example:
        Two channels of 2 positions each, of which the second leaves:

        >>> axis = ParameterAxis("conv.weight", 0)
        >>> size = Extent(4, ((axis, np.array([0, 0, 1, 1], np.int32)),))
        >>> size, size.without({axis: np.array([True, False])})
        (4, 2)
    """

    origin: Origin

    def __new__(cls, value: int, origin: Origin = ()) -> Extent:
        """Make one; what makes an `int` is not `__init__`.

        Returns:
            The size.
        """
        made = super().__new__(cls, value)
        made.origin = origin
        return made

    def without(self, stays: Stays) -> Extent:
        """The size after slices of parameters have left.

        Args:
            stays: What stays of each parameter axis; all of those not named.

        Returns:
            A size that follows the next plan, made on the smaller model.
        """
        if not any(axis in stays for axis, _ in self.origin):
            return self
        kept = np.ones(int(self), np.bool_)
        for axis, positions in self.origin:
            if axis in stays:
                kept &= stays[axis][positions] | (positions < 0)
        origin = tuple((axis, _renumbered(positions[kept], stays.get(axis))) for axis, positions in self.origin)
        return Extent(int(kept.sum()), origin)


def _renumbered(positions: Positions, stays: NDArray[np.bool_] | None) -> Positions:
    if stays is None:
        return positions
    place = np.cumsum(stays, dtype=np.int32) - 1
    return np.where(positions < 0, np.int32(-1), place[positions]).astype(np.int32)


class Origins:
    """From the labels of a solution to sizes: every label is found again at its first place in a parameter."""

    def __init__(self, solution: Solution) -> None:
        """Look up where each label comes up first.

        Args:
            solution: The labels.
        """
        self.solution = solution
        self._axes: list[ParameterAxis] = []
        count = len(solution.partition.labels)
        self._axis = np.full(count, -1, np.int32)  # by label: the parameter axis, and the position there
        self._position = np.full(count, -1, np.int32)
        self._known: dict[Any, Extent] = {}
        for slot, roots in slots(solution):
            if solution.record.values[slot.number].source == "parameter":
                self._place(ParameterAxis(slot.name, slot.dim), roots)

    def _place(self, axis: ParameterAxis, roots: NDArray[np.int64]) -> None:
        new = np.flatnonzero((roots != FIXED) & (self._axis[roots] < 0))[::-1]  # the first position is written last
        if len(new):
            self._axis[roots[new]] = len(self._axes)
            self._position[roots[new]] = new
            self._axes.append(axis)

    def shape(self, number: int) -> tuple[int, ...]:
        """The shape of a value of the record.

        Args:
            number: Of the value.

        Returns:
            Its sizes, an `Extent` wherever something may leave.
        """
        sizes = list(self.solution.record.values[number].shape)
        found: dict[int, list[NDArray[np.int64]]] = {}
        for facet in self.solution.values[number].facets:
            dims = along(facet.core)
            if len(dims) == 1:
                found.setdefault(next(iter(dims)), []).append(self.solution.partition.seen(facet.core).ravel())
        for dim, labels in found.items():
            sizes[dim] = self._extent(sizes[dim], labels)
        return tuple(sizes)

    def _extent(self, size: int, labels: list[NDArray[np.int64]]) -> int:
        """One object for all dimensions that count the same slices, so that each is resized once."""
        key = (size, *(one.tobytes() for one in labels))
        if key not in self._known:
            self._known[key] = Extent(size, tuple(pair for one in labels for pair in self._origin(one)))
        found = self._known[key]
        return found if found.origin else size

    def _origin(self, labels: NDArray[np.int64]) -> Origin:
        axes = np.where(labels == FIXED, -1, self._axis[labels])
        positions = self._position[labels]
        return tuple(
            (self._axes[axis], np.where(axes == axis, positions, np.int32(-1)).astype(np.int32))
            for axis in np.unique(axes[axes >= 0]).tolist()
        )
