"""The results as one HTML page that needs nothing else: no server, no network, no other file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from secateur.files import atomic_write
from secateur.reporting import figures, grids
from secateur.reporting.checks import check, finite_json
from secateur.reporting.grids import Table
from secateur.reporting.headlines import averaged, headline, key_figures, lede, removed_by_granularities, shown
from secateur.reporting.style import Figure, look
from secateur.reporting.values import curves, dense, metric
from secateur.reporting.words import duration

LAYERS_DRAWN = 24


@dataclass(frozen=True)
class Section:
    """A part of the page with plots.

    Args:
        key: Part of the names of its plots.
        title: Heading.
        reading: How to read it.
        plots: Figures by caption; the caption of a single plot is not shown.
        table: The same as numbers.
        legend: Colour, sign and name of what is drawn.
        note: What else there is to say.
    """

    key: str
    title: str
    reading: str
    plots: Mapping[str, Figure]
    table: Table
    legend: list[tuple[str, str, str]] = field(default_factory=list)
    note: str = ""

    @property
    def named(self) -> list[tuple[str, str, Figure]]:
        """Identifier, caption and figure of each plot."""
        return [(f"{self.key}-{place}", caption, figure) for place, (caption, figure) in enumerate(self.plots.items())]


def write_page(results: Mapping[str, Any], path: Path) -> None:
    """Write the page, whole or not at all.

    Args:
        results: What a run measured.
        path: The file.

    Raises:
        RunError: A key is missing or of another type, or the file cannot be written.
    """
    atomic_write(Path(path), page(results).encode("utf-8", errors="replace"))


def page(results: Mapping[str, Any]) -> str:
    """The results as a page; what is absent from them is left out of it.

    Args:
        results: What a run measured.

    Returns:
        HTML.

    Raises:
        RunError: A key is missing or of another type; it is named.

    Example:
        >>> accuracy = {"dense": 0.97, "pruned_only": 0.6, "fine_tuned": 0.965}
        >>> "accuracy is 96.5 %" in page({"kind": "prune", "task": "digits", "accuracy": accuracy})
        True
    """
    check(results)
    sections = list(_sections(results))
    drawn = {key: figure for section in sections for key, _, figure in section.named}
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            headline=headline(results),
            lede=lede(results),
            title=f"{results['task']} – {'demonstration' if results['kind'] == 'demo' else 'pruning'}",
            key_figures=key_figures(results),
            sections=sections,
            layers=grids.layer_table(results),
            shown=shown(results),
            facts=list(_facts(results)),
            results_json=_script_json(finite_json(results)),
            figures_json=_script_json(finite_json(drawn)),
            plotly=_plotly() if drawn else "",
        )
    )


@lru_cache(maxsize=1)
def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _plotly() -> Markup:
    return Markup(get_plotlyjs())  # noqa: S704 - the library's own code


def _script_json(value: Any) -> Markup:
    """JSON that cannot end the element it stands in: without ``<``, ``>`` and ``&``."""
    text = json.dumps(value, allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 - escaped above


def _sections(results: Mapping[str, Any]) -> Iterator[Section]:
    made = (_curves, _granularities, _sizes, _weights, _history)
    yield from (section for make in made if (section := make(results)) is not None)


def _method(key: str, name: str) -> tuple[str, str, str]:
    return look(key).color, look(key).sign, name


def _dense_sign(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return [("muted", "┅", "dense network")] if dense(results).known else []


def _curves(results: Mapping[str, Any]) -> Section | None:
    figure = figures.curve_figure(results)
    if figure is None:
        return None
    name = metric(results)
    bands = f" Bands: one standard deviation{averaged(results).replace('mean ± standard deviation ', '')}."
    return Section(
        "curves",
        f"{name.capitalize()} against sparsity",
        "Read from left to right: the further right, the fewer weights are left, and the higher a line stays, the less"
        " is lost.",
        {f"{name} against sparsity": figure},
        grids.curve_table(results),
        [_method(curve.key, curve.label) for curve in curves(results)] + _dense_sign(results),
        bands.strip() if averaged(results) else "",
    )


def _granularities(results: Mapping[str, Any]) -> Section | None:
    figure = figures.granularity_figure(results)
    if figure is None:
        return None
    removed = removed_by_granularities(results["granularities"])
    return Section(
        "granularities",
        f"Granularities{removed}",
        "Each row is a shape of what is removed; the bar between the points is what fine-tuning wins back.",
        {f"{metric(results)} of granularities": figure},
        grids.granularity_table(results),
        [_method("pruned_only", "pruning only"), _method("fine_tuned", "pruning + fine-tuning"), *_dense_sign(results)],
        f"Whiskers: one standard deviation over {len(results.get('seeds') or ())} seeds." if averaged(results) else "",
    )


def _sizes(results: Mapping[str, Any]) -> Section | None:
    figure = figures.size_figure(results)
    if figure is None:
        return None
    return Section(
        "sizes",
        "Size of the weights",
        "The shorter a bar, the fewer bytes the prunable weights take; × says how many times smaller than the first.",
        {"size of the weights in bytes": figure},
        grids.size_table(results),
        note=shown(results),
    )


def _weights(results: Mapping[str, Any]) -> Section | None:
    drawn = figures.weight_figures(results)
    if not drawn:
        return None
    more = f" The first {LAYERS_DRAWN} of {len(drawn)} layers are drawn." if len(drawn) > LAYERS_DRAWN else ""
    return Section(
        "weights",
        "Weights before and after",
        "Each plot is a layer: how many weights (log scale) have which value; the gap around zero is what was removed.",
        dict(list(drawn.items())[:LAYERS_DRAWN]),
        grids.weight_table(results),
        [("before", "■", "before pruning"), ("second", "■", "left after pruning and fine-tuning")],
        shown(results) + more,
    )


def _history(results: Mapping[str, Any]) -> Section | None:
    figure = figures.history_figure(results)
    if figure is None:
        return None
    return Section(
        "history",
        "Training after pruning",
        "Read from left to right, epoch by epoch: loss should fall, and validation rise or hold.",
        {"training after pruning": figure},
        grids.history_table(results),
    )


def _facts(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """How the results came about, as names and values."""
    for key in ("command", "task", "metric"):
        if results.get(key):
            yield key, results[key]
    if results.get("seeds"):
        yield "seeds", ", ".join(map(str, results["seeds"]))
    yield from ((key, _plain(value)) for key, value in (results.get("settings") or {}).items())
    for key in ("device", "created"):
        if results.get(key):
            yield key, results[key]
    if results.get("seconds") is not None:
        yield "time", duration(results["seconds"])
    yield from (results.get("versions") or {}).items()


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(finite_json(value), ensure_ascii=False)
