"""A map of a smaller parameter inside the larger one it was cut from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from secateur.errors import PlanError
from secateur.index_maps.protocol import How, IndexMap, Sizes


@dataclass(frozen=True, eq=False)
class Embedded:
    """A map of a smaller parameter, set back into the larger one from which slices were removed.

    Args:
        inner: Map of the smaller parameter.
        shape: Shape of the larger one.
        kept: For each dimension, the positions that the smaller one has, int64, ascending.

    Raises:
        PlanError: The positions do not fit.

    Example:
        Row 1 of three is gone; the other two are numbered weight by weight:

        >>> from secateur.index_maps import Arange
        >>> Embedded(Arange((2, 2)), (3, 2), (torch.tensor([0, 2]), torch.tensor([0, 1]))).numbers()
        tensor([[ 0,  1],
                [-1, -1],
                [ 2,  3]])
    """

    inner: IndexMap
    shape: Sizes
    kept: tuple[Tensor, ...] = field(repr=False)

    def __post_init__(self) -> None:
        """Check the positions.

        Raises:
            PlanError: The positions do not fit.
        """
        sizes = tuple(len(positions) for positions in self.kept)
        plain = all(at.ndim == 1 and at.dtype == torch.int64 for at in self.kept)
        inside = (
            plain
            and len(sizes) == len(self.shape)
            and all(
                not len(at) or (int(at[0]) >= 0 and int(at[-1]) < size and bool((at.diff() > 0).all()))
                for at, size in zip(self.kept, self.shape, strict=True)
            )
        )
        if sizes != self.inner.shape or not inside:
            raise PlanError(f"positions for {sizes} do not set a map of {self.inner.shape} into {self.shape}")

    @property
    def n_units(self) -> int:
        """Units of the inner map."""
        return self.inner.n_units

    def numbers(self) -> Tensor:
        """The integers.

        Returns:
            int64, as the inner map's with -1 around them.
        """
        inner = self.inner.numbers()
        layers = inner.shape[: inner.ndim - len(self.shape)]
        return self._set(inner.expand(*layers, *self.inner.shape), torch.full((*layers, *self.shape), -1))

    def counts(self) -> Tensor:
        """Weights in each unit.

        Returns:
            int64, `(n_units,)`.
        """
        return self.inner.counts()

    def reduce(self, values: Tensor, how: How = "sum") -> Tensor:
        """Fold a value per weight into a value per unit.

        Args:
            values: Broadcastable to the larger parameter's shape.
            how: Sum, mean or maximum over the weights of a unit.

        Returns:
            `(n_units,)`.
        """
        return self.inner.reduce(values.expand(self.shape)[_grid(self.kept)], how)

    def mask(self, keep: Tensor) -> Tensor:
        """A decision per unit as a mask over the weights; what was cut away is no unit's and stays True.

        Args:
            keep: bool, `(n_units,)`.

        Returns:
            bool, of the larger parameter's shape.
        """
        return self._set(self.inner.mask(keep), keep.new_ones(self.shape))

    def _set(self, inner: Tensor, around: Tensor) -> Tensor:
        around[(slice(None),) * (around.ndim - len(self.shape)) + _grid(self.kept)] = inner
        return around


def _grid(positions: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Positions along each dimension, shaped so that indexing with them cuts out a box."""
    last = len(positions) - 1
    return tuple(at.reshape(-1, *(1,) * (last - dim)) for dim, at in enumerate(positions))
