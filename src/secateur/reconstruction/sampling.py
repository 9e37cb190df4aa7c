"""Sampled output points of a layer: the input patches under them, and the outputs there."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.errors import SecateurError
from secateur.granularity.layers import CONVOLUTIONS


@dataclass(frozen=True)
class Sampling:
    """Which output points of a layer are looked at.

    Args:
        points: So many of each sample, or all of them if there are fewer; None: all. A linear layer has as many points
            as its input has positions.
        seed: Of the points. The same batch number and layer get the same points every time.

    Raises:
        SecateurError: `points` is below 1.

    Example:
        >>> Sampling(points=2).places("conv", batch=0, samples=3, positions=9).shape
        torch.Size([3, 2])
    """

    points: int | None = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the number of points.

        Raises:
            SecateurError: It is below 1.
        """
        if self.points is not None and self.points < 1:
            raise SecateurError(f"points of each sample: at least 1, or None for all of them; given: {self.points}")

    def places(self, name: str, *, batch: int, samples: int, positions: int, call: int = 0) -> Tensor:
        """Points of one batch, none of them twice.

        Args:
            name: Of the layer.
            batch: Number of the batch.
            samples: How many samples it has.
            positions: Points there are in each sample.
            call: How often the layer has run for this batch.

        Returns:
            int64, `(samples, chosen)`: positions counted in row-major order.
        """
        if self.points is None or self.points >= positions:
            return torch.arange(positions).expand(samples, positions)
        draw = torch.Generator().manual_seed(zlib.crc32(f"{self.seed}/{name}/{batch}/{call}".encode()))
        return torch.rand(samples, positions, generator=draw).argsort(1)[:, : self.points]


def shape_of(module: nn.Module, values: Tensor) -> tuple[int, int]:
    """Samples and positions of a layer's output.

    Args:
        module: A linear layer or a convolution.
        values: What it returned.

    Returns:
        The two numbers.

    Example:
        >>> conv = nn.Conv2d(3, 4, 3)
        >>> shape_of(conv, conv(torch.zeros(2, 3, 5, 5))), shape_of(nn.Linear(2, 4), torch.zeros(7, 4))
        ((2, 9), (7, 1))
    """
    flat = _flat(module, values)
    return flat.shape[0], flat.shape[2]


def outputs_at(module: nn.Module, values: Tensor, places: Tensor) -> Tensor:
    """Outputs of a layer, or anything of their shape, at points.

    Args:
        module: A linear layer or a convolution.
        values: `(samples, channels, ...)` of a convolution, `(samples, ..., channels)` of a linear layer.
        places: `(samples, chosen)`.

    Returns:
        `(samples * chosen, groups, channels per group)`.

    Example:
        >>> conv = nn.Conv1d(1, 2, 1)
        >>> outputs_at(conv, torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]), torch.tensor([[2, 0]]))
        tensor([[[3., 6.]],
        <BLANKLINE>
                [[1., 4.]]])
    """
    flat = _flat(module, values)
    chosen = flat.gather(2, places.to(flat.device)[:, None].expand(-1, flat.shape[1], -1))
    return chosen.mT.reshape(places.numel(), int(getattr(module, "groups", 1)), -1)


def patches_at(module: nn.Module, inputs: Tensor, places: Tensor) -> Tensor:
    """The inputs that a layer reads for its outputs at points, padding included.

    `outputs_at(module, module(x), at) = patches_at(module, x, at) @ W.mT + b`, for each group of channels.

    Args:
        module: A linear layer or a convolution of any stride, padding, dilation and groups.
        inputs: What it is given.
        places: `(samples, chosen)`: output positions.

    Returns:
        `(samples * chosen, groups, columns)`; columns lie as in `weight.flatten(1)`: input channel, kernel position.

    Example:
        A kernel of two over 1, 2, 3; the patch under the second output:

        >>> patches_at(nn.Conv1d(1, 1, 2), torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[1]]))
        tensor([[[2., 3.]]])
    """
    if not isinstance(module, CONVOLUTIONS):
        return outputs_at(module, inputs, places)
    padded = _padded(module, inputs)
    index = _under(module, padded.shape[2:], places)  # (samples, chosen, kernel)
    samples, chosen, kernel = index.shape
    flat = padded.flatten(2)
    where = index.reshape(samples, 1, -1).to(flat.device).expand(-1, flat.shape[1], -1)
    found = flat.gather(2, where).reshape(samples, flat.shape[1], chosen, kernel)
    return found.permute(0, 2, 1, 3).reshape(samples * chosen, module.groups, -1)


def _flat(module: nn.Module, values: Tensor) -> Tensor:
    """As (samples, channels, positions)."""
    if isinstance(module, CONVOLUTIONS):
        spatial = len(module.kernel_size)
        return (values if values.ndim == spatial + 2 else values[None]).flatten(2)
    samples = values.shape[0] if values.ndim > 1 else 1
    return values.reshape(samples, -1, values.shape[-1]).mT


def _padded(module: Any, inputs: Tensor) -> Tensor:
    batched = inputs if inputs.ndim == len(module.kernel_size) + 2 else inputs[None]
    sides = padding_of(module)
    if not any(sides):
        return batched
    kind = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return F.pad(batched, sides, mode=kind)


def padding_of(module: Any) -> list[int]:
    """What a convolution pads, as `torch.nn.functional.pad` takes it: the last dimension first.

    Args:
        module: A convolution.

    Returns:
        Two integers for each dimension.

    Example:
        >>> padding_of(nn.Conv2d(1, 1, (2, 3), padding="same"))
        [1, 1, 0, 1]
    """
    if module.padding == "valid":
        return [0] * (2 * len(module.kernel_size))
    if module.padding == "same":
        totals = [step * (size - 1) for size, step in zip(module.kernel_size, module.dilation, strict=True)]
        return [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
    return [side for size in reversed(module.padding) for side in (size, size)]


def _under(module: Any, space: Sequence[int], places: Tensor) -> Tensor:
    """Positions in the padded input, counted in row-major order, under output positions: (samples, chosen, kernel)."""
    reach = [step * (size - 1) + 1 for size, step in zip(module.kernel_size, module.dilation, strict=True)]
    out = [(size - far) // step + 1 for size, far, step in zip(space, reach, module.stride, strict=True)]
    index = torch.zeros(*places.shape, 1, dtype=torch.int64)
    rest = places
    for dim in reversed(range(len(out))):
        weight = math.prod(space[dim + 1 :])
        corner = (rest % out[dim]) * module.stride[dim]
        rest = rest // out[dim]
        taps = torch.arange(module.kernel_size[dim]) * module.dilation[dim]
        along = (corner[..., None] + taps) * weight
        # The kernel's last dimension varies fastest.
        index = (along[..., :, None] + index[..., None, :]).flatten(-2)
    return index
