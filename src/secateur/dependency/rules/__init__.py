"""Rules: what an operation does to labels. One table, which users can extend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from secateur.dependency.record import plain_name
from secateur.dependency.rules import (
    contraction,
    convolution,
    factories,
    indexing,
    joining,
    movement,
    norms,
    pointwise,
    space,
    statistic,
)
from secateur.dependency.rules.opaque import opaque
from secateur.dependency.step import Rule

_TABLE: dict[str, Rule] = {}
for _axis in (pointwise, movement, joining, contraction, convolution, norms, statistic, space, indexing, factories):
    _TABLE |= _axis.RULES


def register_rule(name: str) -> Callable[[Rule], Rule]:
    """Say what an operation does to labels; a decorator.

    Args:
        name: Of the operation, with its namespace unless that is `aten`; the same rule serves it in place.

    Returns:
        A decorator that leaves the function as it is.

    Example:
        >>> @register_rule("my::twice")
        ... def twice(step):
        ...     return step["x"]
    """

    def registered(rule: Rule) -> Rule:
        _TABLE[name.removeprefix("aten::").rstrip("_")] = rule
        return rule

    return registered


def is_move(op: Any) -> bool:
    """Whether an operation only moves positions of one tensor.

    Args:
        op: An overload.

    Returns:
        Whether it does.
    """
    return op._schema.name.removeprefix("aten::").rstrip("_") in movement.RULES


def rule_for(op: Any) -> Rule:
    """The rule of an operation.

    Args:
        op: An overload, such as ``torch.ops.aten.add.Tensor``.

    Returns:
        The rule in the table; else that for all operations which torch calls pointwise; else `opaque`.
    """
    name = plain_name(op)
    if name in _TABLE:
        return _TABLE[name]
    return pointwise.pointwise if pointwise.is_pointwise(op) else opaque
