"""The rows of the table: what a process told, what follows from it, and the file."""

from __future__ import annotations

import csv
import importlib.metadata
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _harness import commit, device

FILE = Path(__file__).parents[1] / "results" / "coverage.csv"
EXACT = 1e-3  # of the largest output
FROZEN = 0.9  # more parameters than this part are left
OURS = (
    "parameters", "input", "verdict", "kept", "macs_kept", "forward", "predicted", "macs", "difference", "moved",
    "train_step", "reload",
    "groups", "layers", "layers_frozen", "layers_silent", "silent", "record_seconds", "solve_seconds",
    "groups_seconds", "plan_seconds", "shrink_seconds", "prove_seconds", "proof", "proved_kept", "stage", "cause",
    "reasons",
)  # fmt: skip
PEERS = ("peer_verdict", "peer_kept", "peer_seconds", "peer_stage", "peer_cause")
PACKAGES = ("torchvision", "timm", "transformers", "torch-pruning")
WHERE = ("device", "threads", "torch", *(name.replace("-", "_") for name in PACKAGES), "python", "commit", "date")
COLUMNS = ("library", "model", *OURS, *PEERS, *WHERE)
Row = dict[str, Any]


def judged(told: Mapping[str, Any]) -> Row:
    """What a process told of one model, with the verdict.

    Args:
        told: All it said; a process that was ended leaves its last stage.

    Returns:
        The columns that are ours.
    """
    row = dict(told)
    if "verdict" not in row:
        row["verdict"] = _verdict(row)
    return {key: row.get(key, "") for key in OURS}


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


def where() -> Row:
    """The machine, the versions, the commit and the day."""
    versions = {name.replace("-", "_"): importlib.metadata.version(name) for name in PACKAGES}
    return {
        "device": device(),
        "threads": 1,
        "torch": torch.__version__,
        **versions,
        "python": platform.python_version(),
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def read(file: Path = FILE) -> dict[tuple[str, str], Row]:
    """Rows of an earlier run, by library and model."""
    if not file.exists():
        return {}
    with file.open(newline="") as opened:
        return {(row["library"], row["model"]): dict(row) for row in csv.DictReader(opened)}


def write(rows: Mapping[tuple[str, str], Row], order: Sequence[tuple[str, str]], file: Path = FILE) -> None:
    """All rows, in the order of the lists."""
    file.parent.mkdir(exist_ok=True)
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows[key] for key in order if key in rows)


def summary(rows: Sequence[Row]) -> str:
    """Counts by library, ours and the peer's."""
    lines = []
    for library in dict.fromkeys(row["library"] for row in rows):
        mine = [row for row in rows if row["library"] == library]
        ours, peers = (Counter(row.get(key) or "not run" for row in mine) for key in ("verdict", "peer_verdict"))
        kept = [float(row["kept"]) for row in mine if row.get("verdict") == "pass"]
        half = f"{median(kept):.2f}" if kept else "-"
        silent = sum(int(row.get("layers_silent") or 0) for row in mine)
        lines.append(
            f"{library:<13} of {len(mine):>2}: {ours['pass']} pass, {ours['frozen']} frozen, {ours['fail']} fail; kept "
            f"{half} (median); {silent} layers without a reason; Torch-Pruning: {peers['pass']} pass, "
            f"{peers['frozen']} frozen, {peers['fail']} fail"
        )
    return "\n".join(lines)
