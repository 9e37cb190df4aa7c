"""Integers that remember where they came from, so that it is known what to rewrite once sizes change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import add, floordiv, mod, mul, sub
from typing import Any, Literal, TypeAlias, TypeVar

from secateur.units import Attribute

Result = TypeVar("Result")
Op = Literal["+", "-", "*", "//", "%"]

OPERATIONS: dict[Op, Callable[[int, int], int]] = {"+": add, "-": sub, "*": mul, "//": floordiv, "%": mod}
# A number counted up in a loop would carry an expression too deep to walk.
LONGEST = 64


@dataclass(frozen=True)
class Size:
    """A size read from the shape of a tensor.

    Args:
        value: Number of the value in the record.
        dim: Which dimension.
    """

    value: int
    dim: int


@dataclass(frozen=True)
class Operation:
    """Arithmetic of two integers.

    Args:
        op: Which.
        left: First operand.
        right: Second operand.
    """

    op: Op
    left: Expression
    right: Expression


Expression: TypeAlias = int | Attribute | Size | Operation


def evaluate(expression: Expression, attributes: Callable[[Attribute], int], sizes: Callable[[Size], int]) -> int:
    """The integer that an expression comes to.

    Args:
        expression: What to compute.
        attributes: Gives the value of an attribute.
        sizes: Gives the value of a size.

    Returns:
        The integer.

    Raises:
        ZeroDivisionError: A divisor comes to 0.

    Example:
        >>> heads, width = Attribute("attention", ("num_heads",)), Size(7, 2)
        >>> evaluate(Operation("//", width, heads), {heads: 3}.__getitem__, {width: 48}.__getitem__)
        16
    """
    match expression:
        case Attribute():
            return attributes(expression)
        case Size():
            return sizes(expression)
        case Operation(op, left, right):
            return OPERATIONS[op](evaluate(left, attributes, sizes), evaluate(right, attributes, sizes))
    return expression


def attributes_in(expression: Expression) -> tuple[Attribute, ...]:
    """The attributes that an expression reads.

    Args:
        expression: Any.

    Returns:
        Each once, from left to right.

    Example:
        >>> attributes_in(Operation("*", 2, Attribute("", ("heads",))))
        (Attribute(module='', path=('heads',)),)
    """
    return tuple(dict.fromkeys(leaf for leaf in _leaves(expression) if isinstance(leaf, Attribute)))


def sizes_in(expression: Expression) -> tuple[Size, ...]:
    """The sizes that an expression reads.

    Args:
        expression: Any.

    Returns:
        Each once, from left to right.

    Example:
        >>> sizes_in(Operation("-", Size(4, 1), Size(4, 1)))
        (Size(value=4, dim=1),)
    """
    return tuple(dict.fromkeys(leaf for leaf in _leaves(expression) if isinstance(leaf, Size)))


def _leaves(expression: Expression) -> Iterator[int | Attribute | Size]:
    if isinstance(expression, Operation):
        yield from _leaves(expression.left)
        yield from _leaves(expression.right)
    else:
        yield expression


@dataclass
class Trace:
    """What the numbers of one recording share: whether it is over.

    A function that caches what it computes may keep numbers and hand them to the next recording, where their origin
    would be wrong.

    Args:
        over: True: its numbers are plain integers now.
        notice: Told where an integer came from that is made a floating-point number.
    """

    over: bool = False
    notice: Callable[[Expression], None] | None = None


class Number(int):
    """An integer that knows how it came about.

    In all else it is the plain integer. Sums, differences, products, floor quotients and remainders with integers know
    their origin too; whatever else is computed with it gives a plain result, as does a very long chain of operations.
    What becomes a floating-point number or an exponent is told to the recording.

    Args:
        value: The integer.
        expression: Where it comes from.
        trace: The recording it belongs to; None: it never forgets.

    Example:
        >>> heads = Number(4, Attribute("", ("heads",)))
        >>> 64 // heads, (64 // heads).expression
        (16, Operation(op='//', left=64, right=Attribute(module='', path=('heads',))))
    """

    _expression: Expression
    trace: Trace | None
    steps: int  # operations in the expression

    def __new__(cls, value: int, expression: Expression, trace: Trace | None = None, steps: int = 0) -> Number:
        """Make one; what makes an `int` is not `__init__`.

        Returns:
            The number.
        """
        number = super().__new__(cls, value)
        number._expression, number.trace, number.steps = expression, trace, steps
        return number

    @property
    def expression(self) -> Expression:
        """Where it comes from; just the integer once the recording is over."""
        return int(self) if self.trace is not None and self.trace.over else self._expression

    def __add__(self, other: int) -> int:
        return _combined("+", self, other, super().__add__(other))

    def __radd__(self, other: int) -> int:
        return _combined("+", other, self, super().__radd__(other))

    def __sub__(self, other: int) -> int:
        return _combined("-", self, other, super().__sub__(other))

    def __rsub__(self, other: int) -> int:
        return _combined("-", other, self, super().__rsub__(other))

    def __mul__(self, other: int) -> int:
        return _combined("*", self, other, super().__mul__(other))

    def __rmul__(self, other: int) -> int:
        return _combined("*", other, self, super().__rmul__(other))

    def __floordiv__(self, other: int) -> int:
        return _combined("//", self, other, super().__floordiv__(other))

    def __rfloordiv__(self, other: int) -> int:
        return _combined("//", other, self, super().__rfloordiv__(other))

    def __mod__(self, other: int) -> int:
        return _combined("%", self, other, super().__mod__(other))

    def __rmod__(self, other: int) -> int:
        return _combined("%", other, self, super().__rmod__(other))

    def __truediv__(self, other: int) -> float:
        return self._noticed(super().__truediv__(other), other)

    def __rtruediv__(self, other: int) -> float:
        return self._noticed(super().__rtruediv__(other), other)

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        return self._noticed(super().__pow__(other, modulo), other)

    def __rpow__(self, other: Any, modulo: Any = None) -> Any:
        return self._noticed(super().__rpow__(other, modulo), other)

    def __float__(self) -> float:
        return self._noticed(super().__float__(), 0)

    def _noticed(self, result: Result, other: object) -> Result:
        """The result, once the recording has been told; another kind of operand is not for a number to judge."""
        known = not isinstance(self.expression, int)
        if known and self.trace is not None and self.trace.notice and isinstance(other, int | float | complex):
            self.trace.notice(self.expression)
        return result

    def __neg__(self) -> int:
        return _combined("-", 0, self, super().__neg__())

    def __copy__(self) -> Number:
        return self

    def __deepcopy__(self, memo: Any) -> Number:
        return self

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int(self),)


def expression_of(number: int) -> Expression:
    """Where an integer comes from.

    Args:
        number: A `Number`, or a plain one.

    Returns:
        Its expression; of a plain integer the integer itself.

    Example:
        >>> expression_of(3), expression_of(Number(3, Size(0, 1)))
        (3, Size(value=0, dim=1))
    """
    return number.expression if isinstance(number, Number) else int(number)


def _combined(op: Op, left: int, right: int, value: int) -> int:
    """The result of an operation with its origin; `NotImplemented` as it is."""
    pair = (left, right)
    if type(value) is not int:
        for one, other in (pair, pair[::-1]):
            if isinstance(one, Number) and isinstance(other, float | complex):
                one._noticed(value, other)
        return value
    numbers = [one for one in pair if isinstance(one, Number) and not isinstance(one.expression, int)]
    steps = 1 + sum(one.steps for one in numbers)
    if not numbers or steps > LONGEST:
        return value
    trace = next((one.trace for one in numbers if one.trace is not None), None)
    return Number(value, Operation(op, expression_of(left), expression_of(right)), trace, steps)
