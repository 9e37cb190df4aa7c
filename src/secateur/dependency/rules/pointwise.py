"""Operations that compute each position from the same position of their tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from secateur.dependency.facets import Labelled
from secateur.dependency.step import Rule, Step, for_each, words
from secateur.dependency.zeros import Zero, every, first, never, some

# What keeps zero zero.
KEEP = words(
    "relu relu6 gelu silu tanh neg abs sqrt hardswish leaky_relu elu selu celu hardtanh erf erfinv "
    "sin tan asin atan sinh asinh atanh sign sgn trunc floor ceil round frac square expm1 log1p mish "
    "softshrink hardshrink tanhshrink nan_to_num prelu _prelu_kernel rrelu_with_noise dropout "
    "native_dropout feature_dropout real conj _conj ldexp"
)
PRODUCTS = words("mul multiply logical_and bitwise_and")
QUOTIENTS = words("div true_divide fmod remainder floor_divide")
SUMS = words("add sub rsub subtract maximum minimum fmax fmin hypot lerp logical_or bitwise_or copy")


def pointwise(step: Step) -> Labelled:
    """Unite position by position; meet something fixed: fixed.

    Args:
        step: The operation.

    Returns:
        The labels of the result.
    """
    return step.together(step.tensors(), step.shape, _zero(step))


def _zero(step: Step) -> Zero:
    name = step.call.name
    if name in PRODUCTS:
        return some
    if name in QUOTIENTS:
        return first
    if name in SUMS:
        numbers = [value for key, value in step.arguments.items() if key in ("self", "other") and _is_number(value)]
        return every if all(value == 0 for value in numbers) else never
    return every if name in KEEP else never


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float | complex)


def _clamp(step: Step) -> Labelled:
    """Keeps zero if it lies between the bounds."""
    low, high = step.get("min"), step.get("max")
    inside = all(not isinstance(bound, Labelled) for bound in (low, high))
    inside = inside and (low is None or low <= 0) and (high is None or high >= 0)
    return step.together(step.tensors(), step.shape, every if inside else never)


def _pow(step: Step) -> Labelled:
    exponent = step.get("exponent")
    return step.together(step.tensors(), step.shape, every if _is_number(exponent) and exponent > 0 else never)


def _where(step: Step) -> Labelled:
    """Zero where both choices are; the condition does not matter."""

    def both(flags: Sequence[bool | None]) -> bool:
        return every(flags[1:]) and len(flags) == 3

    return step.together(step.tensors(), step.shape, both)


def _masked_fill(step: Step) -> Labelled:
    value = step["value"]
    return step.together(step.tensors(), step.shape, first if _is_number(value) and value == 0 else never)


def _addcmul(step: Step) -> Labelled:
    def sum_of_product(flags: Sequence[bool | None]) -> bool:
        return bool(flags[0]) and some(flags[1:])

    return step.together(step.tensors(), step.shape, sum_of_product)


def _copy(step: Step) -> Labelled:
    return step.together([step["self"], step["src"]], step.shape, lambda flags: bool(flags[1]))


def _fill(step: Step) -> list[Labelled]:
    """Every value is overwritten by one."""
    zero = step.call.name == "zero" or (_is_number(step.get("value")) and step["value"] == 0)
    given: Labelled = step["self"]
    filled = Labelled(given.shape, tuple(replace(one, zero=zero) for one in given.facets))
    return [filled for _ in step.shapes]


def is_pointwise(op: Any) -> bool:
    """Whether torch says that an operation computes position by position.

    Args:
        op: An overload.

    Returns:
        Whether it carries the tag, and makes a tensor, which `equal` does not.
    """
    return torch.Tag.pointwise in op.tags and torch.Tag.data_dependent_output not in op.tags


RULES: dict[str, Rule] = {
    "clamp": _clamp,
    "clip": _clamp,
    "pow": _pow,
    "where": _where,
    "masked_fill": _masked_fill,
    "addcmul": _addcmul,
    "copy": _copy,
    "fill": _fill,
    "zero": _fill,
    "empty_like": _fill,
    "zeros_like": _fill,
    "ones_like": _fill,
    "full_like": _fill,
    "rand_like": _fill,
    "randn_like": _fill,
    **for_each("hardswish dropout feature_dropout _prelu_kernel bernoulli threshold", pointwise),
}
