"""Overlapping units: the patterns that a kernel may keep."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.errors import PlanError
from secateur.index_maps.protocol import How, Sizes


@dataclass(frozen=True)
class Cover:
    """Every kernel of a convolution offers several patterns; a weight stays while one pattern that has it stays.

    Unit `k * P + p` is pattern `p` of kernel `k` (kernels in row-major order, `P` patterns). Units overlap, so
    `numbers` has one more dimension in front: one layer of integers per pattern.

    Args:
        shape: Shape of the weight, kernel dimensions last.
        kernel: Sizes of the kernel, the last dimensions of `shape`.
        patterns: For each pattern, the positions it keeps, counted row-major inside the kernel.

    Raises:
        PlanError: A position is outside the kernel, or no pattern keeps it, or a pattern is empty.

    Example:
        One kernel of two weights, three patterns: the first weight, the second, both.

        >>> cover = Cover((1, 1, 2), (2,), ((0,), (1,), (0, 1)))
        >>> cover.reduce(torch.tensor([[[3.0, 4.0]]]))
        tensor([3., 4., 7.])
        >>> cover.mask(torch.tensor([True, False, False]))
        tensor([[[ True, False]]])
    """

    shape: Sizes
    kernel: Sizes
    patterns: tuple[Sizes, ...]

    def __post_init__(self) -> None:
        """Check the patterns.

        Raises:
            PlanError: A position is outside the kernel, or no pattern keeps it.
        """
        cells = math.prod(self.kernel)
        held = {cell for pattern in self.patterns for cell in pattern}
        if self.shape[len(self.shape) - len(self.kernel) :] != self.kernel or not self.kernel:
            raise PlanError(f"a weight of shape {self.shape} has no kernel of {self.kernel}")
        outside = sorted(cell for cell in held if not 0 <= cell < cells)
        if outside or any(len(set(pattern)) != len(pattern) or not pattern for pattern in self.patterns):
            raise PlanError(
                f"a pattern is empty, or has positions twice or outside the kernel ({outside or self.patterns}): "
                f"0 to {cells - 1}, each once"
            )
        if len(held) != cells:
            raise PlanError(
                f"the patterns keep {len(held)} of the {cells} positions of the kernel between them: add a pattern "
                "that has the others, or no kernel could ever keep them"
            )

    @property
    def n_units(self) -> int:
        """Kernels times patterns."""
        return math.prod(self.shape) // math.prod(self.kernel) * len(self.patterns)

    def table(self) -> Tensor:
        """The patterns as a table.

        Returns:
            bool, `(patterns, positions)`: True where the pattern keeps the position.
        """
        cells = torch.zeros(len(self.patterns), math.prod(self.kernel), dtype=torch.bool)
        for row, pattern in zip(cells, self.patterns, strict=True):
            row[list(pattern)] = True
        return cells

    def numbers(self) -> Tensor:
        """The integers, one layer per pattern.

        Returns:
            int64, `(patterns, *shape)`; -1 where the pattern leaves the weight out.
        """
        units = torch.arange(self.n_units).reshape(-1, len(self.patterns)).T[:, :, None]
        return torch.where(self.table()[:, None, :], units, -1).reshape(-1, *self.shape)

    def counts(self) -> Tensor:
        """Weights in each unit.

        Returns:
            int64, `(n_units,)`.
        """
        return self.table().sum(1).repeat(self.n_units // len(self.patterns))

    def reduce(self, values: Tensor, how: How = "sum") -> Tensor:
        """Fold a value per weight into a value per unit.

        Args:
            values: Broadcastable to the parameter's shape.
            how: Sum, mean or maximum over the weights of a unit.

        Returns:
            `(n_units,)`.
        """
        kernels = values.expand(self.shape).reshape(-1, math.prod(self.kernel))
        table = self.table().to(kernels.device)
        if how == "max":
            best = [kernels[:, row].amax(1) for row in table]
            return torch.stack(best, 1).flatten()
        total = (kernels @ table.T.to(kernels)).flatten()
        return total / self.counts().to(total) if how == "mean" else total

    def mask(self, keep: Tensor) -> Tensor:
        """A decision per unit as a mask over the weights.

        Args:
            keep: bool, `(n_units,)`.

        Returns:
            bool, of the parameter's shape.
        """
        chosen = keep.reshape(-1, len(self.patterns))
        mask = torch.zeros(len(chosen), math.prod(self.kernel), dtype=torch.bool, device=keep.device)
        for column, pattern in zip(chosen.unbind(1), self.table().to(keep.device), strict=True):
            mask |= column[:, None] & pattern
        return mask.reshape(self.shape)
