"""Which of 112 models that people use can be pruned, how exactly and how fast, beside Torch-Pruning.

Random weights, nothing is downloaded. Half of the units of every group leave by their L2 norm; the outputs keep their
size. Of every model four things are measured, each in processes of its own, on one thread:

- ours: `channel(example)`, tier 1. The smaller model equals the masked one.
- crossed: `channel(example, cross_norms=True)`, tier 2. It equals the masked one with the means and variances of norms
  taken over what is left. Where no norm holds a group back, tier 2 is tier 1: the verdict is `as tier 1`, and the other
  columns of tier 2 are empty.
- peer: Torch-Pruning, which crosses norms without saying so; it is told the last layer and the numbers of heads.
- times: seconds of the processor that ours, crossed and the peer take in turns, of those that pass: three rounds, the
  median and the first. What is imported, copies of the model, and our proof are not counted; trace, plan and smaller
  model are.

`make zoo` runs it in an environment of its own. `make zoo ARGS="--model resnet50 --only ours"` is a part of it,
`ARGS="--only times"` measures the times again, and `ARGS="--resume"` what has no columns yet.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _coverage.counts import summary
from _coverage.models import LIBRARIES
from _coverage.rows import CROSSED, PEERS, TIMED, Key, Row, judged, keep, read
from _coverage.where import where

ROOT = Path(__file__).parents[1]
PATIENCE = 10  # the whole process may take so many times the limit by the clock


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", action="append", default=[], help="only this one; may be given again")
    parser.add_argument("--library", action="append", default=[], choices=list(LIBRARIES))
    parser.add_argument("--only", action="append", default=[], choices=list(JOBS), help="may be given again")
    parser.add_argument("--resume", action="store_true", help="leave out what has its columns already")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of the processor for each model")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tool", action="append", default=[], help=argparse.SUPPRESS)
    return parser.parse_args()


def child(asked: argparse.Namespace) -> None:
    """One thing about one model, in this process."""
    import torch
    from _coverage import levels

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    who, library, name = asked.child
    match who:
        case "ours" | "crossed":
            levels.measure(library, name, asked.limit, crossed=who == "crossed")
        case "peer":
            from _coverage import peer

            peer.measure(library, name, asked.limit)
        case "times":
            from _coverage import times

            times.measure(library, name, asked.limit, asked.tool)
        case "restored":
            levels.restored(library, name, asked.file)


def in_process(who: str, key: Key, limit: float, *more: str) -> dict[str, Any]:
    """What a process of its own told of one model."""
    command = [sys.executable, __file__, "--limit", str(limit), "--child", who, *key, *more]
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**os.environ, **offline},
            timeout=PATIENCE * limit,
            check=False,
        )
        out, error, code = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as late:
        out, error, code = (late.stdout or b"").decode(), "", -signal.SIGPROF
    told: dict[str, Any] = {}
    for line in out.splitlines():
        if line.startswith("{"):
            told |= json.loads(line)
    if code:
        late_in = told.get("stage", who)
        told.setdefault("cause", f"out of time: {late_in}" if code == -signal.SIGPROF else f"{code}: {error[-200:]}")
    return told


def ours(key: Key, limit: float, row: Row) -> Row:  # noqa: ARG001
    """The columns of tier 1."""
    return {**judged(in_process("ours", key, limit)), **where()}


def crossed(key: Key, limit: float, row: Row) -> Row:  # noqa: ARG001
    """The columns of tier 2."""
    told = {**in_process("crossed", key, limit), "commit": where()["commit"]}
    return judged(told, CROSSED, "crossed_")


def peers(key: Key, limit: float, row: Row) -> Row:  # noqa: ARG001
    """The columns of the peer."""
    return judged({"verdict": "fail", **in_process("peer", key, limit)}, PEERS, "peer_")


def times(key: Key, limit: float, row: Row) -> Row:
    """The columns of the times, of what passes."""
    tools = [f"{tier}seconds" for tier in ("", "crossed_", "peer_") if row.get(f"{tier}verdict") == "pass"]
    told = in_process("times", key, limit, *(f"--tool={tool}" for tool in tools)) if tools else {}
    here = {"runs": 0, **told, **{name: where()[name] for name in ("device", "commit")}}
    return {name: here.get(name.removeprefix("times_"), "") for name in TIMED}


def main() -> None:
    """Run what was asked for, keep every row as soon as it is known, and print the counts."""
    asked = arguments()
    if asked.child:
        child(asked)
        return
    order = [(library, name) for library, names in LIBRARIES.items() for name in names]
    chosen = [
        (library, name)
        for library, name in order
        if (not asked.library or library in asked.library) and (not asked.model or name in asked.model)
    ]
    for key in chosen:
        for name, (done, job) in JOBS.items():
            row = read().get(key, {})
            if (asked.only and name not in asked.only) or (asked.resume and row.get(done)):
                continue
            row = keep(key, job(key, asked.limit, row), order)
            print(name, *(f"{row.get(one, '')!s:<{width}}" for one, width in SHOWN), flush=True)
    print(summary([row for key, row in read().items() if key in chosen]))


JOBS: dict[str, tuple[str, Callable[[Key, float, Row], Row]]] = {
    "ours": ("verdict", ours),
    "crossed": ("crossed_verdict", crossed),
    "peer": ("peer_verdict", peers),
    "times": ("times_runs", times),
}  # by name: the column that tells that it is done, and what makes its columns
SHOWN = (
    ("library", 12), ("model", 28), ("verdict", 7), ("kept", 6), ("crossed_verdict", 9), ("crossed_kept", 6),
    ("peer_verdict", 6), ("peer_kept", 6), ("seconds", 6), ("peer_seconds", 6), ("cause", 0),
)  # fmt: skip

if __name__ == "__main__":
    main()
