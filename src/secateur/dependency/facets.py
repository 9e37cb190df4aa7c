"""Facets: which label each position of a tensor carries, stored as small arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from secateur.dependency.labels import Numbers

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Facet:
    """One label for every position of a tensor.

    Args:
        core: As many dimensions as the tensor; each of the tensor's size, or 1 where the label does not depend on it.
        zero: Whether the tensor is zero wherever the label's parameters are masked; it is lost, for example, when a
            number is added.
        loose: Whether nobody stores what it labels: constants, tables, repeated dimensions.
    """

    core: Numbers
    zero: bool
    loose: bool = False


@dataclass(frozen=True)
class Labelled:
    """The facets of a tensor.

    A position leaves if one of its labels does. A dimension of size > 1 along which no facet varies is fixed.

    Args:
        shape: Of the tensor.
        facets: No two vary along the same dimension once all is solved.
        dtype: Of the tensor, where it is an argument of an operation.
    """

    shape: Shape
    facets: tuple[Facet, ...] = ()
    dtype: torch.dtype | None = None


def along(core: Numbers) -> frozenset[int]:
    """Dimensions along which a core varies.

    Args:
        core: Of a facet, without needless dimensions.

    Returns:
        The dimensions.
    """
    return frozenset(dim for dim, size in enumerate(core.shape) if size != 1)


def axis_core(labels: Numbers, dim: int, dims: int) -> Numbers:
    """Labels along one dimension as a core.

    Args:
        labels: `(n,)`.
        dim: Of the tensor.
        dims: How many dimensions it has.

    Returns:
        A view with `dims` dimensions.
    """
    return labels.reshape((1,) * dim + (-1,) + (1,) * (dims - dim - 1))


def aligned(given: Labelled, dims: int) -> Labelled:
    """A tensor as broadcasting sees it, with dimensions of size 1 in front.

    Args:
        given: A tensor of at most `dims` dimensions.
        dims: How many it shall have.

    Returns:
        The same labels.
    """
    front = (1,) * (dims - len(given.shape))
    facets = tuple(replace(one, core=one.core.reshape(front + one.core.shape)) for one in given.facets)
    return Labelled(front + given.shape, facets)


def collapsed(core: Numbers, dims: Iterable[int]) -> Numbers:
    """The first position along some dimensions.

    Args:
        core: Of a facet.
        dims: Dimensions.

    Returns:
        A core that does not vary along them.
    """
    gone = set(dims)
    return core[tuple(slice(0, 1) if dim in gone else slice(None) for dim in range(core.ndim))]


def permuted(given: Labelled, order: Sequence[int]) -> Labelled:
    """Dimensions in another order.

    Args:
        given: A tensor.
        order: The old dimension at each new place.

    Returns:
        The tensor's labels, its dimensions reordered.
    """
    facets = tuple(replace(one, core=one.core.transpose(order)) for one in given.facets)
    return Labelled(tuple(given.shape[dim] for dim in order), facets)


def reshaped(given: Labelled, shape: Shape) -> Labelled:
    """Dimensions cut up and joined.

    Only where dimensions that vary are cut or joined is the core drawn out.

    Args:
        given: A tensor.
        shape: As many positions in other dimensions.

    Returns:
        The tensor's labels in the new shape.

    Example:
        Two channels of 2 x 2 positions, flattened:

        >>> image = Labelled((2, 2, 2), (Facet(axis_core(np.array([7, 8]), 0, 3), True),))
        >>> reshaped(image, (8,)).facets[0].core.tolist()
        [7, 7, 7, 7, 8, 8, 8, 8]
    """
    if 0 in shape or 0 in given.shape:
        return Labelled(shape)
    pieces = segments(given.shape, shape)
    return Labelled(
        shape, tuple(replace(one, core=_reshape(one.core, given.shape, shape, pieces)) for one in given.facets)
    )


def segments(old: Shape, new: Shape) -> list[tuple[range, range]]:
    """The shortest runs of dimensions of two shapes that hold as many positions.

    Args:
        old: A shape without zeros.
        new: Another with as many positions.

    Returns:
        Runs of both, side by side.

    Example:
        >>> segments((2, 3, 4), (6, 2, 2))
        [(range(0, 2), range(0, 1)), (range(2, 3), range(1, 3))]
    """
    found, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        start_i, start_j = i, j
        left = right = 1
        while True:
            if left <= right and i < len(old) and (left < right or i == start_i):
                left, i = left * old[i], i + 1
            elif right <= left and j < len(new) and (right < left or j == start_j):
                right, j = right * new[j], j + 1
            else:
                break
        found.append((range(start_i, i), range(start_j, j)))
    return found


def _reshape(core: Numbers, old: Shape, new: Shape, pieces: list[tuple[range, range]]) -> Numbers:
    full: list[int] = []
    target: list[int] = []
    for before, after in pieces:
        sizes, wanted = [core.shape[dim] for dim in before], [new[dim] for dim in after]
        if all(size == 1 for size in sizes):
            full += sizes
            target += [1] * len(after)
        elif [old[dim] for dim in before] == wanted:
            full += sizes
            target += sizes
        else:
            full += [old[dim] for dim in before]
            target += wanted
    return np.broadcast_to(core, full).reshape(target)
