"""Sums over everything but one dimension, at the speed of memory."""

from __future__ import annotations

import torch
from torch import Tensor


class ChannelSums:
    """Sums of what a function makes of values, over all dimensions but one, with one buffer for all that it makes.

    A fresh buffer for every layer costs as much as the sums, because the system clears its pages; and torch sums over
    several dimensions at half the speed of one. Values that lie in memory with the dimension last are a matrix, whose
    columns are summed as a product with ones.

    Example:
        >>> sums = ChannelSums()
        >>> values = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
        >>> sums.squares(values, 1), sums.nonzeros(values, 0)
        (tensor([10.,  4.]), tensor([2., 1.]))
    """

    def __init__(self) -> None:
        """With an empty buffer."""
        self._buffer = torch.empty(0)
        self._ones = torch.empty(0)

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
        return self._folded(torch.ne(values, 0, out=self._like(values, torch.float32)), dim)

    def _like(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """The buffer, laid out as the values are, if they fill a piece of memory without gaps."""
        order = sorted(range(values.ndim), key=lambda axis: -values.stride(axis))
        if not values.permute(order).is_contiguous():
            return torch.empty_like(values, dtype=dtype)
        size = values.numel()
        if self._buffer.dtype != dtype or self._buffer.device != values.device or len(self._buffer) < size:
            self._buffer = torch.empty(size, dtype=dtype, device=values.device)
        return self._buffer[:size].as_strided(values.shape, values.stride())

    def _folded(self, values: Tensor, dim: int) -> Tensor:
        last = values.movedim(dim, -1)
        if last.is_contiguous():
            matrix = last.reshape(last.numel() // max(1, last.shape[-1]), last.shape[-1])
            return self._row_of_ones(matrix) @ matrix
        if values.is_contiguous():
            return values.flatten(dim + 1).sum(-1).flatten(0, dim - 1).sum(0) if dim else values.flatten(1).sum(1)
        return values.sum([axis for axis in range(values.ndim) if axis != dim])

    def _row_of_ones(self, matrix: Tensor) -> Tensor:
        ones = self._ones
        if ones.dtype != matrix.dtype or ones.device != matrix.device or len(ones) < len(matrix):
            self._ones = ones = matrix.new_ones(len(matrix))
        return ones[: len(matrix)]
