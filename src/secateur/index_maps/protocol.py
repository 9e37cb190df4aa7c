"""What every index map can do."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor

Sizes = tuple[int, ...]
How = Literal["sum", "mean", "max"]


class IndexMap(Protocol):
    """What every index map can do; `shape` is the shape of the whole parameter."""

    @property
    def shape(self) -> Sizes:
        """Shape of the parameter."""
        ...

    @property
    def n_units(self) -> int:
        """How many units the map numbers."""
        ...

    def numbers(self) -> Tensor:
        """The integers, int64, broadcastable to `shape`; -1 where a weight belongs to no unit."""
        ...

    def counts(self) -> Tensor:
        """Weights in each unit, int64, `(n_units,)`."""
        ...

    def reduce(self, values: Tensor, how: How = "sum") -> Tensor:
        """Fold `values`, of the parameter's shape, into `(n_units,)`."""
        ...

    def mask(self, keep: Tensor) -> Tensor:
        """A decision per unit, bool `(n_units,)`, as a bool mask of the parameter's shape; True where no unit is."""
        ...
