"""The results as one HTML page that needs nothing else: no server, no network, no other file."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from secateur.files import atomic_write
from secateur.reporting import grids
from secateur.reporting.checks import check, finite_json
from secateur.reporting.headlines import headline, key_figures, lede, shown
from secateur.reporting.sections import sections
from secateur.reporting.words import duration, moment, number, setting, tied

TEMPLATES = Path(__file__).parent / "templates"


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
        >>> "<h1>After pruning, accuracy is 96.5" in page({"kind": "prune", "task": "digits", "accuracy": accuracy})
        True
    """
    check(results)
    parts = sections(results)
    script = (TEMPLATES / "draw.js").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            headline=headline(results),
            lede=lede(results),
            title=f"{results['task']} – {'demonstration' if results['kind'] == 'demo' else 'pruning'}",
            key_figures=key_figures(results),
            sections=parts,
            layers=grids.layer_table(results),
            shown=shown(results),
            facts=list(_facts(results)),
            results=_script_json(finite_json(results)),
            figures=_script_json(finite_json({plot.name: plot.figure for part in parts for plot in part.plots})),
            library=_library() if parts else None,
            script=Markup(script),  # noqa: S704 - the file beside the template
            script_digest=_digest(script.encode()),
        )
    )


class Library(NamedTuple):
    """Plotly's code, packed for the page, and the digest by which the page lets it run and no other code."""

    packed: str
    digest: str


@lru_cache(maxsize=1)
def _library() -> Library:
    code = get_plotlyjs().encode()
    return Library(base64.b64encode(gzip.compress(code, 9, mtime=0)).decode(), _digest(code))


def _digest(code: bytes) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(code).digest()).decode()


@lru_cache(maxsize=1)
def _environment() -> Environment:
    loader = FileSystemLoader(TEMPLATES)
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["tied"] = tied
    return made


def _script_json(value: Any) -> Markup:
    """JSON that cannot end the element it stands in: without ``<``, ``>`` and ``&``."""
    text = json.dumps(value, allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 - escaped above


def _facts(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """How the results came about, as names and values."""
    first = {key: results[key] for key in ("command", "task", "metric") if results.get(key)}
    if results.get("seeds"):
        first["seeds"] = ", ".join(map(str, results["seeds"]))
    yield from first.items()
    settings = results.get("settings") or {}
    yield from ((key, setting(value)) for key, value in settings.items() if key not in first)
    if results.get("device"):
        yield "device", results["device"]
    if results.get("created"):
        yield "created", moment(results["created"])
    if results.get("seconds") is not None:
        yield "time", duration(number(results["seconds"]))
    yield from (results.get("versions") or {}).items()
