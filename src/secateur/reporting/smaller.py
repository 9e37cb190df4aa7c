"""What results say of a smaller model beside the whole one: tables and a plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from secateur.reporting.grids import Table, without_empty_end
from secateur.reporting.style import Figure, axis, hover, layout, safe, short
from secateur.reporting.words import DASH, brief, count, number, share, span, times

LINE = 24  # pixels of a layer
MOST_LAYERS = 60
"""More layers than this are in the table only."""

TITLES = {
    "counts": "parameters and multiply-accumulates",
    "latency": "time of a forward pass",
    "layers": "layers, whole → smaller",
}


def tables(results: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """All tables, each with a title.

    Args:
        results: Checked results.

    Returns:
        Counts, times, layers.
    """
    return [
        (TITLES["counts"], count_table(results)),
        (f"{TITLES['latency']}{measured_on(results)}", latency_table(results)),
        (TITLES["layers"], layer_table(results)),
    ]


def measured_on(results: Mapping[str, Any]) -> str:
    """What times were measured on, and how.

    Args:
        results: Checked results.

    Returns:
        A clause that begins with a comma.
    """
    device = _report(results).get("device")
    return f", medians; both models in turn{f', on {device}' if device else ''}"


def count_table(results: Mapping[str, Any]) -> Table:
    """Parameters and multiply-accumulates of both models.

    Args:
        results: Checked results.

    Returns:
        Two rows.

    Example:
        >>> count_table({"report": {"parameters": [17, 9], "macs": [12, 6], "batch": 1}}).rows
        [['parameters', '17', '9', '52.9 %'], ['multiply-accumulates, batch 1', '12', '6', '50.0 %']]
    """
    given = _report(results)
    batch = f", batch {given['batch']}" if given.get("batch") is not None else ""
    names = {"parameters": "parameters", "macs": f"multiply-accumulates{batch}"}
    rows = [
        [name, count(before), count(after), share(after / before if before else math.nan)]
        for key, name in names.items()
        if given.get(key)
        for before, after in [_two(given[key])]
    ]
    return Table(["", "whole>", "smaller>", "left>"], rows)


def latency_table(results: Mapping[str, Any]) -> Table:
    """Times of both models, as measured.

    Args:
        results: Checked results.

    Returns:
        One row for each size of a batch.

    Example:
        >>> row = {"batch": 64, "before": 0.004, "after": 0.0025, "ratio": 1.62, "pairs": 50}
        >>> latency_table({"report": {"latency": [row]}}).rows
        [['64', '4.00 ms', '2.50 ms', '1.6×', '50']]
    """
    rows = [
        [
            count(number(row.get("batch"))),
            span(number(row.get("before"))),
            span(number(row.get("after"))),
            times(number(row.get("ratio")), 1.0),
            count(number(row.get("pairs"))),
            row.get("remark") or "",
        ]
        for row in _report(results).get("latency") or ()
    ]
    return without_empty_end(Table(["batch>", "whole>", "smaller>", "whole / smaller>", "pairs>", "remark"], rows))


def layer_table(results: Mapping[str, Any]) -> Table:
    """Channels, parameters and multiply-accumulates of the layers, before and after.

    Args:
        results: Checked results.

    Returns:
        One row for each layer, and one for what else has parameters.
    """
    rows = [
        [
            row.get("name") or "(the model itself)",
            *(_changed(row.get(key), brief) for key in ("inputs", "outputs", "parameters", "macs")),
            row.get("remark") or "",
        ]
        for row in layers(results)
    ]
    columns = ["layer", "inputs>", "outputs>", "parameters>", "MACs>", "remark"]
    return without_empty_end(Table(columns, [*rows, *_rest(results)] if rows else []))


def _rest(results: Mapping[str, Any]) -> list[list[str]]:
    """Parameters of norms, embeddings and whatever else multiplies nothing."""
    whole = _two(_report(results).get("parameters"))
    rest = [one - sum(_two(row.get("parameters"))[place] for row in layers(results)) for place, one in enumerate(whole)]
    return [["everything else", "", "", _changed(rest, brief), "", ""]] if any(value > 0 for value in rest) else []


def layers(results: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The layers as the results have them.

    Args:
        results: Checked results.

    Returns:
        One record for each.
    """
    return _report(results).get("layers") or ()


def channel_figure(results: Mapping[str, Any]) -> Figure | None:
    """A bar for the channels that each layer makes, over one for those it made.

    Args:
        results: Checked results.

    Returns:
        The figure; None where there is nothing to draw, or too much.
    """
    rows = [(row.get("name") or "", *_two(row.get("outputs"))) for row in layers(results)]
    known = [row for row in rows if math.isfinite(row[1]) and math.isfinite(row[2])]
    if not known or len(known) > MOST_LAYERS:
        return None
    texts = [f"<b>{safe(name)}</b><br>{count(other)} of {count(one)} channels" for name, one, other in known]
    before, after = [row[1] for row in known], [row[2] for row in known]
    data = [_bars(before, "before", texts), _bars(after, "second", texts)]
    y_axis = axis(
        tickvals=list(range(len(known))),
        ticktext=[short(name) for name, _, _ in known],
        range=[len(known) - 0.4, -0.6],
        tickfont={"color": "var(--ink)"},
        showgrid=False,
    )
    x_axis = axis(rangemode="tozero", nticks=6)
    return {"data": data, "layout": layout(50 + LINE * len(known), xaxis=x_axis, yaxis=y_axis, barmode="overlay")}


def _bars(values: Sequence[float], color: str, texts: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "x": list(values),
        "y": list(range(len(values))),
        "width": 0.7,
        "marker": {"color": f"var(--{color})", "line": {"width": 0}},
        **hover(texts),
    }


def _report(results: Mapping[str, Any]) -> Mapping[str, Any]:
    return results.get("report") or {}


def _two(value: Sequence[Any] | None) -> tuple[float, float]:
    before, after = value or (None, None)
    return number(before), number(after)


def _changed(value: Sequence[Any] | None, written: Callable[[float], str]) -> str:
    """Two numbers, or one that stays."""
    before, after = _two(value)
    if not math.isfinite(before) or not math.isfinite(after):
        return DASH
    return written(before) if before == after else f"{written(before)} → {written(after)}"
