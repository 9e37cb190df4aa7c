"""Operations through which LeCun's recursion goes: for each one of equal value whose gradient is the recursion.

Where `y = f(x, w)` is linear in each, second derivatives go backwards through squares: `h_x = sum w^2 h_y` and
`h_w = sum x^2 h_y`. These are the ordinary gradients of `f(x, w^2) + f(x^2, w)`, the squares taken as constants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

LINEAR = frozenset({
    F.linear,
    torch.conv1d, torch.conv2d, torch.conv3d,
    torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d,
})  # fmt: skip
"""Linear in an input and a weight, plus a bias."""

ELEMENTWISE = frozenset({
    F.relu, torch.relu, Tensor.relu, F.relu6, F.hardtanh, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish,
    F.softplus, F.logsigmoid, F.softsign, F.hardswish, F.hardsigmoid, F.tanh, torch.tanh, Tensor.tanh, F.sigmoid,
    torch.sigmoid, Tensor.sigmoid, torch.square, Tensor.square, F.tanhshrink, F.softshrink, F.hardshrink,
})  # fmt: skip
"""Functions of each number by itself."""

AVERAGES = frozenset({
    F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d,
    torch.mean, Tensor.mean, torch.avg_pool1d, torch.adaptive_avg_pool1d,
})  # fmt: skip
"""Means of as many numbers everywhere."""

MOVES = frozenset({
    F.max_pool1d, F.max_pool2d, F.max_pool3d, F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d,
    torch.max_pool1d, torch.max_pool2d, torch.max_pool3d,
    torch.flatten, Tensor.flatten, Tensor.view, torch.reshape, Tensor.reshape, torch.permute, Tensor.permute,
    torch.transpose, Tensor.transpose, torch.squeeze, Tensor.squeeze, torch.unsqueeze, Tensor.unsqueeze,
    torch.cat, torch.concat, torch.stack, Tensor.__getitem__, torch.chunk, Tensor.chunk, torch.split, Tensor.split,
    Tensor.contiguous, Tensor.float, Tensor.double, Tensor.to, Tensor.cpu, Tensor.unflatten, torch.unflatten,
    F.pad, torch.as_tensor, F.pixel_shuffle, torch.channel_shuffle, Tensor.T.__get__, Tensor.mT.__get__,
})  # fmt: skip
"""Each number of the result is one of the arguments, or a constant."""


def elementwise(function: Any) -> bool:
    """Whether a function works on each number by itself.

    Args:
        function: Any function.

    Returns:
        Whether it does.

    Example:
        >>> elementwise(torch.tanh), elementwise(torch.cumsum)
        (True, False)
    """
    return function in ELEMENTWISE


def with_gradient(value: Tensor, surrogate: Tensor) -> Tensor:
    """A value with the gradient of another.

    Args:
        value: What it is.
        surrogate: Whose gradient it has, of the same shape.

    Returns:
        The value.

    Example:
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> with_gradient(torch.tensor(5.0), 7 * x).backward()
        >>> x.grad
        tensor(7.)
    """
    return value.detach() + (surrogate - surrogate.detach())


def linear(function: Any, args: Any, named: Mapping[str, Any]) -> Tensor:
    """A linear layer or convolution.

    Args:
        function: One of `LINEAR`.
        args: Input, weight, bias, and the rest.
        named: Of these what was passed by name.

    Returns:
        Its value, with the gradient of the recursion.
    """
    given = dict(zip(("input", "weight", "bias"), args, strict=False)) | {
        name: named[name] for name in ("input", "weight", "bias") if name in named
    }
    others = {name: value for name, value in named.items() if name not in given}
    rest = args[3:]
    x, weight, bias = given["input"], given["weight"], given.get("bias")
    value = function(x, weight, bias, *rest, **others)
    surrogate = function(x.detach().square(), weight, bias, *rest, **others)
    if x.requires_grad:
        surrogate = surrogate + function(x, weight.detach().square(), None, *rest, **others)
    return with_gradient(value, surrogate)


def normed(args: Any, named: Mapping[str, Any]) -> Tensor | None:
    """Batch norm by its running statistics: `y = gamma xhat + beta`, `xhat = (x - mean) / sqrt(var + eps)`.

    Args:
        args: Those of `torch.nn.functional.batch_norm`.
        named: Of these what was passed by name.

    Returns:
        Its value, with the gradient of the recursion; None where it takes the statistics of the batch.
    """
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given = {"weight": None, "bias": None, "training": False, "eps": 1e-5} | dict(zip(names, args, strict=False))
    given |= named
    if given["training"] or given["running_mean"] is None:
        return None
    x, weight, bias = given["input"], given["weight"], given["bias"]
    sides = (1, -1, *(1,) * (x.ndim - 2))
    mean, var = given["running_mean"].view(sides), given["running_var"].view(sides)
    scale = (var + given["eps"]).rsqrt()
    gamma = torch.ones_like(scale) if weight is None else weight.view(sides)
    surrogate = x * (gamma.detach() * scale).square() + gamma * ((x.detach() - mean) * scale).square()
    if bias is not None:
        surrogate = surrogate + bias.view(sides)
    return with_gradient(F.batch_norm(*args, **named), surrogate)


def averaged(function: Any, args: Any, named: Mapping[str, Any]) -> Tensor | None:
    """A mean of k numbers: `h_x = h_y / k^2`, the ordinary gradient over k.

    Args:
        function: One of `AVERAGES`.
        args: Input and the rest.
        named: What was passed by name.

    Returns:
        Its value, with the gradient of the recursion; None where it is not known to be a mean of as many everywhere.
    """
    value: Tensor = function(*args, **named)
    count = _counted(function, args, named, value)
    return None if count is None else with_gradient(value, value / count)


def _counted(function: Any, args: Any, named: Mapping[str, Any], value: Tensor) -> float | None:
    """How many numbers each mean is over; None where not as many everywhere."""
    pool = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    given = dict(zip(pool, args, strict=False)) | dict(named)
    x = given["input"]
    if "kernel_size" not in given or not function.__name__.startswith("avg_pool"):
        even = value.ndim != x.ndim or all(size % new == 0 for size, new in zip(x.shape, value.shape, strict=True))
        return x.numel() / value.numel() if even and value.numel() else None
    padded = given.get("padding", 0) not in (0, (0,), (0, 0), (0, 0, 0)) and not given.get("count_include_pad", True)
    if padded or given.get("ceil_mode", False) or given.get("divisor_override") is not None:
        return None
    size = given["kernel_size"]
    places = int(function.__name__[-2])  # avg_pool2d
    return float(size**places if isinstance(size, int) else math.prod(size))
