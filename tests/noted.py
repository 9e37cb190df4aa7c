"""What a record notes of sizes, in a form to compare with, and what every record promises."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from secateur.dependency import (
    Attribute,
    Expression,
    Operation,
    Record,
    Size,
    SizeUse,
    evaluate,
    record,
    sizes_in,
)
from secateur.dependency.numbers import Number


def text(expression: Expression) -> str:
    """An expression as one would write it; values without their numbers."""
    match expression:
        case Attribute(module, path):
            return ".".join(map(str, (*filter(None, [module]), *path)))
        case Size(_, dim):
            return f"size{dim}"
        case Operation(op, left, right):
            return f"({text(left)} {op} {text(right)})"
    return str(expression)


def seen(found: Record, kind: str | None = None) -> list[tuple[str, int, str]]:
    """Kind, dimension and expression of what was noted."""
    return [(use.kind, use.dim, text(use.expression)) for use in found.sizes if kind in (None, use.kind)]


def check_promise(found: Record) -> None:
    """What every record promises: true sizes, known values, plain integers."""
    shapes = [value.shape for value in found.values]
    for use in found.sizes:
        assert 0 <= use.value < len(shapes)
        assert 0 <= use.dim < len(shapes[use.value])
        assert 0 <= use.call <= len(found.calls)
        assert not isinstance(use.expression, Number)
        if use.kind == "size" and not _attributes(use):
            size = evaluate(use.expression, _none, lambda one: shapes[one.value][one.dim])
            assert size == shapes[use.value][use.dim]
        for read in sizes_in(use.expression):
            assert read.dim < len(shapes[read.value])
    assert Number not in types_in([found.calls, shapes, found.outputs, found.sizes])


def _attributes(use: SizeUse) -> bool:
    return "Attribute" in repr(use.expression)


def _none(attribute: Attribute) -> int:
    raise AssertionError(attribute)


def types_in(value: Any, seen: set[int] | None = None) -> set[type]:
    """Types of all that can be reached through attributes and containers."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return set()
    seen.add(id(value))
    found = {type(value)}
    if isinstance(value, dict):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset | deque):
        inner = list(value)
    else:
        inner = []
    if not isinstance(value, type | Tensor) and hasattr(value, "__dict__"):
        inner.extend(vars(value).values())
    return found.union(*(types_in(one, seen) for one in inner))


class Does(nn.Module):
    """A forward pass in a line, with numbers to do it with."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **attributes: Any) -> None:
        super().__init__()
        self.does = forward
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Any:
        return self.does(self, x)


def noted(forward: Callable[[Any, Tensor], Any], *shape: int, **attributes: Any) -> Record:
    found = record(Does(forward, **attributes), torch.zeros(shape))
    check_promise(found)
    return found
