"""The measurements as tables, the same for the page and the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any, NamedTuple

from secateur.reporting.headlines import change, text
from secateur.reporting.values import accuracies, curves, dense, histograms, history, measured, metric, scale, sizes
from secateur.reporting.words import DASH, count, level, number, plain, share, size, times


class Table(NamedTuple):
    """Text in rows; columns whose name ends in ``>`` are right-aligned."""

    columns: list[str]
    rows: list[list[str]]


def curve_table(results: Mapping[str, Any]) -> Table:
    """Accuracy by sparsity and method.

    Args:
        results: Checked results.

    Returns:
        One row for each sparsity; none where there are no curves.

    Example:
        >>> curve_table({"curves": {"iterative": {"sparsity": [0.9], "accuracy": [0.5]}}}).rows
        [['90 %', '50.0 %']]
    """
    found, units = curves(results), scale(results)
    levels = sorted({point.sparsity for curve in found for point in curve.points})
    rows = [[level(value), *(text(curve.at(value), units) for curve in found)] for value in levels]
    return Table(["sparsity>", *(f"{curve.label}>" for curve in found)], rows)


def granularity_table(results: Mapping[str, Any]) -> Table:
    """Accuracy by granularity, in the order of the results.

    Args:
        results: Checked results.

    Returns:
        One row for each granularity.
    """
    given, units = results.get("granularities") or [], scale(results)
    rows = [
        [
            row["name"],
            share(number(row.get("weights_removed"))),
            text(measured(row.get("pruned_only")), units),
            text(measured(row.get("fine_tuned")), units),
            row.get("note") or "",
        ]
        for row in given
    ]
    table = Table(["granularity", "weights removed>", "pruning only>", "pruning + fine-tuning>", "remark"], rows)
    return without_empty_end(table)


def without_empty_end(table: Table) -> Table:
    """A table without its last column, if that is empty.

    Args:
        table: The table.

    Returns:
        The table.
    """
    if any(row[-1] for row in table.rows):
        return table
    return Table(table.columns[:-1], [row[:-1] for row in table.rows])


def size_table(results: Mapping[str, Any]) -> Table:
    """Bytes by form.

    Args:
        results: Checked results.

    Returns:
        One row for each form, compared with the first.

    Example:
        >>> size_table({"sizes": [{"name": "dense", "bytes": 4000}, {"name": "CSR", "bytes": 1000}]}).rows
        [['dense', '4,000', '4.0 kB', '1.0×'], ['CSR', '1,000', '1.0 kB', '4.0×']]
    """
    given = sizes(results)
    rows = [[name, count(value), size(value), times(given[0][1], value), note] for name, value, note in given]
    return without_empty_end(Table(["form", "bytes>", "size>", "times smaller>", "how"], rows))


def accuracy_table(results: Mapping[str, Any]) -> Table:
    """The accuracies of one pruned network.

    Args:
        results: Checked results.

    Returns:
        Up to four rows.
    """
    names = {
        "dense": "dense",
        "pruned_only": "pruning only",
        "reestimated": "pruning, batch norms measured again",
        "fine_tuned": "pruning + fine-tuning",
    }
    before, units = dense(results).mean, scale(results)
    rows = [
        [names[key], units.one(value), DASH if key == "dense" else change(value - before, units)]
        for key, value in accuracies(results).items()
        if math.isfinite(value)
    ]
    return Table(["network", f"{metric(results)}>", "against dense>"], rows)


def layer_table(results: Mapping[str, Any]) -> Table:
    """The layers as the results have them, without columns in which all is empty.

    Args:
        results: Checked results.

    Returns:
        One row for each layer.

    Example:
        >>> layer_table({"layers": {"columns": ["layer", "remark"], "rows": [["fc", ""]]}})
        Table(columns=['layer'], rows=[['fc']])
    """
    given = results.get("layers") or {"columns": [], "rows": []}
    kept = [index for index in range(len(given["columns"])) if any(row[index] for row in given["rows"])]
    return Table([given["columns"][index] for index in kept], [[row[index] for index in kept] for row in given["rows"]])


def weight_table(results: Mapping[str, Any]) -> Table:
    """How many weights the histograms count.

    Args:
        results: Checked results.

    Returns:
        One row for each layer.
    """
    rows = []
    for name, item in histograms(results).items():
        before, after = (sum(map(number, item[key])) for key in ("before", "after"))
        rows.append([name, count(before), count(after), share(after / before if before else math.nan)])
    return Table(["layer", "weights before>", "weights left>", "share left>"], rows)


def bin_table(item: Mapping[str, Any]) -> Table:
    """A histogram.

    Args:
        item: Edges of the bins, counts before and after.

    Returns:
        One row for each bin.

    Example:
        >>> bin_table({"edges": [0.0, 0.5, 1.0], "before": [3, 2], "after": [0, 2]}).rows
        [['0', '0.5', '3', '0'], ['0.5', '1', '2', '2']]
    """
    edges = [plain(number(edge)) for edge in item["edges"]]
    counts = ([count(number(value)) for value in item[key]] for key in ("before", "after"))
    rows = [list(row) for row in zip(edges, edges[1:], *counts, strict=False)]
    return Table(["from>", "to>", "before>", "left>"], rows)


def history_table(results: Mapping[str, Any]) -> Table:
    """What training recorded.

    Args:
        results: Checked results.

    Returns:
        One row for each epoch.
    """
    found = history(results)
    names = {"losses": "loss>", "validation": f"validation {metric(results)}>", "sparsity": "sparsity>"}
    writers = {"losses": plain, "validation": scale(results).one, "sparsity": share}
    texts = [list(map(writers[key], values)) for key, values in found.items()]
    rows = [[str(epoch), *row] for epoch, row in enumerate(zip_longest(*texts, fillvalue=DASH), 1)]
    return Table(["epoch>", *(names[key] for key in found)], rows)
