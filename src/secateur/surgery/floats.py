"""Floating-point numbers that modules with parameters of their own hold, such as the eps of a norm: for files."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

Floats = dict[tuple[str, str], float]
"""By name of a module and attribute."""


def floats(model: nn.Module) -> Floats:
    """The numbers.

    Args:
        model: Any module.

    Returns:
        Finite ones that are attributes of modules with parameters.

    Example:
        >>> floats(nn.Sequential(nn.LayerNorm(2), nn.Dropout(0.5)))
        {('0', 'eps'): 1e-05}
    """
    return {
        (name, key): value
        for name, module in model.named_modules()
        if module._parameters
        for key, value in vars(module).items()
        if type(value) is float and math.isfinite(value)
    }


def restore_floats(model: nn.Module, held: Floats) -> None:
    """Set numbers where a model has some already, or None.

    Args:
        model: The model, which is changed.
        held: The numbers.
    """
    for (name, key), value in held.items():
        module = model.get_submodule(name)
        if key in vars(module) and isinstance(vars(module)[key], float | None):
            vars(module)[key] = value


def read_float(module: Any, key: Any, value: Any) -> tuple[tuple[str, str], float]:
    """A number from a file.

    Args:
        module: Name of a module.
        key: Name of its attribute.
        value: The number.

    Returns:
        Where it belongs, and the number.

    Raises:
        ValueError: It is none.
    """
    named = isinstance(module, str) and isinstance(key, str) and not key.startswith("_")
    if not named or type(value) is not float or not math.isfinite(value):
        raise ValueError(f"{module!r}, {key!r}, {value!r} is no number of a module")
    return (module, key), value
