"""A layer as a product of matrices: its weight as rows and columns, and what it reads as rows of as many columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from secateur.granularity.layers import LayerWeight

CHUNK = 1 << 24  # elements of unfolded inputs held together


def as_matrix(layer: LayerWeight, weight: Tensor) -> Tensor:
    """A weight in im2col order: the columns ordered by kernel position first and input channel last.

    Args:
        layer: What its axes mean.
        weight: Any tensor of the weight's shape.

    Returns:
        `(groups, outputs per group, kernel positions times inputs per group)`.

    Example:
        >>> from secateur.granularity import weight_layers
        >>> conv = nn.Conv1d(2, 1, 3)
        >>> as_matrix(next(weight_layers(conv)), torch.arange(6).reshape(1, 2, 3))
        tensor([[[0, 3, 1, 4, 2, 5]]])
    """
    groups, out, _, _ = layer.sizes
    return weight.reshape(layer.split).permute(layer.im2col).reshape(groups, out, -1)


def from_matrix(layer: LayerWeight, matrix: Tensor) -> Tensor:
    """The inverse of `as_matrix`.

    Args:
        layer: What the axes of its weight mean.
        matrix: `(groups, outputs per group, columns)`.

    Returns:
        A tensor of the weight's shape.

    Example:
        >>> from secateur.granularity import weight_layers
        >>> conv = nn.Conv1d(2, 1, 3)
        >>> from_matrix(next(weight_layers(conv)), torch.tensor([[[0, 3, 1, 4, 2, 5]]]))
        tensor([[[0, 1, 2],
                 [3, 4, 5]]])
    """
    order = layer.im2col
    back = [order.index(dim) for dim in range(len(order))]
    return matrix.reshape([layer.split[dim] for dim in order]).permute(back).reshape(layer.shape)


def input_rows(layer: LayerWeight, module: nn.Module, values: Tensor) -> Iterator[Tensor]:
    """What a layer reads, as rows that its weight's matrix is multiplied by: `Y = X W^T`, for each group.

    Args:
        layer: The layer.
        module: The linear or convolution module; not a transposed one.
        values: What it reads, with or without a batch.

    Yields:
        `(groups, positions, columns)`, a few samples at a time: unfolded inputs take the kernel's size more memory.

    Example:
        >>> from secateur.granularity import weight_layers
        >>> conv = nn.Conv1d(1, 1, 2)
        >>> list(input_rows(next(weight_layers(conv)), conv, torch.tensor([[[1.0, 2.0, 3.0]]])))
        [tensor([[[1., 2.],
                 [2., 3.]]])]
    """
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        yield from values.reshape(-1, values.shape[-1]).unsqueeze(0).split(max(1, CHUNK // values.shape[-1]), 1)
        return
    batch = values if values.ndim == len(layer.kernel) + 2 else values.unsqueeze(0)
    each = batch[0].numel() * math.prod(layer.kernel)
    for some in batch.split(max(1, CHUNK // max(1, each))):
        yield _unfolded(layer, module, some)


def _unfolded(layer: LayerWeight, conv: nn.Conv1d | nn.Conv2d | nn.Conv3d, values: Tensor) -> Tensor:
    groups, _, inputs, kernel = layer.sizes
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    patches = functional.pad(values, _padding(conv.padding, kernel, conv.dilation), mode=mode)
    for dim, (size, stride, dilation) in enumerate(zip(kernel, conv.stride, conv.dilation, strict=True)):
        patches = patches.unfold(dim + 2, dilation * (size - 1) + 1, stride)[..., ::dilation]
    spatial, last = len(kernel), patches.ndim
    parts = patches.reshape(len(values), groups, inputs, *patches.shape[2:])
    order = [1, 0, *range(3, 3 + spatial), *range(3 + spatial, last + 1), 2]  # group | sample, place | kernel, input
    return parts.permute(order).reshape(groups, -1, math.prod(kernel) * inputs)


def _padding(padding: str | Sequence[int], kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """As `functional.pad` wants it: the last dimension first, before and after."""
    if isinstance(padding, str):
        total = [step * (size - 1) if padding == "same" else 0 for size, step in zip(kernel, dilation, strict=True)]
        sides = [(both // 2, both - both // 2) for both in total]
    else:
        sides = [(one, one) for one in padding]
    return [one for side in reversed(sides) for one in side]


def gram(rows: Tensor) -> Tensor:
    """`X^T X` for each group: multiplied in single precision at least, returned in double.

    Args:
        rows: `(groups, positions, columns)`.

    Returns:
        `(groups, columns, columns)`, float64.

    Example:
        >>> gram(torch.tensor([[[1.0, 2.0]]]))
        tensor([[[1., 2.],
                 [2., 4.]]], dtype=torch.float64)
    """
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    return (wide.mT @ wide).double()
