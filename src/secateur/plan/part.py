"""A part of a plan: the decision about one group."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from secateur.errors import PlanError
from secateur.index_maps import Cover, Embedded, IndexMap
from secateur.text import percent, shape_text
from secateur.units import Units


@dataclass(frozen=True, eq=False)
class Part:
    """Which units of one group stay.

    Args:
        name: Name of the group.
        units: The group.
        keep: bool, `(n_units,)`: True where a unit stays.
        reason: Why nothing is pruned here, where that is so.

    Raises:
        PlanError: `keep` does not fit the units.

    Example:
        >>> from secateur.granularity import filter
        >>> part = Part("weight", filter()(torch.nn.Linear(3, 2))["weight"], torch.tensor([True, False]))
        >>> part.sparsity, part.weights, part.weights_removed
        (0.5, 6, 3)
    """

    name: str
    units: Units
    keep: Tensor = field(repr=False)
    reason: str = ""

    def __post_init__(self) -> None:
        """Check `keep`.

        Raises:
            PlanError: `keep` does not fit the units.
        """
        if self.keep.dtype != torch.bool or self.keep.shape != (self.units.n_units,):
            raise PlanError(
                f"{self.name!r}: keep is {self.keep.dtype} of shape {tuple(self.keep.shape)}, "
                f"expected bool of ({self.units.n_units},)"
            )

    @property
    def kept(self) -> int:
        """Units that stay."""
        return int(torch.count_nonzero(self.keep))

    @property
    def sparsity(self) -> float:
        """Fraction of the units removed."""
        return 1 - self.kept / self.units.n_units

    @property
    def weights(self) -> int:
        """Weights in the group's parameters."""
        return sum(math.prod(index.shape) for index in self.units.index.values())

    @property
    def weights_removed(self) -> int:
        """Weights that the removed units take with them."""
        return sum(_gone(index, self.keep) for index in self.units.index.values())

    def row(self) -> list[str]:
        """The part as a row of the plan's table.

        Returns:
            Group, shape, units kept, sparsity of units, weights removed, scope, remark.
        """
        units, gone = self.units, self.weights_removed
        kept = "all" if units.frozen else f"{self.kept} of {units.n_units}"
        crosses = f"crosses a statistic: {units.crosses}" if units.crosses else ""
        remark = "; ".join(text for text in (self.reason or units.frozen, units.note, crosses) if text)
        return [
            self.name,
            shape_text(units.shape),
            kept,
            percent(self.sparsity),
            f"{gone} ({percent(gone / self.weights)})",
            self.scope,
            remark,
        ]

    @property
    def scope(self) -> str:
        """Who competes, in words: so many scopes of so many units."""
        if self.units.frozen:
            return ""
        scopes = self.units.scope.n_units
        size = self.units.n_units // scopes
        if self.units.keep_per_scope is not None:
            return f"{scopes} of {size}, {self.units.keep_per_scope} kept of each"
        return "all" if scopes == 1 else f"{scopes} of {size}"


def overlapping(units: Units) -> bool:
    """Whether a weight may belong to several units.

    Args:
        units: The group.

    Returns:
        True if so.
    """
    return any(map(_layered, units.index.values()))


def _layered(index: IndexMap) -> bool:
    return _layered(index.inner) if isinstance(index, Embedded) else isinstance(index, Cover)


def _gone(index: IndexMap, keep: Tensor) -> int:
    """Weights removed. Units that overlap have to be laid over one another; otherwise their sizes add up."""
    if _layered(index):
        return int(torch.count_nonzero(~index.mask(keep)))
    counts = index.counts()
    if counts.stride() == (0,):  # all units of one size
        return int(counts[0]) * int(torch.count_nonzero(~keep))
    return int(counts.to(keep.device)[~keep].sum())
