"""Kill a child process without warning at a chosen point of its work on files."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(work: Callable[[], Any], folder: Path, point: int) -> bool:
    """Do the work in a child that is killed before its `point`-th change of a file under a folder, counted from 1.

    Changes are: a file is opened for writing, its bytes are half written, it is flushed, renamed or removed, a folder
    is made. Returns False if the work was done before it came so far.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _count_down(folder, point)
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "the work failed in the child"
    return False


def _count_down(folder: Path, point: int) -> None:
    left = [point]

    def change() -> None:
        left[0] -= 1
        if left[0] == 0:
            die()

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if (
            event in ("os.rename", "os.remove", "os.mkdir", "os.truncate")
            or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES)
        ) and str(arguments[0]).startswith(str(folder)):
            change()

    sys.addaudithook(audit)
    flush = os.fsync

    def fsync(descriptor: Any) -> None:
        change()
        flush(descriptor)

    os.fsync = fsync  # type: ignore[assignment]
