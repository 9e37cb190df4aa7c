"""What the numbers say, in sentences and in a row of key figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from secateur.reporting.values import Curve, Measured, curves, dense, label, measured, metric, seeds, sizes
from secateur.reporting.words import count, duration, level, number, points, share, size, times

TOLERANCE = 0.01
"""A network counts as being as good as the dense one while it loses no more than this."""


class KeyFigure(NamedTuple):
    """One figure of the row under the headline."""

    name: str
    value: str
    note: str


class Best(NamedTuple):
    """A point of a curve that stands for all of them."""

    curve: Curve
    sparsity: float
    accuracy: Measured
    within: bool


def headline(results: Mapping[str, Any]) -> str:
    """The main finding in one sentence.

    Args:
        results: Checked results.

    Returns:
        The sentence.

    Example:
        >>> curve = {"sparsity": [0.5, 0.9], "accuracy": [0.97, 0.96]}
        >>> headline({"dense": {"accuracy": {"mean": 0.965}}, "curves": {"fine_tuned": curve}})
        '90 % of the weights can go at a cost of 0.5 points of accuracy'
    """
    if results.get("accuracy"):
        return _pruned_headline(results)
    best, before = best_point(results), dense(results)
    if best is None:
        return f"Results for {results.get('task', 'a task')}"
    if not before.known:
        return f"{metric(results).capitalize()} is {best.accuracy} with {level(best.sparsity)} of the weights removed"
    change = best.accuracy.mean - before.mean
    if best.within:
        return f"{level(best.sparsity)} of the weights can go {_price(change, metric(results))}"
    size_of = points(change).lstrip("−")
    return f"Even at {level(best.sparsity)} sparsity, the lowest measured, {metric(results)} falls by {size_of}"


def _price(change: float, name: str) -> str:
    text = points(change)
    if text.startswith("−"):
        return f"at a cost of {text[1:]} of {name}"
    return f"and {name} rises by {text[1:]}" if text.startswith("+") else f"with {name} unchanged to a tenth of a point"


def _pruned_headline(results: Mapping[str, Any]) -> str:
    found = {key: number(results["accuracy"].get(key)) for key in ("dense", "pruned_only", "fine_tuned")}
    after = found["fine_tuned"] if math.isfinite(found["fine_tuned"]) else found["pruned_only"]
    if not math.isfinite(after):
        return f"Dense {metric(results)} is {share(found['dense'])}"
    removed = number(results.get("sparsity"))
    start = f"With {share(removed)} of the weights removed" if math.isfinite(removed) else "After pruning"
    change = points(after - found["dense"]) if math.isfinite(found["dense"]) else ""
    ending = f", {change} against the dense network" if change else ""
    return f"{start}, {metric(results)} is {share(after)}{ending}"


def best_point(results: Mapping[str, Any]) -> Best | None:
    """The highest sparsity that costs no more than a point; else the best accuracy at the lowest sparsity.

    Args:
        results: Checked results.

    Returns:
        The point; None where there are no curves. Without a dense accuracy, the best at the highest sparsity.
    """
    before = dense(results)
    found = [Best(curve, *point, within=True) for curve in curves(results) for point in curve.points]
    if not found:
        return None
    fair = [item for item in found if not before.known or item.accuracy.mean >= before.mean - TOLERANCE - 1e-9]
    if fair:
        return max(fair, key=lambda item: (item.sparsity, item.accuracy.mean))
    return min(found, key=lambda item: (item.sparsity, -item.accuracy.mean))._replace(within=False)


def lede(results: Mapping[str, Any]) -> str:
    """What stands behind the headline, in a sentence or two.

    Args:
        results: Checked results.

    Returns:
        The sentences; empty where there is nothing to add.
    """
    return " ".join(sentence for sentence in _lede(results) if sentence)


def _lede(results: Mapping[str, Any]) -> Iterator[str]:
    if results.get("accuracy"):
        yield _pruned_lede(results)
        return
    best, before = best_point(results), dense(results)
    if best is not None:
        against = f", against {before} for the dense network" if before.known else ""
        name = best.curve.label.capitalize()
        yield f"{name} reaches {best.accuracy} at {level(best.sparsity)} sparsity{against}{averaged(results)}."
    yield _contrast(curves(results))


def _pruned_lede(results: Mapping[str, Any]) -> str:
    found = {key: number(results["accuracy"].get(key)) for key in ("dense", "pruned_only", "fine_tuned")}
    names = {"dense": "dense", "pruned_only": "right after pruning", "fine_tuned": "after fine-tuning"}
    known = [f"{share(value)} {names[key]}" for key, value in found.items() if math.isfinite(value)]
    return f"{metric(results).capitalize()}: {', '.join(known)}." if known else ""


def averaged(results: Mapping[str, Any]) -> str:
    """How means and spreads came about.

    Args:
        results: Checked results.

    Returns:
        A clause that begins with a blank; empty for fewer than two seeds.

    Example:
        >>> averaged({"seeds": [0, 1, 2]})
        ' (mean ± standard deviation over 3 seeds)'
    """
    return f" (mean ± standard deviation over {seeds(results)} seeds)" if seeds(results) > 1 else ""


def _contrast(found: Sequence[Curve]) -> str:
    """How far the methods are apart at the highest sparsity that all have."""
    common = set.intersection(*({point.sparsity for point in curve.points} for curve in found)) if found else set()
    if len(found) < 2 or not common:
        return ""
    last = max(common)
    ranked = sorted(found, key=lambda curve: curve.at(last).mean)
    low, high = ranked[0], ranked[-1]
    return f"At {level(last)}, {low.label} is left with {low.at(last)}, {high.label} with {high.at(last)}."


def key_figures(results: Mapping[str, Any]) -> list[KeyFigure]:
    """The row of figures under the headline.

    Args:
        results: Checked results.

    Returns:
        Those that are known.
    """
    first = _accuracies(results) if results.get("accuracy") else _of_curves(results)
    return [*first, *_left(results), *_smallest(results), *_time(results)]


def _accuracies(results: Mapping[str, Any]) -> Iterator[KeyFigure]:
    names = {"dense": f"{metric(results)}, dense", "pruned_only": "right after pruning", "fine_tuned": "fine-tuned"}
    before = number(results["accuracy"].get("dense"))
    for key, name in names.items():
        value = number(results["accuracy"].get(key))
        if math.isfinite(value):
            note = "" if key == "dense" or not math.isfinite(before) else f"{points(value - before)} against dense"
            yield KeyFigure(name, share(value), note)


def _of_curves(results: Mapping[str, Any]) -> Iterator[KeyFigure]:
    before, best = dense(results), best_point(results)
    if before.known:
        weights = number((results.get("dense") or {}).get("weights"))
        yield KeyFigure(
            f"{metric(results)}, dense", str(before), f"{count(weights)} weights" if math.isfinite(weights) else ""
        )
    if best is not None:
        yield KeyFigure(f"at {level(best.sparsity)} sparsity", str(best.accuracy), best.curve.label)


def _left(results: Mapping[str, Any]) -> Iterator[KeyFigure]:
    left, total = number(results.get("weights_left")), number(results.get("weights_total"))
    if math.isfinite(left) and math.isfinite(total):
        yield KeyFigure("weights left", count(left), f"of {count(total)}, {times(total, left)} fewer")


def _smallest(results: Mapping[str, Any]) -> Iterator[KeyFigure]:
    rows = [row for row in sizes(results) if math.isfinite(row[1])]
    if len(rows) > 1:
        name, value, _ = min(rows, key=lambda row: row[1])
        yield KeyFigure("smallest form", size(value), f"{name}; {times(rows[0][1], value)} less than {rows[0][0]}")


def _time(results: Mapping[str, Any]) -> Iterator[KeyFigure]:
    seconds = number(results.get("seconds"))
    if math.isfinite(seconds):
        yield KeyFigure("time", duration(seconds), results.get("device") or "")


def shown(results: Mapping[str, Any]) -> str:
    """Which network sizes, weights and layers belong to.

    Args:
        results: Checked results.

    Returns:
        A sentence; empty where it is not known.

    Example:
        >>> shown({"shown": {"curve": "iterative", "sparsity": 0.9, "seed": 0}})
        'The network is the one of iterative pruning + fine-tuning at 90 % sparsity, seed 0.'
    """
    given = results.get("shown") or {}
    parts = [f"of {label(given['curve'])}"] if given.get("curve") else []
    if given.get("sparsity") is not None:
        parts.append(f"at {level(given['sparsity'])} sparsity")
    seed = f", seed {given['seed']}" if given.get("seed") is not None else ""
    return f"The network is the one {' '.join(parts)}{seed}." if parts else ""


def removed_by_granularities(rows: Sequence[Mapping[str, Any]]) -> str:
    """At which sparsity granularities were compared.

    Args:
        rows: The granularities.

    Returns:
        A clause that begins with a blank; empty where the sparsities are unknown or differ.

    Example:
        >>> removed_by_granularities([{"weights_removed": 0.75}, {"weights_removed": 0.7501}])
        ' with 75.0 % of the weights removed'
    """
    found = [number(row.get("weights_removed")) for row in rows]
    if not found or not all(map(math.isfinite, found)) or max(found) - min(found) > 0.02:
        return ""
    return f" with {share(sorted(found)[len(found) // 2])} of the weights removed"


def granularity_rows(results: Mapping[str, Any]) -> list[tuple[str, Measured, Measured]]:
    """The granularities that were measured, from the least harmful to the most.

    Args:
        results: Checked results.

    Returns:
        Name, accuracy right after pruning, accuracy after fine-tuning.
    """
    given = results.get("granularities") or []
    rows = [(row["name"], measured(row.get("pruned_only")), measured(row.get("fine_tuned"))) for row in given]
    known = [row for row in rows if row[1].known or row[2].known]
    return sorted(known, key=lambda row: -(row[1].mean if row[1].known else row[2].mean))
