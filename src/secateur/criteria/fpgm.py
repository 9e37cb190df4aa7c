"""Geometric median: a filter that is near all others can be replaced by them."""

from __future__ import annotations

import torch
from torch import Tensor

from secateur.criteria.criterion import Criterion, Group
from secateur.errors import ModelError
from secateur.units import ParameterAxis

DISTANCES = 2**22  # at a time


def fpgm() -> Criterion:
    """The sum of the distances of a unit to all others of its group; the nearest to all can be replaced by them.

    `score(u) = sum over v in group of ||w_u - w_v||_2`

    The unit with the lowest sum is the geometric median of the group, among its units. For units that make output
    channels: `granularity.filter()`, and `granularity.channel(example)`, where all weights that make a channel are laid
    side by side. Kernels, vectors and blocks of one size are compared in the same way, though alike does not mean
    replaceable where they read other inputs. The norms of units do not count by themselves: small weights may stay.

    Takes memory for the weights of a group in double precision, and for a few million distances at a time; time grows
    with the square of the number of units.

    Returns:
        Criterion: scores `(n_units,)`, in the unit of the weights, 0 or more; raises ModelError, with the group's name,
        for units that make no channels, of single weights, of unequal sizes, or that overlap.

    Reference:
        He, Liu, Wang, Hu, Yang (2019), Filter Pruning via Geometric Median for Deep Convolutional Neural Networks
        Acceleration.

    Example:
        Three filters on a line, 5 apart: the one in the middle goes first, though another is smaller.

        >>> from secateur.granularity import filter
        >>> layer = torch.nn.Linear(2, 3, bias=False)
        >>> _ = layer.weight.data.copy_(torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]))
        >>> units = filter()(layer)["weight"]
        >>> fpgm().score(Group("weight", units, {("weight", None): layer.weight.detach()}))
        tensor([15., 10., 15.])
    """
    return Criterion("fpgm", _score)


def _score(group: Group) -> Tensor:
    makers = [axis for axis, role in group.units.role.items() if role == "out" and axis in group.parameters]
    if not makers:
        raise _refused(group, "make no output channels")
    rows = torch.cat([_rows(group, axis).double() for axis in makers], 1)
    if rows.shape[1] == 1:
        raise _refused(group, "are single weights")
    dtype = torch.promote_types(group.parameters[makers[0]].dtype, torch.float32)
    return _sums_of_distances(rows).to(dtype)


def _rows(group: Group, axis: ParameterAxis) -> Tensor:
    """The weights of each unit in one parameter as a row of a matrix, in the order in which they lie in memory."""
    weights, index = group.parameters[axis], group.units.index[axis]
    numbers = index.numbers().to(weights.device)
    if numbers.ndim != weights.ndim:
        raise _refused(group, "overlap")
    # Where numbers do not change along a dimension, they are looked at once for all of it.
    varies = [dim for dim in range(numbers.ndim) if bool((numbers != numbers.narrow(dim, 0, 1)).any())]
    order = [*varies, *(dim for dim in range(numbers.ndim) if dim not in varies)]
    for dim in order[len(varies) :]:
        numbers = numbers.narrow(dim, 0, 1)
    numbers = numbers.permute(order).flatten()
    inside = numbers >= 0
    counts = torch.bincount(numbers[inside], minlength=group.units.n_units)
    if not bool((counts == counts[0]).all()):
        raise _refused(group, "are of unequal sizes")
    values = weights.permute(order).reshape(len(numbers), -1)
    return values[inside][numbers[inside].argsort(stable=True)].reshape(group.units.n_units, -1)


def _sums_of_distances(rows: Tensor) -> Tensor:
    # Distances by a matrix product are differences of squares; near the origin these are exact enough.
    rows = rows - rows.mean(0)
    size = max(1, DISTANCES // len(rows))
    sums = []
    for start in range(0, len(rows), size):
        distances = torch.cdist(rows[start : start + size], rows)
        distances.diagonal(start).zero_()  # of a unit to itself
        sums.append(distances.sum(1))
    return torch.cat(sums)


def _refused(group: Group, what: str) -> ModelError:
    return ModelError(
        f"fpgm compares units that make output channels, and those of group {group.name!r} {what}: use "
        f"granularity.filter() or granularity.channel(example), or exclude=({group.name!r}, ...)"
    )
