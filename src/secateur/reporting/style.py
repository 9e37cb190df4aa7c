"""What all plots share: colours, axes, layouts, hover texts.

Colours are names of CSS variables, ``var(--NAME)``, which the page replaces by what the reader's scheme, light or dark,
makes of them.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from secateur.reporting.values import Measured
from secateur.reporting.words import Scale

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
    """A name that fits beside a plot.

    Args:
        text: Any text.

    Returns:
        The text, safe, and cut where it is too long.
    """
    return safe(text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…")


def axis(**more: Any) -> dict[str, Any]:
    """An axis as all plots have it.

    Args:
        **more: What is particular to it.

    Returns:
        The axis.
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
    """The title of an axis.

    Args:
        text: Any text.

    Returns:
        The title.
    """
    return {"text": safe(text), "font": {"color": MUTED, "size": 13}, "standoff": 8}


def layout(height: int, **more: Any) -> dict[str, Any]:
    """A layout as all plots have it: as wide as its place, without a background.

    Args:
        height: In pixels.
        **more: What is particular to it.

    Returns:
        The layout.
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
    """What is shown beside the pointer.

    Args:
        texts: One for each point; names in them are `safe`.

    Returns:
        Keys of a trace.
    """
    return {"hovertext": list(texts), "hoverinfo": "text"}


def zoomed(values: Sequence[float], units: Scale, margin: float = 0.06) -> list[float]:
    """From the lowest value to the highest as drawn, with some air, but not past 100 % by more than a little.

    Args:
        values: As measured; at least one is finite.
        units: How the metric is written.
        margin: Air, as a part of the range.

    Returns:
        The range of an axis.
    """
    finite = [units.factor * value for value in values if math.isfinite(value)]
    low, high = min(finite), max(finite)
    air = max(margin * (high - low), 0.005 * abs(high)) or 1.0
    return [low - air, min(high + air, 100.5) if units.percent and high <= 100 else high + air]


def with_spread(value: Measured) -> list[float]:
    """What a mean spans with its spread.

    Args:
        value: The two.

    Returns:
        Lower and upper end.
    """
    spread = value.spread or 0.0
    return [value.mean - spread, value.mean + spread]


def apart(levels: Sequence[float], width: float) -> list[float]:
    """Sparsities to label on a log axis of the weights left, so that no label touches the next.

    Args:
        levels: Those that were measured, rising, all below 1.
        width: Decades the axis spans.

    Returns:
        The levels without those too close to the one on their right.

    Example:
        >>> apart([0.5, 0.9, 0.91, 0.99], width=2)
        [0.5, 0.91, 0.99]
    """
    kept = [levels[-1]]
    for value in levels[-2::-1]:
        if math.log10((1 - value) / (1 - kept[-1])) > 0.09 * width:
            kept.append(value)
    return kept[::-1]
