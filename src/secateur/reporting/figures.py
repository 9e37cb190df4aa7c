"""The plots as plain Plotly figures: dicts of `data` and `layout`.

Colours are names of CSS variables, ``var(--NAME)``, which the page replaces by what the reader's scheme, light or dark,
makes of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from secateur.reporting.headlines import granularity_rows
from secateur.reporting.style import (
    MUTED,
    ROW,
    Figure,
    Look,
    axis,
    hover,
    layout,
    look,
    percent_range,
    safe,
    short,
    title,
    with_spread,
)
from secateur.reporting.values import Curve, Measured, curves, dense, histograms, history, metric, sizes
from secateur.reporting.words import count, level, number, plain, share, size, times

# ------------------------------------------------------------------------ accuracy against sparsity


def curve_figure(results: Mapping[str, Any]) -> Figure | None:
    """Accuracy against the weights that are left, most to the left, on a log axis labelled as sparsity.

    Args:
        results: Checked results.

    Returns:
        The figure; None where there is nothing to draw.
    """
    found = [curve for curve in curves(results) if _drawn(curve)]
    if not found:
        return None
    before = dense(results)
    levels = sorted({point.sparsity for curve in found for point in _drawn(curve)})
    ends = [1 - levels[0], 1 - levels[-1]]
    width = math.log10(ends[0] / ends[1]) or 1.0
    reach = [math.log10(ends[0]) + 0.05 * width, math.log10(ends[1]) - 0.05 * width]
    values = [one for curve in found for point in curve.points for one in with_spread(point.accuracy)]
    data = [trace for curve in found for trace in _band(curve)]
    data += _dense_line(before, reach)
    data += [_line(curve) for curve in found]
    x_axis = axis(
        type="log",
        range=reach,
        tickvals=[1 - value for value in levels],
        ticktext=[level(value).removesuffix(" %") for value in levels],
        title=title("sparsity: weights removed, in %"),
    )
    y_axis = axis(range=percent_range([*values, *with_spread(before)]), ticksuffix=" %", title=title(metric(results)))
    return {"data": data, "layout": layout(440, xaxis=x_axis, yaxis=y_axis)}


def _drawn(curve: Curve) -> list[Any]:
    return [point for point in curve.points if 0 <= point.sparsity < 1]  # nothing left has no place on a log axis


def _line(curve: Curve) -> dict[str, Any]:
    style, shown = look(curve.key), _drawn(curve)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": safe(curve.label),
        "x": [1 - point.sparsity for point in shown],
        "y": [100 * point.accuracy.mean for point in shown],
        "line": {"color": f"var(--{style.color})", "width": 2.5},
        "marker": {"color": f"var(--{style.color})", "symbol": style.symbol, "size": 9},
        **hover(
            [f"<b>{safe(curve.label)}</b><br>{level(point.sparsity)} removed: {point.accuracy}" for point in shown]
        ),
    }


def _band(curve: Curve) -> Iterator[dict[str, Any]]:
    shown = [point for point in _drawn(curve) if point.accuracy.spread is not None]
    if len(shown) < 2:
        return
    low, high = zip(*(with_spread(point.accuracy) for point in shown), strict=True)
    across = [1 - point.sparsity for point in shown]
    yield {
        "type": "scatter",
        "mode": "lines",
        "x": across + across[::-1],
        "y": [100 * value for value in (*high, *low[::-1])],
        "fill": "toself",
        "fillcolor": f"var(--{look(curve.key).color}-band)",
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def _dense_line(before: Measured, reach: Sequence[float]) -> list[dict[str, Any]]:
    if not before.known:
        return []
    steps = [reach[0] + (reach[1] - reach[0]) * index / 20 for index in range(21)]  # so that it can be hovered
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "dense",
            "x": [10**step for step in steps],
            "y": [100 * before.mean] * len(steps),
            "line": {"color": MUTED, "width": 1.5, "dash": "dash"},
            **hover([f"<b>dense</b>: {before}"] * len(steps)),
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
    before = dense(results)
    values = [one for row in rows for value in row[1:] for one in with_spread(value)]
    places = list(range(len(rows)))
    data = [_between(rows), _dots(rows, "pruned_only", 1), _dots(rows, "fine_tuned", 2)]
    shapes = [_upright(100 * before.mean)] if before.known else []
    y_axis = axis(
        tickvals=places,
        ticktext=[short(name) for name, _, _ in rows],
        range=[len(rows) - 0.4, -0.6],
        tickfont={"color": "var(--ink)"},
        showgrid=False,
    )
    x_axis = axis(
        range=percent_range([*values, *with_spread(before)], 0.03),
        ticksuffix=" %",
        title=title(metric(results)),
        nticks=7,
    )
    return {"data": data, "layout": layout(80 + ROW * len(rows), xaxis=x_axis, yaxis=y_axis, shapes=shapes)}


def _between(rows: Sequence[tuple[str, Measured, Measured]]) -> dict[str, Any]:
    across: list[float | None] = []
    down: list[float | None] = []
    for place, (_, pruned, tuned) in enumerate(rows):
        if pruned.known and tuned.known:
            across += [100 * pruned.mean, 100 * tuned.mean, None]
            down += [place, place, None]
    line = {"color": "var(--before)", "width": 5}
    return {"type": "scatter", "mode": "lines", "x": across, "y": down, "line": line, "hoverinfo": "skip"}


def _dots(rows: Sequence[tuple[str, Measured, Measured]], key: str, column: int) -> dict[str, Any]:
    style, name = look(key), {"pruned_only": "pruning only", "fine_tuned": "fine-tuned"}[key]
    shown = [(place, row[0], row[column]) for place, row in enumerate(rows)]
    known = [(place, title, value) for place, title, value in shown if isinstance(value, Measured) and value.known]
    color = f"var(--{style.color})"
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [100 * value.mean for _, _, value in known],
        "y": [place for place, _, _ in known],
        "error_x": {
            "array": [100 * (value.spread or 0.0) for _, _, value in known],
            "color": color,
            "thickness": 1.2,
            "width": 3,
        },
        "marker": {"color": color, "symbol": style.symbol, "size": 10},
        **hover([f"<b>{safe(title)}</b><br>{name}: {value}" for _, title, value in known]),
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
    highest = max([1.0, *(number(value) for key in ("before", "after") for value in item[key] if value is not None)])
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
    texts = [
        f"{plain(low)} to {plain(high)}<br>{name}: {count(number(value))}"
        for (low, high), value in zip(pairs, counts, strict=True)
    ]
    return {
        "type": "bar",
        "x": [(low + high) / 2 for low, high in pairs],
        "y": [value or None for value in counts],
        "width": [high - low for low, high in pairs],
        "marker": {"color": f"var(--{color})", "line": {"width": 0}},
        **hover(texts),
    }


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
    names = {"losses": "loss", "validation": f"validation {metric(results)}", "sparsity": "sparsity"}
    step, data, axes = 1 / len(found), [], {}
    for place, (key, values) in enumerate(found.items()):
        end = "" if place == 0 else str(place + 1)
        top = 1 - place * step
        data.append({**_epochs(values, key, names[key]), "yaxis": f"y{end}"})
        suffix = "" if key == "losses" else " %"
        axes[f"yaxis{end}"] = axis(
            domain=[max(0.0, top - step + (0.07 if place < len(found) - 1 else 0)), top],
            ticksuffix=suffix,
            nticks=5,
            title=title(names[key]),
        )
    longest = max(map(len, found.values()))
    last = "y" if len(found) == 1 else f"y{len(found)}"
    x_axis = axis(
        title=title("epoch"), anchor=last, range=[0.7, longest + 0.3], tickformat="d", nticks=min(longest, 10)
    )
    return {"data": data, "layout": layout(60 + 170 * len(found), xaxis=x_axis, **axes)}


def _epochs(values: Sequence[float], key: str, name: str) -> dict[str, Any]:
    loss = key == "losses"
    shown = [value if loss else 100 * value for value in values]
    style = Look("first", "diamond", "◆") if loss else Look("second", "circle", "●")
    texts = [
        f"epoch {epoch}<br>{safe(name)}: {plain(value) if loss else share(value)}"
        for epoch, value in enumerate(values, 1)
    ]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(range(1, len(values) + 1)),
        "y": [value if math.isfinite(value) else None for value in shown],
        "line": {"color": f"var(--{style.color})", "width": 2},
        "marker": {"color": f"var(--{style.color})", "symbol": style.symbol, "size": 7},
        **hover(texts),
    }
