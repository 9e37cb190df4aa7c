"""The sections of the page: for each a heading, a sentence on how to read it, plots, and the same as numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from secateur.reporting import figures, grids, smaller
from secateur.reporting.grids import Table
from secateur.reporting.headlines import capital, removed_by_granularities, shown
from secateur.reporting.style import Figure, look
from secateur.reporting.values import curves, dense, histograms, metric, seeds

LAYERS_TOGETHER = 12
"""More layers than this are shown one at a time."""

ROWS_IN_WORDS = 12

LONGER = "The iterative network goes on from each sparsity to the next, so at the last one it has been trained longest."


class Sign(NamedTuple):
    """An entry of a legend."""

    color: str
    sign: str
    name: str


@dataclass(frozen=True)
class Plot:
    """A plot and the numbers in it.

    Args:
        name: Names its element.
        caption: What is drawn.
        figure: How.
        words: The same for those who do not see it.
        table: The same as numbers, where no other plot of the section has them.
    """

    name: str
    caption: str
    figure: Figure
    words: str
    table: Table | None = None


@dataclass(frozen=True)
class Section:
    """A part of the page with plots.

    Args:
        key: Names its element.
        title: Heading.
        reading: How to read it.
        plots: What is drawn; the caption of a single plot is not shown.
        table: The same as numbers, for all plots together.
        signs: The legend.
        note: What else there is to say.
        picked: Whether the reader picks one plot at a time.
        open: Tables that are shown at once, each with its caption.
    """

    key: str
    title: str
    reading: str
    plots: tuple[Plot, ...]
    table: Table
    signs: tuple[Sign, ...] = ()
    note: str = ""
    picked: bool = False
    open: tuple[tuple[str, Table], ...] = ()


def sections(results: Mapping[str, Any]) -> list[Section]:
    """The sections that have something to show.

    Args:
        results: Checked results.

    Returns:
        In the order of the page.

    Example:
        >>> given = {"sizes": [{"name": "dense", "bytes": 4000}, {"name": "CSR", "bytes": 1000}]}
        >>> [(section.key, len(section.plots), section.table.rows[1][-1]) for section in sections(given)]
        [('sizes', 1, '4.0×')]
    """
    made = (_curves, _granularities, _smaller, _history, _sizes, _weights)
    return [section for make in made if (section := make(results)) is not None]


def in_words(table: Table) -> str:
    """A table as a sentence, for readers who hear the page.

    Args:
        table: The table.

    Returns:
        Its first rows.

    Example:
        >>> in_words(Table(["form", "bytes>"], [["dense", "4,000"], ["CSR", "1,000"]]))
        'dense: bytes 4,000; CSR: bytes 1,000'
    """
    names = [column.rstrip(">") for column in table.columns[1:]]
    rows = [
        f"{row[0]}: {', '.join(f'{name} {cell}' for name, cell in zip(names, row[1:], strict=True) if cell)}"
        for row in table.rows[:ROWS_IN_WORDS]
    ]
    return "; ".join(rows) + (" …" if len(table.rows) > ROWS_IN_WORDS else "")


def _plots(key: str, table: Table, drawn: Mapping[str, Figure | None]) -> tuple[Plot, ...]:
    known = [(caption, figure) for caption, figure in drawn.items() if figure is not None]
    return tuple(
        Plot(f"{key}-{place}", caption, figure, in_words(table)) for place, (caption, figure) in enumerate(known)
    )


def _method(key: str, name: str) -> Sign:
    return Sign(look(key).color, look(key).sign, name)


def _dense_sign(results: Mapping[str, Any]) -> Iterator[Sign]:
    if dense(results).known:
        yield Sign("muted", "– –", "dense network")


def _over(results: Mapping[str, Any], drawn: str) -> str:
    return f"{drawn}: ± one standard deviation over {seeds(results)} seeds." if seeds(results) > 1 else ""


def _curves(results: Mapping[str, Any]) -> Section | None:
    table, name = grids.curve_table(results), capital(metric(results))
    drawn = {
        "Whole range": figures.curve_figure(results),
        "Close to the dense network": figures.close_curve_figure(results),
    }
    plots = _plots("curves", table, drawn)
    if not plots:
        return None
    return Section(
        "curves",
        f"{name} against sparsity",
        "The further right, the fewer weights are left (log scale); the higher a line stays, the less is lost.",
        plots,
        table,
        (*(_method(curve.key, curve.label) for curve in curves(results)), *_dense_sign(results)),
        " ".join(filter(None, (_over(results, "Bands"), LONGER if "iterative" in results["curves"] else ""))),
    )


def _granularities(results: Mapping[str, Any]) -> Section | None:
    table = grids.granularity_table(results)
    plots = _plots("granularities", table, {"Granularities": figures.granularity_figure(results)})
    if not plots:
        return None
    return Section(
        "granularities",
        f"Granularities{removed_by_granularities(results['granularities'])}",
        "Each row is a shape of what is removed; the bar between the points is what fine-tuning wins back.",
        plots,
        table,
        (_method("pruned_only", "pruning only"), _method("fine_tuned", "pruning + fine-tuning"), *_dense_sign(results)),
        _over(results, "Whiskers"),
    )


def _smaller(results: Mapping[str, Any]) -> Section | None:
    shown_at_once = tuple((capital(title), found) for title, found in smaller.tables(results)[:2] if found.rows)
    table = smaller.layer_table(results)
    if not shown_at_once and not table.rows:
        return None
    return Section(
        "smaller",
        "The smaller model",
        "Whole channels leave, so tensors get smaller. Parameters and multiply-accumulates are counted and promise no "
        "speed; times are measured. The bars are the channels that each layer puts out.",
        _plots("smaller", table, {"Channels": smaller.channel_figure(results)}),
        table,
        (Sign("before", "■", "before pruning"), Sign("second", "■", "left")),
        open=shown_at_once,
    )


def _history(results: Mapping[str, Any]) -> Section | None:
    table = grids.history_table(results)
    plots = _plots("history", table, {"Training after pruning": figures.history_figure(results)})
    if not plots:
        return None
    reading = "Each point is an epoch: loss should fall, and what is measured on the validation data rise or hold."
    return Section("history", "Training after pruning", reading, plots, table)


def _sizes(results: Mapping[str, Any]) -> Section | None:
    table = grids.size_table(results)
    plots = _plots("sizes", table, {"Size of the weights": figures.size_figure(results)})
    if not plots:
        return None
    return Section(
        "sizes",
        "Size of the weights",
        "The shorter a bar, the fewer bytes the prunable weights take; × says how many times smaller than the first.",
        plots,
        table,
        note=shown(results),
    )


def _weights(results: Mapping[str, Any]) -> Section | None:
    found, table = histograms(results), grids.weight_table(results)
    if not found:
        return None
    drawn = figures.weight_figures(results)
    plots = tuple(
        Plot(f"weights-{place}", name, drawn[name], in_words(Table(table.columns, [row])), grids.bin_table(found[name]))
        for place, (name, row) in enumerate(zip(found, table.rows, strict=True))
    )
    return Section(
        "weights",
        "Weights before and after",
        "For each layer, how many weights (log scale) have which value; where only grey is seen, all were removed.",
        plots,
        table,
        (Sign("before", "■", "before pruning"), Sign("second", "■", "left after pruning and fine-tuning")),
        shown(results),
        picked=len(plots) > LAYERS_TOGETHER,
    )
