"""What every benchmark shares: rows that name their device, versions and commit, and a file to keep them in."""

from __future__ import annotations

import csv
import platform
import statistics
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from secateur.timing import processor

RESULTS = Path(__file__).parent / "results"
COLUMNS = (
    "benchmark", "row", "unit", "median", "lower_quartile", "upper_quartile", "runs", "target", "holds",
    "device", "threads", "torch", "python", "commit", "date",
)  # fmt: skip


def device() -> str:
    """The processor's name and the number of cores it offers."""
    flags = next((line for line in _cpuinfo() if line.startswith("flags")), "")
    vectors = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else platform.machine()
    return f"{processor()}, {vectors}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def commit() -> str:
    """The commit that was measured; with a plus sign if files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent.parent)]
    try:
        name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*git, "status", "--porcelain", "src"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def row(
    benchmark: str, name: str, unit: str, values: Sequence[float], *, at_most: float | None = None
) -> dict[str, str]:
    """One measurement: median and quartiles of several runs, beside its target."""
    median = statistics.median(values)
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else (median,) * 3
    holds = "" if at_most is None else "yes" if median <= at_most else "no"
    return {
        "benchmark": benchmark,
        "row": name,
        "unit": unit,
        "median": f"{median:.4g}",
        "lower_quartile": f"{lower:.4g}",
        "upper_quartile": f"{upper:.4g}",
        "runs": str(len(values)),
        "target": "" if at_most is None else f"at most {at_most:g}",
        "holds": holds,
        "device": device(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def keep(benchmark: str, rows: Sequence[dict[str, str]]) -> None:
    """Write the rows of a benchmark, replacing its earlier ones, and print them."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{benchmark}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    for found in rows:
        target = f"   target: {found['target']}   holds: {found['holds']}" if found["target"] else ""
        spread = f"{found['lower_quartile']} to {found['upper_quartile']}"
        print(f"{found['row']:<55} {found['median']:>8} {found['unit']:<8} ({spread}){target}")
