"""Numbers as a reader wants them; what is not finite is shown as a dash."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from secateur.text import byte_text, percent

DASH = "–"


@dataclass(frozen=True)
class Scale:
    """How a metric is written: a fraction in percent, anything else as the number it is.

    Args:
        percent: Whether the metric is a fraction.

    Example:
        >>> Scale().pair(0.979, 0.003), Scale(percent=False).pair(31.42, 0.25)
        ('97.9 ± 0.3 %', '31.42 ± 0.25')
    """

    percent: bool = True

    @property
    def factor(self) -> float:
        """What a value is multiplied with before it is drawn."""
        return 100 if self.percent else 1

    @property
    def suffix(self) -> str:
        """What follows a number."""
        return " %" if self.percent else ""

    def one(self, value: float) -> str:
        """A value.

        Args:
            value: As measured.

        Returns:
            The text.
        """
        return share(value) if self.percent else plain(value)

    def pair(self, mean: float, spread: float | None) -> str:
        """A mean and its spread.

        Args:
            mean: The mean.
            spread: Its standard deviation; None where there is none.

        Returns:
            The text.
        """
        if spread is None or not math.isfinite(spread) or not math.isfinite(mean):
            return self.one(mean)
        return f"{self._bare(mean)} ± {self._bare(spread)}{self.suffix}"

    def amount(self, difference: float) -> str:
        """The size of a difference, without its sign.

        Args:
            difference: Of two values.

        Returns:
            The text; it reads 0 where the difference is lost in rounding.

        Example:
            >>> Scale().amount(-0.006), Scale().amount(0.01), Scale(percent=False).amount(0.25)
            ('0.6 points', '1.0 point', '0.25')
        """
        if not math.isfinite(difference):
            return DASH
        text = self._bare(abs(difference))
        unit = "" if not self.percent else " point" if text == "1.0" else " points"
        return text + unit

    def vanishes(self, difference: float) -> bool:
        """Whether a difference is lost in rounding.

        Args:
            difference: Of two values.

        Returns:
            True if so.
        """
        return float(self._bare(abs(difference))) == 0

    def _bare(self, value: float) -> str:
        return f"{100 * value:.1f}" if self.percent else plain(value)


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


def brief(value: float) -> str:
    """A large whole number with three digits.

    Args:
        value: The number.

    Returns:
        The text.

    Example:
        >>> brief(9216), brief(112896), brief(1806336), brief(4.1e9)
        ('9,216', '113k', '1.81M', '4.10G')
    """
    if not math.isfinite(value):
        return DASH
    if value < 1e4:
        return count(value)
    power = 1 if value < 999.5e3 else 2 if value < 999.5e6 else 3
    scaled = value / 1000**power
    return f"{scaled:.{0 if scaled >= 99.95 else 1 if scaled >= 9.995 else 2}f}{'kMG'[power - 1]}"


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


def span(seconds: float) -> str:
    """A short time in the unit that reads best, with three digits.

    Args:
        seconds: The time.

    Returns:
        The text.

    Example:
        >>> span(0.0000213), span(0.00412), span(15)
        ('21.3 µs', '4.12 ms', '15.0 s')
    """
    if not math.isfinite(seconds):
        return DASH
    power = 0 if seconds >= 1 else 1 if seconds >= 1e-3 else 2
    value = seconds * 1000**power
    return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f} {('s', 'ms', 'µs')[power]}"


def moment(created: str) -> str:
    """When a run began, as a reader wants it.

    Args:
        created: ISO 8601.

    Returns:
        The text; what was given, if it is no date.

    Example:
        >>> moment("2026-03-01T09:30:00+00:00"), moment("2026-03-01"), moment("in spring")
        ('1 March 2026, 09:30 UTC', '1 March 2026', 'in spring')
    """
    try:
        when = datetime.fromisoformat(created)
    except ValueError:
        return created
    day = f"{when.day} {when:%B %Y}"
    return day if len(created) <= 10 else f"{day}, {when:%H:%M} {when.tzname() or ''}".rstrip()


def setting(value: Any) -> str:
    """A setting of the command.

    Args:
        value: Plain JSON.

    Returns:
        The text.

    Example:
        >>> setting(0.9), setting(None), setting(True), setting(["fc1", "fc2"]), setting({"fc1": 0.5})
        ('0.9', '–', 'yes', 'fc1, fc2', 'fc1=0.5')
    """
    if value is None or value in ([], {}):
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={setting(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(setting, value))
    if isinstance(value, float) and not math.isfinite(value):
        return DASH
    return value if isinstance(value, str) else json.dumps(value)


def tied(text: str) -> str:
    """Text in which no line ends between a number and its sign.

    Args:
        text: The text.

    Returns:
        The text, with blanks that do not break.

    Example:
        >>> tied("97.1 ± 0.4 %, 9 in 10").split(" ")[1:]
        ['9', 'in', '10']
    """
    space = "\N{NO-BREAK SPACE}"
    return text.replace(" %", f"{space}%").replace(" ± ", f"{space}±{space}")
