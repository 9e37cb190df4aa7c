"""The measurements in results, read once for the page and the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from secateur.reporting.words import Scale, number

LABELS: Mapping[str, str] = {
    "pruned_only": "pruning only",
    "fine_tuned": "pruning + fine-tuning",
    "iterative": "iterative pruning + fine-tuning",
}
"""The methods of the curves, in the order they are shown."""


@dataclass(frozen=True)
class Measured:
    """A mean over seeds.

    Args:
        mean: NaN where it is not known.
        spread: Standard deviation; None where there was one seed.
    """

    mean: float
    spread: float | None = None

    @property
    def known(self) -> bool:
        """Whether the mean is a finite number."""
        return math.isfinite(self.mean)


UNKNOWN = Measured(math.nan)


class Point(NamedTuple):
    """A point of a curve."""

    sparsity: float
    accuracy: Measured


@dataclass(frozen=True)
class Curve:
    """Accuracy against sparsity for one method.

    Args:
        key: Its name in the results.
        label: Its name for readers.
        points: By rising sparsity; all finite.
    """

    key: str
    label: str
    points: tuple[Point, ...]

    def at(self, sparsity: float) -> Measured:
        """The accuracy at one sparsity.

        Args:
            sparsity: Exactly as measured.

        Returns:
            The accuracy, unknown where it was not measured.
        """
        return next((point.accuracy for point in self.points if point.sparsity == sparsity), UNKNOWN)


def measured(item: Mapping[str, Any] | None) -> Measured:
    """A mean and its spread as the results hold them.

    Args:
        item: `mean`, perhaps `spread` and `each`; None: nothing was measured.

    Returns:
        The value; without a spread where `each` shows that there was one seed only.

    Example:
        >>> measured({"mean": 0.5, "spread": 0.0, "each": [0.5]}).spread is None
        True
    """
    if item is None:
        return UNKNOWN
    return Measured(number(item.get("mean")), _spread(item.get("spread"), item.get("each")))


def _spread(value: Any, each: Sequence[Any] | None) -> float | None:
    alone = each is not None and len(each) < 2
    return None if alone or value is None or not math.isfinite(value) else float(value)


def curves(results: Mapping[str, Any]) -> list[Curve]:
    """The curves that have a point to show.

    Args:
        results: Checked results.

    Returns:
        The known methods in their usual order, then any others.

    Example:
        >>> found = curves({"curves": {"iterative": {"sparsity": [0.9, 0.5], "accuracy": [0.8, 0.9]}}})
        >>> [(point.sparsity, point.accuracy.mean) for point in found[0].points]
        [(0.5, 0.9), (0.9, 0.8)]
    """
    given = results.get("curves") or {}
    order = [key for key in LABELS if key in given] + [key for key in given if key not in LABELS]
    found = (Curve(key, label(key), _points(given[key])) for key in order)
    return [curve for curve in found if curve.points]


def label(key: str) -> str:
    """A method's name for readers.

    Args:
        key: Its name in the results.

    Returns:
        The name.
    """
    return LABELS.get(key, key.replace("_", " "))


def _points(curve: Mapping[str, Any]) -> tuple[Point, ...]:
    spreads = curve.get("spread") or [None] * len(curve["sparsity"])
    rows = zip(curve["sparsity"], curve["accuracy"], spreads, strict=True)
    points = (
        Point(number(sparsity), Measured(number(mean), _spread(spread, curve.get("each"))))
        for sparsity, mean, spread in rows
    )
    finite = [point for point in points if math.isfinite(point.sparsity) and point.accuracy.known]
    return tuple(sorted(finite, key=lambda point: point.sparsity))


def dense(results: Mapping[str, Any]) -> Measured:
    """The accuracy of the dense network.

    Args:
        results: Checked results.

    Returns:
        The accuracy, perhaps unknown.
    """
    if results.get("dense"):
        return measured(results["dense"]["accuracy"])
    return Measured(number((results.get("accuracy") or {}).get("dense")))


def accuracies(results: Mapping[str, Any]) -> dict[str, float]:
    """The accuracies of one pruned network, in the order in which they were measured.

    Args:
        results: Checked results.

    Returns:
        By key, NaN where not known.
    """
    given = results.get("accuracy") or {}
    return {key: number(given.get(key)) for key in ("dense", "pruned_only", "reestimated", "fine_tuned")}


def metric(results: Mapping[str, Any]) -> str:
    """What was measured, in a word.

    Args:
        results: Checked results.

    Returns:
        The word.
    """
    return results.get("metric") or "accuracy"


def sizes(results: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    """The sizes.

    Args:
        results: Checked results.

    Returns:
        Name, bytes and note of each.
    """
    rows = results.get("sizes") or []
    return [(row["name"], number(row.get("bytes")), row.get("note") or "") for row in rows]


def seeds(results: Mapping[str, Any]) -> int:
    """How many seeds were run.

    Args:
        results: Checked results.

    Returns:
        Their number, 0 where it is not known.
    """
    return len(results.get("seeds") or ())


def histograms(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The histograms that have something to show.

    Args:
        results: Checked results.

    Returns:
        By name of the layer.
    """
    given = results.get("weights")
    if not isinstance(given, Mapping):
        return {}
    return {name: item for name, item in given.items() if any(map(number, item["before"]))}


def history(results: Mapping[str, Any]) -> dict[str, list[float]]:
    """The training curves that have something to show.

    Args:
        results: Checked results.

    Returns:
        Values by name.
    """
    given = results.get("history") or {}
    found = {key: [number(value) for value in given.get(key) or ()] for key in ("validation", "losses", "sparsity")}
    return {key: values for key, values in found.items() if any(map(math.isfinite, values))}


def scale(results: Mapping[str, Any]) -> Scale:
    """How the metric is written: in percent, if all its values are fractions.

    Args:
        results: Checked results.

    Returns:
        The scale.

    Example:
        >>> scale({"accuracy": {"dense": 0.98}}).percent, scale({"accuracy": {"dense": 31.4}}).percent
        (True, False)
    """
    return Scale(percent=all(0 <= value <= 1 for value in _metric_values(results) if math.isfinite(value)))


def _metric_values(results: Mapping[str, Any]) -> Iterator[float]:
    yield dense(results).mean
    yield from (point.accuracy.mean for curve in curves(results) for point in curve.points)
    for row in results.get("granularities") or ():
        yield from (measured(row.get(key)).mean for key in ("pruned_only", "fine_tuned"))
    yield from map(number, (results.get("accuracy") or {}).values())
    yield from history(results).get("validation", ())


def weights_left(results: Mapping[str, Any]) -> tuple[float, float]:
    """How many weights one run left, and of how many.

    Args:
        results: Checked results.

    Returns:
        Both, NaN where not known.
    """
    given = results.get("weights_total"), results.get("weights"), (results.get("dense") or {}).get("weights")
    total = next((value for value in given if isinstance(value, int | float)), None)
    return number(results.get("weights_left")), number(total)
