"""The main finding of a run in words, and its key figures; all computed from the results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from secateur.reporting import values
from secateur.reporting.values import Curve, Measured, Point
from secateur.reporting.words import DASH, count, duration, level, number, points, share, size, times

TOLERANCE = 0.01
"""A network that loses no more than this counts as one that keeps its accuracy."""


class Headline(NamedTuple):
    """The finding in one sentence, and what it rests on."""

    title: str
    text: str


class KeyFigure(NamedTuple):
    """A number that matters."""

    label: str
    value: str
    note: str


def headline(results: Mapping[str, Any]) -> Headline:
    """The main finding.

    Args:
        results: Checked results.

    Returns:
        For a demonstration how much can go within one point of the dense accuracy, for one run what went at what cost.

    Example:
        >>> run = {"kind": "prune", "task": "digits", "sparsity": 0.9, "accuracy": {"dense": 0.98, "fine_tuned": 0.974}}
        >>> headline(run).title
        '90 % of the weights removed at a cost of 0.6 points of accuracy'
    """
    found = _of_run(results) if results["kind"] == "prune" else _of_curves(results)
    return found or Headline(f"Pruning {results['task']}", "")


def reach(curve: Curve, dense: float) -> Point | None:
    """The sparsest point up to which a curve stays within `TOLERANCE` of the dense network.

    Args:
        curve: The curve.
        dense: Accuracy of the dense network.

    Returns:
        The point; None where the least sparse one is below already.
    """
    last = None
    for point in curve.points:
        if point.accuracy.mean < dense - TOLERANCE - 1e-9:
            break
        last = point
    return last


def best(curves: Sequence[Curve], dense: float) -> tuple[Curve, Point] | None:
    """The curve that reaches furthest; of equals the more accurate there.

    Args:
        curves: The curves.
        dense: Accuracy of the dense network.

    Returns:
        The curve and its last point within `TOLERANCE`; None where no curve has one.
    """
    found = [(curve, point) for curve in curves if (point := reach(curve, dense))]
    return max(found, key=lambda pair: (pair[1].sparsity, pair[1].accuracy.mean), default=None)


def _of_curves(results: Mapping[str, Any]) -> Headline | None:
    curves, dense = values.curves(results), values.dense(results)
    if not curves or not dense.known:
        return None
    chosen = best(curves, dense.mean)
    if chosen is None:
        return _none_within(results, curves, dense)
    curve, point = chosen
    title = f"{level(point.sparsity)} of the weights removed {_cost(point.accuracy.mean - dense.mean, results)}"
    return Headline(title, f"{_compared(curve, point, dense, results)} {_reaches(curves, dense.mean)}")


def _none_within(results: Mapping[str, Any], curves: Sequence[Curve], dense: Measured) -> Headline:
    curve, point = max(
        ((curve, point) for curve in curves for point in curve.points), key=lambda pair: pair[1].accuracy.mean
    )
    title = f"No sparsity measured keeps {values.metric(results)} within 1 point of dense"
    return Headline(title, _compared(curve, point, dense, results))


def _compared(curve: Curve, point: Point, dense: Measured, results: Mapping[str, Any]) -> str:
    runs = values.seeds(results)
    over = f" (mean ± standard deviation over {runs} seeds)" if runs > 1 else ""
    at = level(point.sparsity)
    return f"{_capital(curve.label)} reaches {point.accuracy} at {at} sparsity, the dense network {dense}{over}."


def _reaches(curves: Sequence[Curve], dense: float) -> str:
    found = {curve.label: reach(curve, dense) for curve in curves}
    order = sorted(found.items(), key=lambda pair: -pair[1].sparsity if pair[1] else 1)
    parts = [f"{name} up to {level(point.sparsity)}" if point else f"{name} nowhere" for name, point in order]
    return f"Within 1 point of dense: {', '.join(parts)}."


def _of_run(results: Mapping[str, Any]) -> Headline | None:
    gone, accuracy = removed(results), results.get("accuracy") or {}
    if not math.isfinite(gone):
        return None
    before, once, after = (number(accuracy.get(key)) for key in ("dense", "pruned_only", "fine_tuned"))
    last = after if math.isfinite(after) else once
    title = f"{level(round(gone, 4))} of the weights removed"
    if math.isfinite(last - before):
        title += f" {_cost(last - before, results)}"
    told = {"dense": before, "after pruning": once, "after fine-tuning": after}
    shown = ", ".join(f"{share(value)} {when}" for when, value in told.items() if math.isfinite(value))
    return Headline(title, f"{_capital(values.metric(results))}: {shown}." if shown else "")


def removed(results: Mapping[str, Any]) -> float:
    """The fraction of the weights that one run removed.

    Args:
        results: Checked results.

    Returns:
        Counted in weights where these are known, else the plan's sparsity; NaN where neither is.
    """
    left, total = number(results.get("weights_left")), number(results.get("weights_total"))
    if math.isfinite(left) and total > 0:
        return 1 - left / total
    return number(results.get("sparsity"))


def _cost(difference: float, results: Mapping[str, Any]) -> str:
    size = f"{abs(100 * difference):.1f}"
    if float(size) == 0:
        return f"at no cost in {values.metric(results)}"
    if difference > 0:
        return f"and {values.metric(results)} rises by {size} points"
    return f"at a cost of {size} points of {values.metric(results)}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def key_figures(results: Mapping[str, Any]) -> list[KeyFigure]:
    """The numbers that matter, those that are known.

    Args:
        results: Checked results.

    Returns:
        Up to five.

    Example:
        >>> [figure.value for figure in key_figures({"kind": "demo", "task": "digits", "seconds": 48.2})]
        ['48 s']
    """
    first = _figures_of_run(results) if results["kind"] == "prune" else _figures_of_demo(results)
    found = [*first, _smallest(results), _time(results)]
    return [figure for figure in found if figure.value not in (DASH, "")]


def _figures_of_demo(results: Mapping[str, Any]) -> list[KeyFigure]:
    accuracy, given = values.dense(results), results.get("dense") or {}
    weights, parameters = number(given.get("weights")), number(given.get("parameters"))
    runs = values.seeds(results)
    chosen = best(values.curves(results), accuracy.mean) if accuracy.known else None
    return [
        KeyFigure(f"Dense {values.metric(results)}", str(accuracy), f"mean of {runs} seeds" if runs > 1 else ""),
        KeyFigure("Prunable weights", count(weights), _of(count(parameters), "parameters")),
        KeyFigure(
            "Sparsity within 1 point",
            level(chosen[1].sparsity) if chosen else DASH,
            chosen[0].label if chosen else "",
        ),
    ]


def _figures_of_run(results: Mapping[str, Any]) -> list[KeyFigure]:
    accuracy = results.get("accuracy") or {}
    before, once, after = (number(accuracy.get(key)) for key in ("dense", "pruned_only", "fine_tuned"))
    left, total = number(results.get("weights_left")), number(results.get("weights_total"))
    kept = f"{share(left / total)} of {count(total)}" if total > 0 and math.isfinite(left) else ""
    name = _capital(values.metric(results))
    return [
        KeyFigure(f"{name} after fine-tuning", share(after), f"dense {share(before)}"),
        KeyFigure("Change from dense", points(after - before), f"before fine-tuning {points(once - before)}"),
        KeyFigure("Weights left", count(left), kept),
    ]


def _of(whole: str, what: str) -> str:
    return "" if whole == DASH else f"of {whole} {what}"


def _smallest(results: Mapping[str, Any]) -> KeyFigure:
    found = [row for row in values.sizes(results) if math.isfinite(row[1])]
    if not found:
        return KeyFigure("Smallest size", DASH, "")
    first, (name, least, _) = found[0], min(found, key=lambda row: row[1])
    return KeyFigure("Smallest size", size(least), f"{times(first[1], least)} smaller, {name}")


def _time(results: Mapping[str, Any]) -> KeyFigure:
    return KeyFigure("Time", duration(number(results.get("seconds"))), results.get("device") or "")


def of_sizes(results: Mapping[str, Any]) -> str:
    """What the sizes show, in a sentence.

    Args:
        results: Checked results.

    Returns:
        The sentence; empty where there is nothing to compare.
    """
    found = [row for row in values.sizes(results) if math.isfinite(row[1])]
    if len(found) < 2:
        return ""
    (first, whole, _), (name, least, _) = found[0], min(found, key=lambda row: row[1])
    if least >= whole:
        return f"Nothing is smaller than {first}, {size(whole)}."
    return f"Smallest is {name} with {size(least)}: {times(whole, least)} smaller than {first}."


def of_granularities(results: Mapping[str, Any]) -> str:
    """What the comparison of granularities shows, in a sentence.

    Args:
        results: Checked results.

    Returns:
        The sentence; empty where there is nothing to compare.
    """
    rows = [(row["name"], values.measured(row.get("fine_tuned"))) for row in results.get("granularities") or []]
    rows = [row for row in rows if row[1].known]
    if len(rows) < 2:
        return ""
    (top, most), (bottom, least) = (choose(rows, key=lambda row: row[1].mean) for choose in (max, min))
    return f"After fine-tuning, {top} is best with {most} and {bottom} last with {least}."


def network_shown(results: Mapping[str, Any]) -> str:
    """Which of a demonstration's networks the weights, layers and sizes are of.

    Args:
        results: Checked results.

    Returns:
        A sentence; empty where the results do not say.

    Example:
        >>> network_shown({"shown": {"curve": "iterative", "sparsity": 0.9, "seed": 0}})
        'The network shown: iterative pruning + fine-tuning, 90 % sparsity, seed 0.'
    """
    given = results.get("shown") or {}
    parts = [values.label(given["curve"])] if given.get("curve") else []
    parts += [f"{level(given['sparsity'])} sparsity"] if given.get("sparsity") is not None else []
    parts += [f"seed {given['seed']}"] if given.get("seed") is not None else []
    return f"The network shown: {', '.join(parts)}." if parts else ""
