"""Which weights of some columns leave, where columns are decided from left to right and the counts are given."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from secateur.errors import ModelError
from secateur.granularity.layers import LayerWeight
from secateur.ranking import keep_best, keep_best_per_row, keep_best_per_scope
from secateur.reconstruction.matrix import as_matrix
from secateur.units import Units, kept_units, removed_units

Count = TypeVar("Count", int, Tensor)

Choose = Callable[[int, Tensor], Tensor]
"""From the first of some columns and the costs of their weights, `(rows, width)`, to bools: which stay."""


class Chooser(Protocol):
    """Chooses among the weights of one layer, group after group and column after column, each once."""

    step: int
    """Columns that have to be chosen together; 0: any number."""

    def choose(self, group: int, first: int, costs: Tensor) -> Tensor:
        """Which of the weights stay.

        Args:
            group: Group of the convolution; 0 for a linear layer.
            first: Number of the first column.
            costs: What each weight costs if it leaves, `(rows, width)`.

        Returns:
            bool, `(rows, width)`.
        """
        ...

    def of_units(self, keep: Tensor) -> Tensor:
        """A decision per weight as one per unit.

        Args:
            keep: bool, `(groups, rows, columns)`.

        Returns:
            bool, `(n_units,)`.
        """
        ...


def chooser(layer: LayerWeight, name: str, units: Units, sparsity: float) -> Chooser:
    """The chooser that removes as many units as `select` would.

    Args:
        layer: The layer.
        name: Of the group, for messages.
        units: Single weights: all free, or in a pattern of n of every m in im2col order.
        sparsity: Fraction of the units that leave.

    Returns:
        A chooser, for one sweep through the layer.

    Raises:
        ModelError: The units are others.
    """
    index, *others = units.index.values()
    single = not others and index.n_units == layer_size(layer) and bool((index.counts() == 1).all())
    if not single:
        raise ModelError(
            f"sparsegpt removes single weights, and a unit of {name!r} holds several: use granularity.weight() or "
            "granularity.pattern(n, m)"
        )
    numbers = as_matrix(layer, index.numbers().expand(layer.shape))
    if units.keep_per_scope is None:
        return _Free(numbers, units, sparsity)
    runs = units.scope.numbers()[numbers].unflatten(-1, (-1, units.n_units // units.scope.n_units))
    if bool((runs != runs[..., :1]).any()):
        raise ModelError(
            f"the scopes of {name!r} are no runs of columns in im2col order: use granularity.pattern(n, m)"
        )
    return _Pattern(numbers, units, sparsity)


def layer_size(layer: LayerWeight) -> int:
    """Weights in a layer.

    Args:
        layer: The layer.

    Returns:
        The number.

    Example:
        >>> layer_size(LayerWeight("fc", "fc.weight", (2, 3)))
        6
    """
    return torch.Size(layer.shape).numel()


def share(total: Count, size: Count, seen: Count) -> Count:
    """How many of `total` are due when `seen` of `size` have come by: rounded, and all of them at the end.

    Args:
        total: At most `size`.
        size: At least 1.
        seen: At most `size`.

    Returns:
        The number; it grows by no more than `seen` does.

    Example:
        >>> [share(3, 6, seen) for seen in range(7)]
        [0, 1, 1, 2, 2, 3, 3]
    """
    return (2 * total * seen + size) // (2 * size)


class _Numbered:
    """Weights of which the unit is known."""

    def __init__(self, numbers: Tensor) -> None:
        self._numbers = numbers

    def of_units(self, keep: Tensor) -> Tensor:
        """A decision per weight as one per unit."""
        found = torch.empty(keep.numel(), dtype=torch.bool, device=keep.device)
        found[self._numbers.flatten().to(keep.device)] = keep.flatten()
        return found


class _Free(_Numbered):
    """Of the weights of a scope in some columns the cheapest leave, so many that columns take equal parts."""

    step = 0

    def __init__(self, numbers: Tensor, units: Units, sparsity: float) -> None:
        super().__init__(numbers)
        self._scope = units.scope.numbers()[numbers] if units.scope.n_units > 1 else None
        self._sizes = units.scope.counts().clone()
        each = [size - kept_units(size, sparsity, units.step, units.least) for size in self._sizes.tolist()]
        self._total = torch.tensor(each)
        self._seen, self._gone = torch.zeros_like(self._sizes), torch.zeros_like(self._sizes)

    def choose(self, group: int, first: int, costs: Tensor) -> Tensor:
        """Which of the weights stay."""
        scope = None if self._scope is None else self._scope[group, :, first : first + costs.shape[1]].flatten()
        here = torch.tensor([costs.numel()]) if scope is None else torch.bincount(scope, minlength=len(self._sizes))
        self._seen += here
        due = share(self._total, self._sizes, self._seen)
        kept, self._gone = here - (due - self._gone), due
        flat = costs.flatten()
        if scope is None:
            return keep_best(flat, int(kept)).reshape(costs.shape)
        device = costs.device
        return keep_best_per_scope(flat, scope.to(device), kept.to(device)).reshape(costs.shape)


class _Pattern(_Numbered):
    """Of every m weights n stay, in so many rows of each m columns that columns take equal parts."""

    def __init__(self, numbers: Tensor, units: Units, sparsity: float) -> None:
        super().__init__(numbers)
        self.step = units.n_units // units.scope.n_units
        self._kept = units.keep_per_scope or 1
        self._scopes = units.scope.n_units
        gone = self.step - self._kept
        self._due = partial(share, removed_units(units, sparsity) // gone if gone else 0, self._scopes)
        self._seen = 0

    def choose(self, group: int, first: int, costs: Tensor) -> Tensor:
        """Which of the weights stay."""
        del group, first
        rows = len(costs)
        following = self._due(self._seen + rows) - self._due(self._seen)
        self._seen += rows
        keep = keep_best_per_row(costs, self._kept)
        if following < rows:
            keep[keep_best(costs.masked_fill(keep, 0).sum(1), rows - following)] = True
        return keep
