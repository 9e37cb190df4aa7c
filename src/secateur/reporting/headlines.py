"""What the numbers say, in sentences and in a row of key figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from secateur.reporting.values import (
    Curve,
    Measured,
    accuracies,
    curves,
    dense,
    label,
    measured,
    metric,
    scale,
    seeds,
    sizes,
    weights_left,
)
from secateur.reporting.words import DASH, Scale, brief, count, duration, level, number, share, size, span, times

TOLERANCE = 0.01
"""A network counts as good as dense while it loses no more: a point, or one in a hundred of a metric in other units."""


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


def text(value: Measured, units: Scale) -> str:
    """A mean and its spread.

    Args:
        value: The two.
        units: How the metric is written.

    Returns:
        The text.
    """
    return units.pair(value.mean, value.spread)


def change(difference: float, units: Scale) -> str:
    """A difference with its sign.

    Args:
        difference: Of two values of the metric.
        units: How the metric is written.

    Returns:
        The text.

    Example:
        >>> change(-0.006, Scale()), change(0.0, Scale()), change(0.01, Scale())
        ('−0.6 points', '0.0 points', '+1.0 point')
    """
    if not math.isfinite(difference):
        return DASH
    sign = "" if units.vanishes(difference) else "−" if difference < 0 else "+"
    return sign + units.amount(difference)


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
    best, before, units = best_point(results), dense(results), scale(results)
    if best is None:
        return f"Results for {results.get('task', 'a task')}"
    name, at = metric(results), level(best.sparsity)
    if not before.known:
        return f"{capital(name)} is {text(best.accuracy, units)} with {at} of the weights removed"
    difference = best.accuracy.mean - before.mean
    if best.within:
        return f"{at} of the weights can go {_price(difference, name, units)}"
    return f"Even at {at} sparsity, the lowest measured, {name} falls by {units.amount(difference)}"


def capital(words: str) -> str:
    """Text that begins a sentence.

    Args:
        words: The text.

    Returns:
        The text, only its first letter changed.

    Example:
        >>> capital("mIoU")
        'MIoU'
    """
    return words[:1].upper() + words[1:]


def _price(difference: float, name: str, units: Scale) -> str:
    if units.vanishes(difference):
        return f"with {name} unchanged" + (" to a tenth of a point" if units.percent else "")
    if difference > 0:
        return f"and {name} rises by {units.amount(difference)}"
    return f"at a cost of {units.amount(difference)} of {name}"


def _pruned_headline(results: Mapping[str, Any]) -> str:
    found, units = accuracies(results), scale(results)
    known = [value for key, value in found.items() if key != "dense" and math.isfinite(value)]
    if not known:
        return f"Dense {metric(results)} is {units.one(found['dense'])}"
    after = known[-1]
    difference = after - found["dense"]
    ending = f", {change(difference, units)} against the dense network" if math.isfinite(difference) else ""
    return f"{_after_what(results)}, {metric(results)} is {units.one(after)}{ending}"


def _after_what(results: Mapping[str, Any]) -> str:
    """How much went: of the weights where they were counted; sparsity may be one of units, of filters for example."""
    gone = [f"{share(1 - after / before)} of the {name}" for name, before, after in _counts(results) if before]
    if gone:
        return f"With {' and '.join(gone)} gone"
    (left, total), sparsity = weights_left(results), number(results.get("sparsity"))
    if math.isfinite(left) and math.isfinite(total) and total:
        return f"With {share(1 - left / total)} of the weights removed"
    return f"At {level(sparsity)} sparsity" if math.isfinite(sparsity) else "After pruning"


def _counts(results: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    """What a whole and a smaller model count, where both are known."""
    for key, name in (("parameters", "parameters"), ("macs", "multiply-accumulates")):
        before, after = map(number, (results.get("report") or {}).get(key) or (None, None))
        if math.isfinite(before) and math.isfinite(after):
            yield name, before, after


def best_point(results: Mapping[str, Any]) -> Best | None:
    """The highest sparsity that costs no more than a point; else the best accuracy at the lowest sparsity.

    Args:
        results: Checked results.

    Returns:
        The point; None where there are no curves. Without a dense accuracy, the best at the highest sparsity.
    """
    before, units = dense(results), scale(results)
    loss = TOLERANCE * (1 if units.percent else abs(before.mean)) + 1e-9
    found = [Best(curve, *point, within=True) for curve in curves(results) for point in curve.points]
    if not found:
        return None
    fair = [item for item in found if not before.known or item.accuracy.mean >= before.mean - loss]
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
    best, before, units = best_point(results), dense(results), scale(results)
    if best is not None:
        against = f", against {text(before, units)} for the dense network" if before.known else ""
        name = capital(best.curve.label)
        reached = f"{text(best.accuracy, units)} at {level(best.sparsity)} sparsity"
        yield f"{name} reaches {reached}{against}{averaged(results)}."
        yield _chance(best.accuracy, before)
    yield _contrast(curves(results), units)


def _chance(found: Measured, before: Measured) -> str:
    """A warning where the seeds differ more than the networks do."""
    if before.known and abs(found.mean - before.mean) < max(found.spread or 0.0, before.spread or 0.0):
        return "The difference is smaller than the spread over the seeds."
    return ""


def _pruned_lede(results: Mapping[str, Any]) -> str:
    found, units = accuracies(results), scale(results)
    names = {
        "dense": "dense",
        "pruned_only": "right after pruning",
        "reestimated": "with batch norms measured again",
        "fine_tuned": "after fine-tuning",
    }
    known = [f"{units.one(value)} {names[key]}" for key, value in found.items() if math.isfinite(value)]
    once = " (one seed)" if seeds(results) == 1 else ""
    return f"{capital(metric(results))}: {', '.join(known)}{once}." if known else ""


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


def _contrast(found: Sequence[Curve], units: Scale) -> str:
    """How far the methods are apart at the highest sparsity that all have."""
    common = set.intersection(*({point.sparsity for point in curve.points} for curve in found)) if found else set()
    if len(found) < 2 or not common:
        return ""
    last = max(common)
    ranked = sorted(found, key=lambda curve: curve.at(last).mean)
    low, high = ranked[0], ranked[-1]
    least, most = text(low.at(last), units), text(high.at(last), units)
    if least == most:
        return ""
    return f"At {level(last)}, {low.label} is left with {least}, {high.label} with {most}."


def key_figures(results: Mapping[str, Any]) -> list[KeyFigure]:
    """The row of figures under the headline.

    Args:
        results: Checked results.

    Returns:
        Those that are known.
    """
    first = _accuracies(results) if results.get("accuracy") else _of_curves(results)
    if results.get("report"):
        return [*first, *_smaller(results), *_time(results)]
    return [*first, *_left(results), *_smallest(results), *_time(results)]


def _smaller(results: Mapping[str, Any]) -> Iterator[KeyFigure]:
    for name, before, after in _counts(results):
        written = brief if name.startswith("multiply") else count
        left = f"{share(after / before)} of {written(before)}" if before else ""
        yield KeyFigure(f"{name} left", written(after), left)
    for row in (results["report"].get("latency") or ())[:1]:
        before, after = number(row.get("before")), number(row.get("after"))
        if math.isfinite(before) and math.isfinite(after):
            yield KeyFigure(f"time of a batch of {row.get('batch')}", span(after), f"{span(before)} of the whole model")


def _accuracies(results: Mapping[str, Any]) -> Iterator[KeyFigure]:
    names = {
        "dense": f"{metric(results)}, dense",
        "pruned_only": "right after pruning",
        "reestimated": "batch norms measured again",
        "fine_tuned": "fine-tuned",
    }
    found, units = accuracies(results), scale(results)
    for key, value in found.items():
        if math.isfinite(value):
            difference = math.nan if key == "dense" else value - found["dense"]
            note = f"{change(difference, units)} against dense" if math.isfinite(difference) else ""
            yield KeyFigure(names[key], units.one(value), note)


def _of_curves(results: Mapping[str, Any]) -> Iterator[KeyFigure]:
    before, best, units = dense(results), best_point(results), scale(results)
    if before.known:
        weights = number((results.get("dense") or {}).get("weights"))
        yield KeyFigure(
            f"{metric(results)}, dense",
            text(before, units),
            f"{count(weights)} weights" if math.isfinite(weights) else "",
        )
    if best is not None:
        yield KeyFigure(f"at {level(best.sparsity)} sparsity", text(best.accuracy, units), best.curve.label)


def _left(results: Mapping[str, Any]) -> Iterator[KeyFigure]:
    left, total = weights_left(results)
    if math.isfinite(left) and math.isfinite(total):
        yield KeyFigure("weights left", count(left), f"{share(left / total) if total else DASH} of {count(total)}")


def _smallest(results: Mapping[str, Any]) -> Iterator[KeyFigure]:
    rows = [row for row in sizes(results) if math.isfinite(row[1])]
    if len(rows) > 1:
        name, value, _ = min(rows, key=lambda row: row[1])
        against = "" if name == rows[0][0] else f"; {times(rows[0][1], value)} smaller than {rows[0][0]}"
        yield KeyFigure("smallest form", size(value), name + against)


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
        ' with 75 % of the weights removed'
    """
    found = [number(row.get("weights_removed")) for row in rows]
    if not found or not all(map(math.isfinite, found)) or max(found) - min(found) > 0.02:
        return ""
    return f" with {level(round(sorted(found)[len(found) // 2], 3))} of the weights removed"


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
