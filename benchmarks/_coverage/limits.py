"""A process that says how far it got, and ends when its time is spent."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


def tell(**found: Any) -> None:
    """Write down what is known so far, for whoever started this process."""
    print(json.dumps(found), flush=True)


def let(seconds: float) -> None:
    """End this process once it has computed for so long from now on; 0: no limit any more.

    Seconds of the processor, so that what else the machine does makes no difference. The kernel ends the process,
    whatever it is in.
    """
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)


@contextmanager
def timed(times: dict[str, float], name: str) -> Generator[None, None, None]:
    """Add the seconds of the processor that a block takes."""
    start = time.process_time()
    try:
        yield
    finally:
        times[name] = times.get(name, 0.0) + time.process_time() - start


def cause(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]
