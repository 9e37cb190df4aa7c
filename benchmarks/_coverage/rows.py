"""The rows of the table: what a process told, what follows from it, and the file."""

from __future__ import annotations

import csv
import fcntl
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "results" / "coverage.csv"
EXACT = 1e-3  # of the largest output
FROZEN = 0.9  # more parameters than this part are left
AS_TIER_1 = "as tier 1"  # no norm holds anything back, so tier 2 has nothing to add; its other columns are empty
OURS = (
    "parameters", "input", "convolutional", "verdict", "kept", "macs_kept", "forward", "predicted", "macs",
    "difference", "moved", "train_step", "reload",
    "groups", "layers", "layers_frozen", "layers_silent", "silent", "record_seconds", "solve_seconds",
    "groups_seconds", "plan_seconds", "shrink_seconds", "prove_seconds", "proof", "proved_kept", "stage", "cause",
    "reasons",
)  # fmt: skip
CROSSED = (
    "verdict", "kept", "macs_kept", "forward", "predicted", "macs", "difference", "moved", "train_step", "reload",
    "groups", "layers_frozen", "proof", "proved_kept", "stage", "cause", "commit",
)  # fmt: skip
PEERS = ("verdict", "kept", "untied", "stage", "cause")  # untied: names that shared a parameter before
TIMES = ("seconds", "crossed_seconds", "peer_seconds")
FIRST = tuple(f"first_{name}" for name in TIMES)
TIMED = (*TIMES, *FIRST, *(f"times_{name}" for name in ("runs", "cause", "device", "commit")))
PACKAGES = ("torchvision", "timm", "transformers", "torch-pruning")
WHERE = ("device", "threads", "torch", *(name.replace("-", "_") for name in PACKAGES), "python", "commit", "date")
COLUMNS = (
    "library", "model", *OURS, *(f"crossed_{name}" for name in CROSSED), *(f"peer_{name}" for name in PEERS), *TIMED,
    *WHERE,
)  # fmt: skip
Row = dict[str, Any]
Key = tuple[str, str]


def judged(told: Mapping[str, Any], columns: Sequence[str] = OURS, prefix: str = "") -> Row:
    """What a process told of one model, with the verdict.

    Args:
        told: All it said; a process that was ended leaves its last stage.
        columns: What of it is kept.
        prefix: Of the names of these columns in the table.

    Returns:
        The columns.
    """
    row = dict(told)
    if "verdict" not in row:
        row["verdict"] = _verdict(row)
    return {prefix + name: row.get(name, "") for name in columns}


def _verdict(row: Row) -> str:
    if row.get("stage") != "done":
        return "fail"
    if row.get("forward") != "yes" or not float(row["difference"]) <= EXACT:
        row.setdefault("cause", f"differs by {row.get('difference')}")
        return "fail"
    for level in ("predicted", "macs", "proof", "train_step", "reload"):
        if row.get(level) != "yes":
            row.setdefault("cause", level)
            return "fail"
    return "frozen" if row["kept"] > FROZEN else "pass"


def read(file: Path = FILE) -> dict[Key, Row]:
    """Rows of an earlier run, by library and model."""
    if not file.exists():
        return {}
    with file.open(newline="") as opened:
        return {(row["library"], row["model"]): dict(row) for row in csv.DictReader(opened)}


def keep(key: Key, found: Row, order: Sequence[Key], file: Path = FILE) -> Row:
    """Put columns into a model's row; what other runs have written meanwhile stays.

    Args:
        key: Library and model.
        found: The columns.
        order: Of the rows.
        file: The table.

    Returns:
        The whole row.
    """
    file.parent.mkdir(exist_ok=True)
    with _alone(file.parent):
        rows = read(file)
        row = rows.setdefault(key, {"library": key[0], "model": key[1]})
        row |= found
        write(rows, order, file)
    return row


def write(rows: Mapping[Key, Row], order: Sequence[Key], file: Path = FILE) -> None:
    """All rows, in the order of the lists."""
    unfinished = file.with_suffix(".new")
    with unfinished.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows[key] for key in order if key in rows)
    unfinished.replace(file)


@contextmanager
def _alone(folder: Path) -> Generator[None, None, None]:
    """Wait until no other run writes into a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
