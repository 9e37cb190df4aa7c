"""Sizes that the code computes from other sizes, as unions: what the one dimension loses, the other loses too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from secateur.dependency.facets import Facet, Labelled, along
from secateur.dependency.labels import Numbers
from secateur.dependency.partition import FIXED, Partition, Reason

Place = tuple[int, int]  # number of a value, dimension


@dataclass(frozen=True)
class Binding:
    """Positions of one dimension that leave with the positions of a run of others.

    The run is laid out flat, so that heads and places within a head, `(3, 4)`, meet a width of 12: where whole heads
    leave, so do blocks of the width. A run that is longer meets it as often as it fits, as 36 rows that make queries,
    keys and values of a width of 12.

    Args:
        width: The dimension.
        number: Of the value that has the run.
        dims: The run, rising.
    """

    width: Place
    number: int
    dims: tuple[int, ...]


def bound(
    partition: Partition, binding: Binding, values: Mapping[int, Labelled], reason: Reason
) -> dict[int, Labelled]:
    """Carry out a binding; where one side has no labels, the other is fixed.

    Args:
        partition: The labels.
        binding: What leaves together.
        values: The labels of both values, by number.
        reason: Why something would be fixed.

    Returns:
        The labels of both after that.
    """
    (number, dim), other = binding.width, binding.number
    width = _one_facet(partition, values[number], (dim,), reason)
    run = _one_facet(partition, values[other] if other != number else width, binding.dims, reason)
    one, several = _facet(width, (dim,)), _facet(run, binding.dims)
    if one is None or several is None:
        width, run = partition.fix(width, [dim], reason), partition.fix(run, binding.dims, reason)
    else:
        labels = flat(one.core, width.shape, (dim,))
        partition.unite(labels[:1], labels)
        partition.unite(labels[:1], flat(several.core, run.shape, binding.dims).reshape(-1, labels.shape[1]))
    return {number: partition.normal(width), other: partition.normal(run)}


def can_bind(partition: Partition, binding: Binding, values: Mapping[int, Labelled] | tuple[Labelled, ...]) -> bool:
    """Whether both sides have something that may leave.

    Args:
        partition: The labels.
        binding: What would leave together.
        values: The labels of all values, by number.

    Returns:
        Whether a binding would do anything but fix.
    """
    sides = ((values[binding.width[0]], (binding.width[1],)), (values[binding.number], binding.dims))
    return all(_free(partition, *side) for side in sides)


def flat(core: Numbers, shape: tuple[int, ...], dims: tuple[int, ...]) -> Numbers:
    """The labels of a run of dimensions, position by position.

    Args:
        core: Of a facet.
        shape: Of the tensor.
        dims: The run.

    Returns:
        A row for each position along the other dimensions along which the core varies.

    Example:
        Three heads of two places:

        >>> flat(np.array([[[7], [8], [9]]]), (5, 3, 2), (1, 2)).tolist()
        [[7, 7, 8, 8, 9, 9]]
    """
    sizes = [shape[dim] if dim in dims else size for dim, size in enumerate(core.shape)]
    moved = np.moveaxis(np.broadcast_to(core, sizes), dims, range(-len(dims), 0))
    return moved.reshape(-1, int(np.prod([shape[dim] for dim in dims])))


def _one_facet(partition: Partition, given: Labelled, dims: tuple[int, ...], reason: Reason) -> Labelled:
    """A run that has labels of heads and labels of places keeps those of heads."""
    given = partition.normal(given)
    inside = sorted(min(found) for one in given.facets if (found := along(one.core) & set(dims)))
    return partition.fix(given, inside[1:], reason) if len(inside) > 1 else given


def _facet(given: Labelled, dims: tuple[int, ...]) -> Facet | None:
    return next((one for one in given.facets if along(one.core) & set(dims)), None)


def _free(partition: Partition, given: Labelled, dims: tuple[int, ...]) -> bool:
    return any(bool((partition.seen(one.core) != FIXED).any()) for one in given.facets if along(one.core) & set(dims))
