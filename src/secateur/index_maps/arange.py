"""Units that a rule can count."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.errors import PlanError
from secateur.index_maps.protocol import How, Sizes


@dataclass(frozen=True)
class Arange:
    """Units counted 0, 1, 2, ... along a parameter that is cut up, reordered, joined and tiled.

    In this order: the parameter of `shape` is reshaped to `split`, its dimensions are reordered by `permute`,
    reshaped to `join`, and tiles of `repeat` neighbours share one number. Tiles are counted in row-major order; a
    tile at the end of a dimension that `repeat` does not divide is smaller. Left out, a step changes nothing.

    Args:
        shape: Shape of the parameter.
        split: Sizes after cutting dimensions up, e.g. output channels into groups.
        permute: Order of the dimensions after `split`.
        join: Sizes after joining neighbouring dimensions, e.g. kernel position and input channel into im2col columns.
        repeat: Neighbours along each dimension of `join` that share a number.

    Raises:
        PlanError: The sizes contradict one another.

    Example:
        A 4 x 4 weight in blocks of two rows and two columns:

        >>> Arange((4, 4), repeat=(2, 2)).numbers()
        tensor([[0, 0, 1, 1],
                [0, 0, 1, 1],
                [2, 2, 3, 3],
                [2, 2, 3, 3]])
        >>> Arange((4, 4), repeat=(2, 2)).reduce(torch.ones(4, 4))
        tensor([4., 4., 4., 4.])
    """

    shape: Sizes
    split: Sizes = ()
    permute: Sizes = ()
    join: Sizes = ()
    repeat: Sizes = ()

    def __post_init__(self) -> None:
        """Fill in the steps left out, and check that they fit.

        Raises:
            PlanError: The sizes contradict one another.
        """
        split = self.split or self.shape
        permute = self.permute or tuple(range(len(split)))
        if sorted(permute) != list(range(len(split))):
            raise PlanError(f"an index map over {split} cannot reorder its dimensions by {permute}")
        join = self.join or tuple(split[dim] for dim in permute)
        repeat = self.repeat or (1,) * len(join)
        sizes = (*self.shape, *split, *join, *repeat)
        volumes = {math.prod(self.shape), math.prod(split), math.prod(join)}
        if any(size < 1 for size in sizes) or len(volumes) > 1 or len(repeat) != len(join):
            raise PlanError(
                f"an index map's steps do not fit: shape {self.shape}, split {split}, join {join}, repeat {repeat}"
            )
        repeat = tuple(min(tile, size) for tile, size in zip(repeat, join, strict=True))
        for name, value in zip(("split", "permute", "join", "repeat"), (split, permute, join, repeat), strict=True):
            object.__setattr__(self, name, value)

    @property
    def grid(self) -> Sizes:
        """Tiles along each dimension of `join`."""
        return tuple(-(-size // tile) for size, tile in zip(self.join, self.repeat, strict=True))

    @property
    def n_units(self) -> int:
        """How many units the map numbers."""
        return math.prod(self.grid)

    def numbers(self) -> Tensor:
        """The integers, drawn out.

        Returns:
            int64, of the parameter's shape.
        """
        return self._spread(torch.arange(self.n_units))

    def counts(self) -> Tensor:
        """Weights in each unit.

        Returns:
            int64, `(n_units,)`.
        """
        if all(size % tile == 0 for size, tile in zip(self.join, self.repeat, strict=True)):
            return torch.tensor(math.prod(self.repeat)).expand(self.n_units)
        lengths = [
            torch.arange(0, size, tile).neg().add(size).clamp(max=tile)
            for size, tile in zip(self.join, self.repeat, strict=True)
        ]
        total = lengths[0]
        for length in lengths[1:]:
            total = (total[..., None] * length).flatten()
        return total

    def reduce(self, values: Tensor, how: How = "sum") -> Tensor:
        """Fold a value per weight into a value per unit.

        Args:
            values: Broadcastable to the parameter's shape.
            how: Sum, mean or maximum over the weights of a unit.

        Returns:
            `(n_units,)`.
        """
        split = values.expand(self.shape).reshape(self.split).permute(self.permute).reshape(self.join)
        if all(tile == 1 for tile in self.repeat):
            return split.flatten()
        empty = -math.inf if how == "max" else 0
        tiles = [size for count, tile in zip(self.grid, self.repeat, strict=True) for size in (count, tile)]
        inside = list(range(1, len(tiles), 2))
        folded = _pad(split, self.grid, self.repeat, empty).reshape(tiles)
        if how == "max":
            return folded.amax(inside).flatten()
        total = folded.sum(inside).flatten()
        return total / self.counts().to(total) if how == "mean" else total

    def mask(self, keep: Tensor) -> Tensor:
        """A decision per unit as a mask over the weights.

        Args:
            keep: bool, `(n_units,)`.

        Returns:
            bool, of the parameter's shape; a view wherever units are whole dimensions.
        """
        return self._spread(keep)

    def _spread(self, values: Tensor) -> Tensor:
        spread = values.reshape(self.grid)
        for dim, (count, tile, size) in enumerate(zip(self.grid, self.repeat, self.join, strict=True)):
            if count > 1 and tile > 1:
                spread = spread.repeat_interleave(tile, dim).narrow(dim, 0, size)
        inverse = sorted(range(len(self.permute)), key=self.permute.__getitem__)
        ordered = spread.expand(self.join).reshape([self.split[dim] for dim in self.permute])
        return ordered.permute(inverse).reshape(self.shape)


def _pad(values: Tensor, grid: Sizes, repeat: Sizes, empty: float) -> Tensor:
    """Fill the last tile of every dimension up, so that all tiles are of one size."""
    missing = [count * tile - size for count, tile, size in zip(grid, repeat, values.shape, strict=True)]
    if not any(missing):
        return values
    return F.pad(values, [side for gap in reversed(missing) for side in (0, gap)], value=empty)
