"""Which of 112 models that people use can be pruned, how exactly and how fast, beside Torch-Pruning.

Random weights, nothing is downloaded. Half of the units of every group leave by their L2 norm; the outputs keep their
size. Every model runs in a process of its own, on one thread. `make zoo` runs it in an environment of its own, and
`make zoo ARGS="--model resnet50 --no-peer"` a part of it.
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

from _coverage.models import LIBRARIES
from _coverage.rows import PEERS, Row, judged, read, summary, where, write

ROOT = Path(__file__).parents[1]
PATIENCE = 10  # the whole process may take so many times the limit by the clock


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", action="append", default=[], help="only this one; may be given again")
    parser.add_argument("--library", action="append", default=[], choices=list(LIBRARIES))
    parser.add_argument("--no-peer", action="store_true", help="leave Torch-Pruning out")
    parser.add_argument("--resume", action="store_true", help="leave out what has a row already")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of the processor for each model")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def child(who: str, library: str, name: str, limit: float, file: Path | None) -> None:
    """One model, in this process."""
    import torch
    from _coverage import levels, peer

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if file:
        levels.restored(library, name, file)
    else:
        {"ours": levels.measure, "peer": peer.measure}[who](library, name, limit)


def in_process(who: str, library: str, name: str, limit: float) -> dict[str, Any]:
    """What a process of its own told of one model."""
    command = [sys.executable, __file__, "--limit", str(limit), "--child", who, library, name]
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
        key = "cause" if who == "ours" else "peer_cause"
        late_in = told.get("stage" if who == "ours" else "peer_stage")
        told.setdefault(key, f"out of time: {late_in}" if code == -signal.SIGPROF else f"{code}: {error[-200:]}")
    return told


def ours(library: str, name: str, limit: float) -> Row:
    """The columns that are ours."""
    return {**judged(in_process("ours", library, name, limit)), **where()}


def peers(library: str, name: str, limit: float) -> Row:
    """The columns of the peer."""
    told = {"peer_verdict": "fail", **in_process("peer", library, name, limit)}
    return {key: told.get(key, "") for key in PEERS}


def main() -> None:
    """Run what was asked for, keep every row as soon as it is known, and print the counts."""
    asked = arguments()
    if asked.child:
        who, library, name = asked.child
        child(who, library, name, asked.limit, asked.file)
        return
    order = [(library, name) for library, names in LIBRARIES.items() for name in names]
    chosen = [
        (library, name)
        for library, name in order
        if (not asked.library or library in asked.library) and (not asked.model or name in asked.model)
    ]
    jobs: list[tuple[str, Callable[[str, str, float], Row]]] = [("verdict", ours)]
    if not asked.no_peer:
        jobs.append(("peer_verdict", peers))
    for key in chosen:
        for done, job in jobs:
            rows = read()  # anew, so that two runs over different models do not undo each other
            row = rows.setdefault(key, {"library": key[0], "model": key[1]})
            if asked.resume and row.get(done):
                continue
            row |= job(*key, asked.limit)
            write(rows, order)
            print(" ".join(f"{row.get(one, '')!s:<{width}}" for one, width in SHOWN), flush=True)
    print(summary([row for key, row in read().items() if key in chosen]))


SHOWN = (
    ("library", 12), ("model", 28), ("verdict", 7), ("kept", 6), ("difference", 22), ("layers_silent", 3),
    ("peer_verdict", 6), ("cause", 0),
)  # fmt: skip

if __name__ == "__main__":
    main()
