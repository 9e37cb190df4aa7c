"""Units that no rule describes: the integers themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from secateur.errors import PlanError
from secateur.index_maps.protocol import How, Sizes


@dataclass(frozen=True, eq=False)
class Stored:
    """The integers themselves.

    Args:
        shape: Shape of the parameter.
        units: int64, broadcastable to `shape`: unit of each weight, -1 where it belongs to none. For whole slices
            along one axis every other size is 1.
        n_units: How many units there are (some may have no weight here).

    Raises:
        PlanError: The integers do not fit.

    Example:
        Output channels 0 and 2 leave together, channel 1 alone:

        >>> pair = Stored((3, 2), torch.tensor([[0], [1], [0]]), n_units=2)
        >>> pair.reduce(torch.ones(3, 2))
        tensor([4., 2.])
        >>> pair.mask(torch.tensor([False, True])).tolist()
        [[False, False], [True, True], [False, False]]
    """

    shape: Sizes
    units: Tensor = field(repr=False)
    n_units: int

    def __post_init__(self) -> None:
        """Check the integers.

        Raises:
            PlanError: The integers do not fit.
        """
        fits = self.units.ndim == len(self.shape) and all(
            size in (1, full) for size, full in zip(self.units.shape, self.shape, strict=True)
        )
        if not fits or self.units.dtype != torch.int64:
            raise PlanError(
                f"units of shape {tuple(self.units.shape)}, {self.units.dtype}, do not number a parameter of "
                f"{self.shape}: int64 is expected, each size 1 or the parameter's"
            )
        if self.units.numel() and not -1 <= int(self.units.min()) <= int(self.units.max()) < self.n_units:
            raise PlanError(f"unit numbers must lie between -1 and {self.n_units - 1}")

    def numbers(self) -> Tensor:
        """The integers.

        Returns:
            int64, broadcastable to the parameter's shape.
        """
        return self.units

    def counts(self) -> Tensor:
        """Weights in each unit.

        Returns:
            int64, `(n_units,)`.
        """
        inside = self.units[self.units >= 0]
        return torch.bincount(inside, minlength=self.n_units) * self._shared()

    def reduce(self, values: Tensor, how: How = "sum") -> Tensor:
        """Fold a value per weight into a value per unit; a unit without weights here gets 0.

        Args:
            values: Broadcastable to the parameter's shape.
            how: Sum, mean or maximum over the weights of a unit.

        Returns:
            `(n_units,)`.
        """
        full = values.expand(self.shape)
        shared = [dim for dim, size in enumerate(self.units.shape) if size == 1 and self.shape[dim] != 1]
        if shared:
            full = full.amax(shared, keepdim=True) if how == "max" else full.sum(shared, keepdim=True)
        owner = (self.units + 1).flatten().to(full.device)
        total = full.new_zeros(self.n_units + 1)
        if how == "max":
            return total.scatter_reduce(0, owner, full.flatten(), "amax", include_self=False)[1:]
        total = total.index_add(0, owner, full.flatten())[1:]
        return total / self.counts().clamp(min=1).to(total) if how == "mean" else total

    def mask(self, keep: Tensor) -> Tensor:
        """A decision per unit as a mask over the weights.

        Args:
            keep: bool, `(n_units,)`.

        Returns:
            bool, of the parameter's shape.
        """
        decided = torch.cat([keep.new_ones(1), keep])
        return decided[self.units.to(keep.device) + 1].expand(self.shape)

    def _shared(self) -> int:
        return math.prod(self.shape) // max(1, self.units.numel())
