"""Numbers as a reader wants them; what is not finite is shown as a dash."""

from __future__ import annotations

import math
from typing import Any

from secateur.text import byte_text, percent

DASH = "–"


def number(value: Any) -> float:
    """A JSON number as a float.

    Args:
        value: A number, or None for a missing one.

    Returns:
        The float; NaN for None.
    """
    return math.nan if value is None else float(value)


def share(value: float) -> str:
    """A fraction as a percentage with one decimal.

    Args:
        value: Usually between 0 and 1.

    Returns:
        The text.

    Example:
        >>> share(0.9754), share(float("nan"))
        ('97.5 %', '–')
    """
    return percent(value) if math.isfinite(value) else DASH


def level(value: float) -> str:
    """A sparsity as a percentage with as many decimals as it needs.

    Args:
        value: Between 0 and 1.

    Returns:
        The text.

    Example:
        >>> level(0.95), level(0.985), level(0.9999)
        ('95 %', '98.5 %', '99.99 %')
    """
    return f"{100 * value:.4g} %" if math.isfinite(value) else DASH


def plus_minus(mean: float, spread: float | None) -> str:
    """A mean of fractions and its spread, in percent.

    Args:
        mean: The mean.
        spread: Its standard deviation; None where there is none.

    Returns:
        The text.

    Example:
        >>> plus_minus(0.979, 0.003), plus_minus(0.979, None)
        ('97.9 ± 0.3 %', '97.9 %')
    """
    if spread is None or not math.isfinite(spread) or not math.isfinite(mean):
        return share(mean)
    return f"{100 * mean:.1f} ± {100 * spread:.1f} %"


def points(difference: float) -> str:
    """A difference of two fractions in percentage points, with its sign.

    Args:
        difference: The difference.

    Returns:
        The text.

    Example:
        >>> points(-0.006), points(0.0), points(0.012)
        ('−0.6 points', '0.0 points', '+1.2 points')
    """
    if not math.isfinite(difference):
        return DASH
    size = f"{abs(100 * difference):.1f}"
    sign = "" if float(size) == 0 else "−" if difference < 0 else "+"
    return f"{sign}{size} points"


def count(value: float) -> str:
    """A whole number with its thousands set apart.

    Args:
        value: The number.

    Returns:
        The text.

    Example:
        >>> count(57000)
        '57,000'
    """
    return f"{value:,.0f}" if math.isfinite(value) else DASH


def size(value: float) -> str:
    """Bytes in the unit that reads best.

    Args:
        value: Bytes.

    Returns:
        The text.

    Example:
        >>> size(228000), size(float("nan"))
        ('228.0 kB', '–')
    """
    return byte_text(value) if math.isfinite(value) else DASH


def times(first: float, other: float) -> str:
    """How many times smaller than the first another size is.

    Args:
        first: The size compared with.
        other: The size.

    Returns:
        The text.

    Example:
        >>> times(1000, 250), times(1000, 0)
        ('4.0×', '–')
    """
    ratio = first / other if other else math.nan
    return f"{ratio:.1f}×" if math.isfinite(ratio) else DASH


def plain(value: float) -> str:
    """A number with four significant digits.

    Args:
        value: The number.

    Returns:
        The text.

    Example:
        >>> plain(0.123456), plain(float("inf"))
        ('0.1235', '–')
    """
    return f"{value:.4g}" if math.isfinite(value) else DASH


def duration(seconds: float) -> str:
    """A time in the units that read best.

    Args:
        seconds: The time.

    Returns:
        The text.

    Example:
        >>> duration(4.2), duration(192), duration(7325)
        ('4.2 s', '3 min 12 s', '2 h 2 min')
    """
    if not math.isfinite(seconds):
        return DASH
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
