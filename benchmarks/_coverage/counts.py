"""What the rows come to: how many models pass, what leaves them, and how long it takes beside the peer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import geometric_mean, median

from _coverage.rows import AS_TIER_1, Row

ENOUGH = 0.9  # of what the peer removes


def summary(rows: Sequence[Row]) -> str:
    """The counts, in words.

    Args:
        rows: Of the table.

    Returns:
        Lines: one block for each library, then what is said over all of them.
    """
    libraries = [list(filter(lambda row: row["library"] == name, rows)) for name in _libraries(rows)]
    blocks = [*(_library(mine) for mine in libraries), _removal(rows), _convolutional(rows), _speed(rows)]
    return "\n".join(blocks)


def kept_at_best(row: Row) -> float:
    """The part of a model's parameters that stay: in the tier that leaves fewest of those that pass, 1.0 if none does.

    Args:
        row: Of the table.

    Returns:
        Between 0 and 1.
    """
    return min(_kept(row, ""), _kept(row, "crossed_"))


def beside_the_peer(row: Row) -> float | None:
    """What leaves a model over what the peer takes out of it.

    Args:
        row: Of the table.

    Returns:
        1.0 if as many parameters leave; None where the peer does not pass.
    """
    if row.get("peer_verdict") != "pass":
        return None
    return (1 - kept_at_best(row)) / (1 - float(row["peer_kept"]))


def slower(row: Row, first: bool = False) -> float | None:
    """The time of the tier that removes more over the peer's.

    Args:
        row: Of the table.
        first: Whether of the first of the runs in turns, instead of their median.

    Returns:
        1.0 if both take as long; None where one of them does not pass or was not measured.
    """
    tier = min(("", "crossed_"), key=lambda prefix: _kept(row, prefix))
    return _ratio(row, tier, first)


def _ratio(row: Row, tier: str, first: bool = False) -> float | None:
    times = [row.get(f"{'first_' * first}{who}seconds") for who in (tier, "peer_")]
    passed = row.get("peer_verdict") == row.get(f"{tier}verdict") == "pass"
    return float(times[0]) / float(times[1]) if passed and all(times) else None


def _kept(row: Row, tier: str) -> float:
    return float(row[f"{tier}kept"]) if row.get(f"{tier}verdict") == "pass" else 1.0


def _libraries(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["library"] for row in rows))


def _library(rows: Sequence[Row]) -> str:
    first, both = ([_kept(row, "") for row in rows], [kept_at_best(row) for row in rows])
    silent = sum(int(row.get("layers_silent") or 0) for row in rows)
    lines = (
        f"tier 1        {_verdicts(rows, 'verdict')}; kept {_middle(first)}; {silent} layers without a reason",
        f"tier 2        {_verdicts(rows, 'crossed_verdict')}",
        f"tier 1 or 2   {sum(kept < 1 for kept in both)} pass; kept {_middle(both)}",
        f"Torch-Pruning {_verdicts(rows, 'peer_verdict')}",
    )
    return "\n  ".join((f"{rows[0]['library']}, {len(rows)} models", *lines))


def _verdicts(rows: Sequence[Row], column: str) -> str:
    counts = Counter(row.get(column) or "not run" for row in rows)
    always = ("pass", "frozen", "fail")
    return ", ".join(f"{counts[one]} {one}" for one in (*always, AS_TIER_1, "not run") if counts[one] or one in always)


def _middle(kept: Sequence[float]) -> str:
    passed = [one for one in kept if one < 1]
    return f"{median(passed):.3f} (median)" if passed else "-"


def _removal(rows: Sequence[Row]) -> str:
    found = [(row, part) for row in rows if (part := beside_the_peer(row)) is not None]
    short = [(row, part) for row, part in found if part < ENOUGH]
    line = (
        f"at least {ENOUGH:.0%} of what Torch-Pruning removes leaves {len(found) - len(short)} of the {len(found)} "
        "models that it passes"
    )
    misses = (
        f"  {row['library']} {row['model']}: {1 - kept_at_best(row):.3f} of the parameters leave, "
        f"Torch-Pruning removes {1 - float(row['peer_kept']):.3f}{_untied(row)}"
        for row, _ in sorted(short, key=lambda one: one[1])
    )
    return "\n".join((line + (", not these:" if short else ""), *misses))


def _untied(row: Row) -> str:
    count = int(row.get("peer_untied") or 0)
    return f", but {count} names of a shared parameter no longer share it" if count else ""


def _convolutional(rows: Sequence[Row]) -> str:
    chosen = [row for row in rows if row.get("convolutional") == "yes"]
    if not chosen:
        return "no convolutional network was measured"
    one, both = (median(1 - kept for kept in found) for found in _both(chosen))
    return (
        f"{len(chosen)} convolutional networks: {one:.3f} of the parameters leave in the median in tier 1, {both:.3f} "
        "in tier 1 or 2"
    )


def _both(rows: Sequence[Row]) -> Iterator[list[float]]:
    yield [_kept(row, "") for row in rows]
    yield [kept_at_best(row) for row in rows]


def _speed(rows: Sequence[Row]) -> str:
    lines = ["time over Torch-Pruning's (trace, plan and smaller model; the proof apart):"]
    for first, of in ((False, "median of the runs"), (True, "first run")):
        for words, ratios in (
            ("tier 1", [_ratio(row, "", first) for row in rows]),
            ("the tier that removes more", [slower(row, first) for row in rows]),
        ):
            known = [one for one in ratios if one is not None]
            mean = f"{geometric_mean(known):.2f}" if known else "-"
            lines.append(f"{words}, {of}: {mean} in the geometric mean of {len(known)} models")
    return "\n  ".join(lines)
