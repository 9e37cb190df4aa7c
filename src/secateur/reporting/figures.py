"""The plots as plain Plotly figures: dicts of `data` and `layout`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from secateur.reporting.headlines import granularity_rows, text
from secateur.reporting.style import (
    MUTED,
    ROW,
    Figure,
    apart,
    axis,
    hover,
    layout,
    look,
    safe,
    short,
    title,
    with_spread,
    zoomed,
)
from secateur.reporting.values import Curve, Measured, curves, dense, histograms, history, metric, scale, sizes
from secateur.reporting.words import Scale, count, level, number, size, times

MOST_MARKED = 60
"""Lines of more points than this are drawn without a mark on each."""

CLOSE = 0.06
"""How far from the dense network a value is still close: six points, or six in a hundred in other units."""

# ------------------------------------------------------------------------ accuracy against sparsity


def curve_figure(results: Mapping[str, Any]) -> Figure | None:
    """Accuracy against the weights that are left, most to the left, on a log axis labelled as sparsity.

    Args:
        results: Checked results.

    Returns:
        The figure; None where there is nothing to draw.
    """
    values = _values(results)
    return _curve_figure(results, values) if values else None


def close_curve_figure(results: Mapping[str, Any]) -> Figure | None:
    """The same, only what is close to the dense network, where lines would else lie on one another.

    Args:
        results: Checked results.

    Returns:
        The figure; None where it would show nothing more.
    """
    before, values = dense(results), _values(results)
    if not before.known or not values:
        return None
    reach = CLOSE * (1 if scale(results).percent else abs(before.mean))
    close = [value for value in values if abs(value.mean - before.mean) <= reach]
    spans = [_span([*some, before]) for some in (close, values)]
    return _curve_figure(results, close) if len(close) > 1 and spans[1] > 3 * spans[0] else None


def _values(results: Mapping[str, Any]) -> list[Measured]:
    return [point.accuracy for curve in curves(results) for point in _drawn(curve)]


def _span(values: Sequence[Measured]) -> float:
    ends = [end for value in values for end in with_spread(value)]
    return max(ends) - min(ends)


def _curve_figure(results: Mapping[str, Any], values: Sequence[Measured]) -> Figure:
    """All curves, with an axis that reaches as far as some values do."""
    found = [curve for curve in curves(results) if _drawn(curve)]
    before, units = dense(results), scale(results)
    levels = sorted({point.sparsity for curve in found for point in _drawn(curve)})
    ends = [1 - levels[0], 1 - levels[-1]]
    width = math.log10(ends[0] / ends[1]) or 1.0
    reach = [math.log10(ends[0]) + 0.05 * width, math.log10(ends[1]) - 0.05 * width]
    ends_of = [end for value in (*values, before) for end in with_spread(value)]
    data = [trace for curve in found for trace in _band(curve, units)]
    data += _dense_line(before, reach, units)
    data += [_line(curve, units) for curve in found]
    ticks = apart(levels, width)
    x_axis = axis(
        type="log",
        range=reach,
        tickvals=[1 - value for value in ticks],
        ticktext=[level(value).removesuffix(" %") for value in ticks],
        title=title("sparsity: weights removed, in %"),
    )
    y_axis = axis(range=zoomed(ends_of, units), ticksuffix=units.suffix, title=title(metric(results)))
    return {"data": data, "layout": layout(400, xaxis=x_axis, yaxis=y_axis)}


def _drawn(curve: Curve) -> list[Any]:
    return [point for point in curve.points if 0 <= point.sparsity < 1]  # nothing left has no place on a log axis


def _line(curve: Curve, units: Scale) -> dict[str, Any]:
    style, shown = look(curve.key), _drawn(curve)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": safe(curve.label),
        "x": [1 - point.sparsity for point in shown],
        "y": [units.factor * point.accuracy.mean for point in shown],
        "line": {"color": f"var(--{style.color})", "width": 2.5},
        "marker": {"color": f"var(--{style.color})", "symbol": style.symbol, "size": 9},
        **hover(
            [
                f"<b>{safe(curve.label)}</b><br>{level(point.sparsity)} removed: {text(point.accuracy, units)}"
                for point in shown
            ]
        ),
    }


def _band(curve: Curve, units: Scale) -> Iterator[dict[str, Any]]:
    shown = [point for point in _drawn(curve) if point.accuracy.spread is not None]
    if len(shown) < 2:
        return
    low, high = zip(*(with_spread(point.accuracy) for point in shown), strict=True)
    across = [1 - point.sparsity for point in shown]
    yield {
        "type": "scatter",
        "mode": "lines",
        "x": across + across[::-1],
        "y": [units.factor * value for value in (*high, *low[::-1])],
        "fill": "toself",
        "fillcolor": f"var(--{look(curve.key).color}-band)",
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def _dense_line(before: Measured, reach: Sequence[float], units: Scale) -> list[dict[str, Any]]:
    if not before.known:
        return []
    steps = [reach[0] + (reach[1] - reach[0]) * index / 20 for index in range(21)]  # so that it can be hovered
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "dense",
            "x": [10**step for step in steps],
            "y": [units.factor * before.mean] * len(steps),
            "line": {"color": MUTED, "width": 1.5, "dash": "dash"},
            **hover([f"<b>dense</b>: {text(before, units)}"] * len(steps)),
        }
    ]


# ------------------------------------------------------------------------------------ granularities


def granularity_figure(results: Mapping[str, Any]) -> Figure | None:
    """For each granularity two points on one line: right after pruning, and fine-tuned.

    Args:
        results: Checked results.

    Returns:
        The figure; None where there is nothing to draw.
    """
    rows = granularity_rows(results)
    if not rows:
        return None
    before, units = dense(results), scale(results)
    values = [one for row in rows for value in row[1:] for one in with_spread(value)]
    places = list(range(len(rows)))
    data = [_between(rows, units), _dots(rows, "pruned_only", 1, units), _dots(rows, "fine_tuned", 2, units)]
    shapes = [_upright(units.factor * before.mean)] if before.known else []
    y_axis = axis(
        tickvals=places,
        ticktext=[short(name) for name, _, _ in rows],
        range=[len(rows) - 0.4, -0.6],
        tickfont={"color": "var(--ink)"},
        showgrid=False,
    )
    x_axis = axis(
        range=zoomed([*values, *with_spread(before)], units, 0.03),
        ticksuffix=units.suffix,
        title=title(metric(results)),
        nticks=7,
    )
    return {"data": data, "layout": layout(80 + ROW * len(rows), xaxis=x_axis, yaxis=y_axis, shapes=shapes)}


def _between(rows: Sequence[tuple[str, Measured, Measured]], units: Scale) -> dict[str, Any]:
    across: list[float | None] = []
    down: list[float | None] = []
    for place, (_, pruned, tuned) in enumerate(rows):
        if pruned.known and tuned.known:
            across += [units.factor * pruned.mean, units.factor * tuned.mean, None]
            down += [place, place, None]
    line = {"color": "var(--before)", "width": 5}
    return {"type": "scatter", "mode": "lines", "x": across, "y": down, "line": line, "hoverinfo": "skip"}


def _dots(rows: Sequence[tuple[str, Measured, Measured]], key: str, column: int, units: Scale) -> dict[str, Any]:
    style, name = look(key), {"pruned_only": "pruning only", "fine_tuned": "fine-tuned"}[key]
    shown = [(place, row[0], row[column]) for place, row in enumerate(rows)]
    known = [(place, title, value) for place, title, value in shown if isinstance(value, Measured) and value.known]
    color = f"var(--{style.color})"
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [units.factor * value.mean for _, _, value in known],
        "y": [place for place, _, _ in known],
        "error_x": {
            "array": [units.factor * (value.spread or 0.0) for _, _, value in known],
            "color": color,
            "thickness": 1.2,
            "width": 3,
        },
        "marker": {"color": color, "symbol": style.symbol, "size": 10},
        **hover([f"<b>{safe(title)}</b><br>{name}: {text(value, units)}" for _, title, value in known]),
    }


def _upright(place: float) -> dict[str, Any]:
    line = {"color": MUTED, "width": 1.5, "dash": "dash"}
    return {
        "type": "line",
        "x0": place,
        "x1": place,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": line,
        "layer": "below",
    }


# -------------------------------------------------------------------------------------------- sizes


def size_figure(results: Mapping[str, Any]) -> Figure | None:
    """A bar for each form.

    Args:
        results: Checked results.

    Returns:
        The figure; None where there is nothing to draw.
    """
    rows = [row for row in sizes(results) if math.isfinite(row[1])]
    if not rows:
        return None
    first, largest = rows[0][1], max(row[1] for row in rows) or 1.0
    texts = [
        f"{size(value)} · {times(first, value)}" if place else size(value) for place, (_, value, _) in enumerate(rows)
    ]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [value for _, value, _ in rows],
        "y": list(range(len(rows))),
        "width": 0.62,
        "text": texts,
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": "var(--second)", "line": {"width": 0}},
        **hover([f"<b>{safe(name)}</b><br>{count(value)} bytes<br>{safe(note)}" for name, value, note in rows]),
    }
    y_axis = axis(
        tickvals=bars["y"],
        ticktext=[short(name) for name, _, _ in rows],
        range=[len(rows) - 0.4, -0.6],
        tickfont={"color": "var(--ink)"},
        showgrid=False,
    )
    x_axis = axis(range=[0, 1.42 * largest], showticklabels=False, showgrid=False)
    return {"data": [bars], "layout": layout(40 + ROW * len(rows), xaxis=x_axis, yaxis=y_axis)}


# ------------------------------------------------------------------------------------------ weights


def weight_figures(results: Mapping[str, Any]) -> dict[str, Figure]:
    """A small histogram for each layer: all weights, and over them those that are left.

    Args:
        results: Checked results.

    Returns:
        Figures by name of the layer.
    """
    return {name: _histogram(item) for name, item in histograms(results).items()}


def _histogram(item: Mapping[str, Any]) -> Figure:
    edges = [number(value) for value in item["edges"]]
    counts = [number(value) for key in ("before", "after") for value in item[key]]
    highest = max([1.0, *filter(math.isfinite, counts)])
    ticks = [10**power for power in range(math.ceil(math.log10(highest)) + 1)]
    y_axis = axis(
        type="log",
        range=[math.log10(0.7), math.log10(highest * 1.6)],
        tickvals=ticks,
        ticktext=[count(value) for value in ticks],
    )
    data = [_bars(edges, item["before"], "before pruning", "before"), _bars(edges, item["after"], "left", "second")]
    x_axis = axis(nticks=5, showgrid=False, title=title("weight"))
    margin = {"l": 8, "r": 8, "t": 4, "b": 8}
    return {
        "data": data,
        "layout": layout(190, xaxis=x_axis, yaxis=y_axis, barmode="overlay", bargap=0, margin=margin),
    }


def _bars(edges: Sequence[float], counts: Sequence[Any], name: str, color: str) -> dict[str, Any]:
    pairs = list(pairwise(edges))
    return {
        "type": "bar",
        "x": [_rounded((low + high) / 2) for low, high in pairs],
        "y": [value or None for value in counts],
        "width": [_rounded(high - low) for low, high in pairs],
        "marker": {"color": f"var(--{color})", "line": {"width": 0}},
        "hovertemplate": f"near %{{x:.3~g}}: %{{y:,}} {name}<extra></extra>",
    }


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")  # a page has thousands of these


# ----------------------------------------------------------------------------------------- training


def history_figure(results: Mapping[str, Any]) -> Figure | None:
    """What training recorded epoch by epoch, one panel below the other.

    Args:
        results: Checked results.

    Returns:
        The figure; None where there is nothing to draw.
    """
    found = history(results)
    if not found:
        return None
    units = {"losses": Scale(percent=False), "validation": scale(results), "sparsity": Scale()}
    names = {"losses": "loss", "validation": f"validation {metric(results)}", "sparsity": "sparsity"}
    axes = {f"yaxis{place or ''}": _panel(place, len(found), names[key], units[key]) for place, key in _places(found)}
    data = [
        _epochs(found[key], key, names[key], units[key]) | {"yaxis": f"y{place or ''}"} for place, key in _places(found)
    ]
    longest = max(map(len, found.values()))
    x_axis = axis(
        title=title("epoch"),
        anchor=data[-1]["yaxis"],
        range=[0.7, longest + 0.3],
        tickformat="d",
        nticks=min(longest, 10) + 1,
    )
    return {"data": data, "layout": layout(60 + 170 * len(found), xaxis=x_axis, **axes)}


def _places(found: Mapping[str, Any]) -> list[tuple[int, str]]:
    """The number Plotly gives each axis, which is none for the first, and 2 for the second."""
    return [(place + 1 if place else 0, key) for place, key in enumerate(found)]


def _panel(place: int, panels: int, name: str, units: Scale) -> dict[str, Any]:
    index = max(place - 1, 0)
    bottom = 1 - (index + 1) / panels
    gap = 0.07 if index < panels - 1 else 0.0
    return axis(domain=[bottom + gap, 1 - index / panels], ticksuffix=units.suffix, nticks=5, title=title(name))


def _epochs(values: Sequence[float], key: str, name: str, units: Scale) -> dict[str, Any]:
    style = look("pruned_only" if key == "losses" else "fine_tuned")
    color = f"var(--{style.color})"
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(values) <= MOST_MARKED else "lines",
        "x": list(range(1, len(values) + 1)),
        "y": [units.factor * value if math.isfinite(value) else None for value in values],
        "line": {"color": color, "width": 2},
        "marker": {"color": color, "symbol": style.symbol, "size": 7},
        **hover([f"epoch {epoch}<br>{safe(name)}: {units.one(value)}" for epoch, value in enumerate(values, 1)]),
    }
