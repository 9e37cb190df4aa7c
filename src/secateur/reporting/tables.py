"""The tables of a run as text cells, for the page and the terminal alike."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from secateur.reporting import values
from secateur.reporting.words import count, duration, level, number, plain, points, share, size, times


class Table(NamedTuple):
    """Cells of text; columns whose name ends in ``>`` are right-aligned."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def trimmed(self) -> Table:
        """Without columns that are empty in every row.

        Returns:
            The table.

        Example:
            >>> Table("", ("name", "note"), (("a", ""), ("b", ""))).trimmed().columns
            ('name',)
        """
        used = [index for index in range(len(self.columns)) if any(row[index] for row in self.rows)]
        columns = tuple(self.columns[index] for index in used)
        return Table(self.title, columns, tuple(tuple(row[index] for index in used) for row in self.rows))


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table | None:
    return Table(title, tuple(columns), tuple(map(tuple, rows))).trimmed() if rows else None


def curves(results: Mapping[str, Any]) -> Table | None:
    """Accuracy by sparsity and method.

    Args:
        results: Checked results.

    Returns:
        The table; None where there is nothing to show. So for every function here.
    """
    found, dense = values.curves(results), values.dense(results)
    levels = sorted({point.sparsity for curve in found for point in curve.points})
    rows = [[level(sparsity), *(str(curve.at(sparsity)) for curve in found)] for sparsity in levels]
    if rows and dense.known:
        rows.insert(0, ["dense", *(str(dense) for _ in found)])
    title = f"{values.metric(results).capitalize()} by sparsity"
    return _table(title, ["sparsity>", *(f"{curve.label}>" for curve in found)], rows)


def granularities(results: Mapping[str, Any]) -> Table | None:
    """What each granularity costs.

    Args:
        results: Checked results.

    Returns:
        The table.
    """
    rows = [
        [
            row["name"],
            share(number(row.get("weights_removed"))),
            str(values.measured(row.get("pruned_only"))),
            str(values.measured(row.get("fine_tuned"))),
            row.get("note") or "",
        ]
        for row in results.get("granularities") or []
    ]
    columns = ["granularity", "weights removed>", "pruning only>", "pruning + fine-tuning>", "note"]
    return _table(f"{values.metric(results).capitalize()} by granularity", columns, rows)


def sizes(results: Mapping[str, Any]) -> Table | None:
    """Bytes of each form, and how they compare with the first.

    Args:
        results: Checked results.

    Returns:
        The table.
    """
    found = values.sizes(results)
    rows = [
        [
            name,
            size(value),
            count(value),
            share(value / found[0][1] if found[0][1] else math.nan),
            times(found[0][1], value),
            note,
        ]
        for name, value, note in found
    ]
    return _table("Sizes", ["form", "size>", "bytes>", "of the first>", "smaller by>", "note"], rows)


def layers(results: Mapping[str, Any]) -> Table | None:
    """The plan, layer by layer.

    Args:
        results: Checked results.

    Returns:
        The table.
    """
    given = results.get("layers")
    return _table("Layers", given["columns"], given["rows"]) if given else None


def accuracy(results: Mapping[str, Any]) -> Table | None:
    """The accuracies of one run.

    Args:
        results: Checked results.

    Returns:
        The table.
    """
    given = results.get("accuracy") or {}
    names = {"dense": "dense", "pruned_only": "pruned, before fine-tuning", "fine_tuned": "pruned, after fine-tuning"}
    dense = number(given.get("dense"))
    found = {name: number(given[key]) for key, name in names.items() if key in given}
    rows = [[name, share(value), points(value - dense) if name != "dense" else ""] for name, value in found.items()]
    name = values.metric(results)
    return _table(name.capitalize(), ["network", f"{name}>", "from dense>"], rows)


def histogram(name: str, item: Mapping[str, Any]) -> Table:
    """Counts of weights by bin.

    Args:
        name: The layer.
        item: Edges of the bins, counts before and after.

    Returns:
        The table.
    """
    edges = [plain(number(edge)) for edge in item["edges"]]
    counts = zip(edges, edges[1:], item["before"], item["after"], strict=False)
    rows = tuple((low, high, count(number(before)), count(number(after))) for low, high, before, after in counts)
    return Table(f"Weights of {name}", ("from>", "to>", "before>", "after>"), rows)


def history(results: Mapping[str, Any]) -> Table | None:
    """The training, epoch by epoch.

    Args:
        results: Checked results.

    Returns:
        The table.
    """
    found = values.history(results)
    show = {"validation": share, "losses": plain, "sparsity": share}
    names = {"validation": f"validation {values.metric(results)}>", "losses": "loss>", "sparsity": "sparsity>"}
    length = max(map(len, found.values()), default=0)
    rows = [
        [str(index + 1), *(show[key](item[index]) if index < len(item) else "" for key, item in found.items())]
        for index in range(length)
    ]
    return _table("Training", ["epoch>", *(names[key] for key in found)], rows)


def run(results: Mapping[str, Any]) -> Table | None:
    """How the results were made.

    Args:
        results: Checked results.

    Returns:
        The table.
    """
    texts = {key: results.get(key) or "" for key in ("task", "command", "created", "device")}
    rows = [(key, text) for key, text in texts.items() if text]
    if results.get("seconds") is not None:
        rows.append(("time", duration(number(results["seconds"]))))
    if results.get("seeds"):
        rows.append(("seeds", ", ".join(map(str, results["seeds"]))))
    rows += [(f"version of {name}", text) for name, text in (results.get("versions") or {}).items()]
    return _table("This run", ["", ""], rows)


def settings(results: Mapping[str, Any]) -> Table | None:
    """What the run was asked to do.

    Args:
        results: Checked results.

    Returns:
        The table.
    """
    rows = [(name, _setting(value)) for name, value in (results.get("settings") or {}).items()]
    return _table("Settings", ["setting", "value"], rows)


def _setting(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_setting, value))
    return "–" if value is None else json.dumps(value, ensure_ascii=False)
