"""The results as tables on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console

from secateur.reporting import grids, smaller
from secateur.reporting.checks import check
from secateur.reporting.grids import Table
from secateur.reporting.headlines import averaged, headline, lede, removed_by_granularities, shown, text
from secateur.reporting.values import dense, metric, scale
from secateur.text import harmless, table


def print_summary(results: Mapping[str, Any], console: Console) -> None:
    """Print the main finding, and a table for each part of the results that is there.

    Args:
        results: What a run measured.
        console: Where to print.

    Raises:
        RunError: A key is missing or of another type; it is named.

    Example:
        >>> import sys
        >>> accuracy = {"dense": 0.97, "pruned_only": 0.6, "fine_tuned": 0.965}
        >>> results = {"kind": "prune", "task": "digits", "accuracy": accuracy, "sparsity": 0.9}
        >>> print_summary(results, Console(file=sys.stdout, width=80, color_system=None))
        At 90 % sparsity, accuracy is 96.5 %, −0.5 points against the dense network
        Accuracy: 97.0 % dense, 60.0 % right after pruning, 96.5 % after fine-tuning.
        <BLANKLINE>
        accuracy
          network                accuracy   against dense
         ────────────────────────────────────────────────
          dense                    97.0 %               –
          pruning only             60.0 %    −37.0 points
          pruning + fine-tuning    96.5 %     −0.5 points
    """
    check(results)
    console.print(harmless(headline(results), "bold"))
    if words := lede(results):
        console.print(harmless(words))
    for title, found in _tables(results):
        if found.rows:
            console.print()
            console.print(table(found.columns, found.rows, title=title))


def _tables(results: Mapping[str, Any]) -> Iterator[tuple[str, Table]]:
    name, before = metric(results), dense(results)
    against = f"; dense: {text(before, scale(results))}" if before.known else ""
    yield name, grids.accuracy_table(results)
    yield f"{name} by sparsity{averaged(results)}{against}", grids.curve_table(results)
    removed = removed_by_granularities(results.get("granularities") or [])
    yield f"{name} by granularity{removed}{against}", grids.granularity_table(results)
    yield from smaller.tables(results)
    yield f"layers. {shown(results)}".rstrip(" ."), grids.layer_table(results)
    yield "sizes of the weights", grids.size_table(results)
