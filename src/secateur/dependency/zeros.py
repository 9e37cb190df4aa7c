"""When a result is zero wherever the parameters of a label are masked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Zero = Callable[[Sequence[bool | None]], bool]
"""Of each operand: whether it is zero where a label is masked, None if it does not have the label."""


def every(flags: Sequence[bool | None]) -> bool:
    """Of a sum: every term must be zero; one without the label is not.

    Args:
        flags: Of each operand: whether it is zero there; None if it does not have the label.

    Returns:
        Whether the result is.

    Example:
        >>> every([True, True]), every([True, None]), every([True, False])
        (True, False, False)
    """
    return all(flags)


def some(flags: Sequence[bool | None]) -> bool:
    """Of a product: one factor is enough.

    Args:
        flags: Of each operand, as in `every`.

    Returns:
        Whether the result is.

    Example:
        >>> some([True, None]), some([False, None])
        (True, False)
    """
    return any(flags)


def first(flags: Sequence[bool | None]) -> bool:
    """Of a quotient: the dividend.

    Args:
        flags: Of each operand, as in `every`.

    Returns:
        Whether the result is.
    """
    return bool(flags[0])


def never(flags: Sequence[bool | None]) -> bool:  # noqa: ARG001  one signature for all
    """Of everything else.

    Args:
        flags: Of each operand, as in `every`.

    Returns:
        False.
    """
    return False
