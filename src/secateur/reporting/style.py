"""How figures look: colours, axes, hover. Colours are names of CSS variables, replaced by the page."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from secateur.reporting.values import Measured

Figure = dict[str, Any]

LONGEST_NAME = 26
ROW = 34  # pixels of a row of a horizontal plot


class Look(NamedTuple):
    """How one method is drawn everywhere."""

    color: str
    symbol: str
    sign: str


LOOKS: Mapping[str, Look] = {
    "pruned_only": Look("first", "diamond", "◆"),
    "fine_tuned": Look("second", "circle", "●"),
    "iterative": Look("third", "square", "■"),
}
OTHER = Look("fourth", "triangle-up", "▲")
LINE = "var(--line)"
MUTED = "var(--muted)"


def look(key: str) -> Look:
    """How a method is drawn.

    Args:
        key: Its name in the results.

    Returns:
        Colour, Plotly's symbol, and a sign like it for the legend.
    """
    return LOOKS.get(key, OTHER)


def safe(text: str) -> str:
    """Text in which Plotly finds no markup of its own.

    Args:
        text: Any text.

    Returns:
        The text, with what could open a tag or an entity escaped.

    Example:
        >>> safe("<b>conv</b>")
        '&lt;b&gt;conv&lt;/b&gt;'
    """
    return html.escape(text, quote=False)


def short(text: str) -> str:
    """Text short enough for an axis.

    Args:
        text: Any text.

    Returns:
        The text, safe, its end cut off if need be.
    """
    return safe(text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…")


def axis(**more: Any) -> dict[str, Any]:
    """An axis in the page's manner.

    Args:
        **more: What this one has besides.

    Returns:
        A Plotly axis.
    """
    return {
        "gridcolor": LINE,
        "linecolor": LINE,
        "zeroline": False,
        "automargin": True,
        "tickfont": {"color": MUTED},
        **more,
    }


def title(text: str) -> dict[str, Any]:
    """A title of an axis.

    Args:
        text: The title.

    Returns:
        A Plotly title.
    """
    return {"text": safe(text), "font": {"color": MUTED, "size": 13}, "standoff": 8}


def layout(height: int, **more: Any) -> dict[str, Any]:
    """A layout in the page's manner.

    Args:
        height: In pixels.
        **more: What this one has besides.

    Returns:
        A Plotly layout.
    """
    return {
        "height": height,
        "autosize": True,
        "showlegend": False,
        "hovermode": "closest",
        "dragmode": False,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 13, "color": "var(--ink)"},
        "hoverlabel": {"bgcolor": "var(--card)", "bordercolor": LINE, "font": {"color": "var(--ink)"}, "align": "left"},
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        **more,
    }


def hover(texts: Sequence[str]) -> dict[str, Any]:
    """What is shown on hover.

    Args:
        texts: One for each point.

    Returns:
        Entries of a Plotly trace.
    """
    return {"hovertext": list(texts), "hoverinfo": "text"}


def percent_range(values: Sequence[float], margin: float = 0.06) -> list[float]:
    """From the lowest value to the highest in percent, with some air, but not past 100 % by more than a little.

    Args:
        values: Fractions.
        margin: Air, as a share of the range.

    Returns:
        Two ends, in percent.
    """
    finite = [100 * value for value in values if math.isfinite(value)]
    low, high = min(finite), max(finite)
    air = max(margin * (high - low), 0.5)
    return [low - air, min(high + air, 100.5) if high <= 100 else high + air]


def with_spread(value: Measured) -> list[float]:
    """The ends of a spread.

    Args:
        value: The measurement.

    Returns:
        Mean minus spread, mean plus spread.
    """
    spread = value.spread or 0.0
    return [value.mean - spread, value.mean + spread]
