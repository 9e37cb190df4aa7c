"""Which integers of a model a cut asks to rewrite, and which it cannot: sizes that the code borrows from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from secateur.dependency.numbers import Expression, Operation, Size, attributes_in, evaluate, sizes_in
from secateur.dependency.record import Amount, Record, SizeUse
from secateur.dependency.resize import Cut
from secateur.units import Attribute


@dataclass(frozen=True)
class Rewrites:
    """What a cut asks of a model's integers.

    Args:
        attributes: New values of attributes.
        misfits: Uses of integers that would come out wrong whatever is rewritten, with what they ought to be.
        amounts: Integers that are computed with and would come out otherwise.
    """

    attributes: Mapping[Attribute, int]
    misfits: tuple[tuple[SizeUse, int], ...]
    amounts: tuple[Amount, ...] = ()


def rewrites(model: nn.Module, cut: Cut) -> Rewrites:
    """Compare every integer that the code computes for a tensor with what the cut needs.

    An attribute that is a size by itself is rewritten; all other expressions then have to come out right.

    Args:
        model: The model that was recorded.
        cut: What leaves.

    Returns:
        New values, and what does not fit.
    """
    wanted = [(use, value) for use in asked(cut.solution.record) if (value := needed(model, cut, use)) is not None]
    bare: dict[Attribute, set[int]] = {}
    for use, value in wanted:
        if isinstance(use.expression, Attribute) and not to_the_end(model, cut, use):
            bare.setdefault(use.expression, set()).add(value)
    new = {one: next(iter(values)) for one, values in bare.items() if len(values) == 1}

    def found(use: SizeUse | Amount) -> int:
        return _value(model, use.expression, new, cut)

    misfits = tuple((use, value) for use, value in wanted if not _fits(cut, use, found(use), value))
    changed = {one: value for one, value in new.items() if value != read(model, one)}
    amounts = tuple(one for one in cut.solution.record.amounts if found(one) != before(model, cut, one))
    return Rewrites(changed, misfits, amounts)


def read(model: nn.Module, attribute: Attribute) -> int:
    """The value of an attribute.

    Args:
        model: The model.
        attribute: Which.

    Returns:
        The integer.
    """
    found: Any = model.get_submodule(attribute.module)
    for step in attribute.path:
        found = found[step] if isinstance(step, int) or isinstance(found, Mapping) else getattr(found, step)
    return int(found)


def _value(model: nn.Module, expression: Expression, new: Mapping[Attribute, int], cut: Cut) -> int:
    def attribute(one: Attribute) -> int:
        return new[one] if one in new else read(model, one)

    try:
        return evaluate(expression, attribute, lambda one: cut.shape(one.value)[one.dim])
    except ZeroDivisionError:
        return 0


def asked(record: Record) -> list[SizeUse]:
    """The integers that have to follow a cut: not the strides of slices, nor the bounds beside them.

    Args:
        record: A forward pass.

    Returns:
        Their uses, in order.
    """
    strides = {(use.value, use.dim, use.call) for use in record.sizes if use.kind == "step"}
    return [use for use in record.sizes if use.kind != "step" and (use.value, use.dim, use.call) not in strides]


def needed(model: nn.Module, cut: Cut, use: SizeUse) -> int | None:
    """What an integer ought to be after a cut.

    Args:
        model: The model that was recorded.
        cut: What leaves.
        use: Of the integer.

    Returns:
        The value; None if nothing is asked of it.
    """
    kept, shape = cut.kept(use.value, use.dim), cut.shape(use.value)
    if use.kind == "size":
        return shape[use.dim]
    old = cut.solution.record.values[use.value].shape[use.dim]
    if use.kind == "groups":
        return _groups(cut, use)
    if use.kind == "heads":
        heads = before(model, cut, use)
        return heads if kept is None else int(kept.reshape(heads, -1).any(1).sum())
    if use.kind in ("start", "stop"):
        bound = before(model, cut, use)
        if kept is None or bound >= old:
            return bound if attributes_in(use.expression) or sizes_in(use.expression) else None
        return cut.before(use.value, use.dim, bound) if bound >= 0 else -int(kept[bound:].sum())
    if use.kind == "repeat":
        times = before(model, cut, use)
        return shape[use.dim] if times == old else times
    return None


def to_the_end(model: nn.Module, cut: Cut, use: SizeUse) -> bool:
    """Whether a slice stops at the end or beyond, so that any larger number does as well.

    Args:
        model: The model that was recorded.
        cut: What leaves.
        use: Of the bound.

    Returns:
        Whether it does.
    """
    return use.kind == "stop" and before(model, cut, use) >= cut.solution.record.values[use.value].shape[use.dim]


def before(model: nn.Module, cut: Cut, use: SizeUse | Amount) -> int:
    """What an integer was when it was recorded.

    Args:
        model: The model that was recorded.
        cut: What leaves.
        use: Of the integer.

    Returns:
        Its value then.
    """
    shapes = cut.solution.record.values
    return evaluate(use.expression, lambda one: read(model, one), lambda one: shapes[one.value].shape[one.dim])


def _fits(cut: Cut, use: SizeUse, found: int, needed: int) -> bool:
    if use.kind == "stop" and needed >= 0:
        size = cut.shape(use.value)[use.dim]
        return found >= 0 and min(found, size) == min(needed, size)
    return found == needed


def _groups(cut: Cut, use: SizeUse) -> int | None:
    """Groups of the first convolution or norm that the function made."""
    for call in cut.solution.record.calls[use.call :]:
        if "channel_shuffle" in call.name:
            return None
        for name in ("groups", "group"):
            if any(one.name == name for one in call.op._schema.arguments):
                return int(cut.call(call).given[name])
    return None


def text(expression: Expression) -> str:
    """An expression as a reader would write it.

    Args:
        expression: Any.

    Returns:
        Such as `size // num_heads`.

    Example:
        >>> text(Operation("//", Size(4, 2), Attribute("block.attention", ("num_heads",))))
        'size // num_heads'
    """
    match expression:
        case Attribute(_, path):
            return ".".join(map(str, path))
        case Size():
            return "size"
        case Operation(op, left, right):
            return f"{text(left)} {op} {text(right)}"
    return str(expression)
