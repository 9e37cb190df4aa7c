"""Sums over everything but one dimension, at the speed of memory."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 8  # fewer are not worth packing
FULL_BYTE = 255


class ChannelSums:
    """Sums of squares, and counts, over all dimensions but one, with one buffer for all of them.

    A fresh buffer for every layer costs as much as the sums, because the system clears its pages; and torch sums over
    several dimensions at half the speed of one. Nonzeros are bytes, of which eight are counted at once.

    Example:
        >>> sums = ChannelSums()
        >>> values = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
        >>> sums.squares(values, 1), sums.nonzeros(values, 0)
        (tensor([10.,  4.]), tensor([2., 1.]))
    """

    def __init__(self) -> None:
        """With an empty buffer."""
        self._buffer = torch.empty(0)

    def squares(self, values: Tensor, dim: int) -> Tensor:
        """Sums of squares.

        Args:
            values: Of single or double precision.
            dim: Which dimension stays.

        Returns:
            One sum for each position along it.
        """
        if values.is_contiguous() and dim < values.ndim - 1:
            # The norm along memory needs no buffer at all.
            return self._folded(torch.linalg.vector_norm(values.flatten(dim + 1), dim=-1).square(), dim)
        return self._folded(torch.mul(values, values, out=self._like(values, values.dtype)), dim)

    def nonzeros(self, values: Tensor, dim: int) -> Tensor:
        """How many values are not zero, up to 2^24 of them exactly.

        Args:
            values: Any numbers.
            dim: Which dimension stays.

        Returns:
            One count for each position along it, in single precision.
        """
        order = _in_memory(values)
        rows = values.shape[order[0]] if order else 0
        row = values.numel() // max(1, rows)
        if rows >= ROWS and order[0] != dim and row and row % 8 == 0:
            return self._folded(self._over_first(values, order), dim - (dim > order[0]))
        return self._folded(torch.ne(values, 0, out=self._like(values, torch.float32)), dim)

    def _over_first(self, values: Tensor, order: list[int]) -> Tensor:
        """Counts over the outermost dimension in memory: a byte for each value, eight of which are added as a word."""
        rows, sizes = values.shape[order[0]], [values.shape[axis] for axis in order[1:]]
        flags = self._space(values, torch.bool)
        flags.as_strided(values.shape, values.stride()).copy_(values)
        words = flags.view(rows, -1).view(torch.int64)
        parts = [part.sum(0).view(torch.uint8).float() for part in words.split(FULL_BYTE)]
        counts = parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
        back = [order[1:].index(axis) for axis in range(values.ndim) if axis != order[0]]
        return counts.reshape(sizes).permute(back)

    def _like(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """The buffer, laid out as the values are, if they fill a piece of memory without gaps."""
        if not _in_memory(values):
            return torch.empty_like(values, dtype=dtype)
        return self._space(values, dtype).as_strided(values.shape, values.stride())

    def _space(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """The buffer, flat."""
        size, had = values.numel(), self._buffer
        if had.dtype != dtype or had.device != values.device or len(had) < size:
            self._buffer = torch.empty(size, dtype=dtype, device=values.device)
        return self._buffer[:size]

    def _folded(self, values: Tensor, dim: int) -> Tensor:
        last = values.movedim(dim, -1)
        if last.is_contiguous():
            return last.reshape(last.numel() // max(1, last.shape[-1]), last.shape[-1]).sum(0)
        if values.is_contiguous():
            return values.flatten(dim + 1).sum(-1).flatten(0, dim - 1).sum(0) if dim else values.flatten(1).sum(1)
        return values.sum([axis for axis in range(values.ndim) if axis != dim])


def _in_memory(values: Tensor) -> list[int]:
    """The dimensions from the outermost to the innermost in memory; none where there are gaps."""
    order = sorted(range(values.ndim), key=values.stride, reverse=True)
    return order if values.permute(order).is_contiguous() else []
