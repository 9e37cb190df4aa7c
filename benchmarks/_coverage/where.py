"""The machine and the versions of a row."""

from __future__ import annotations

import importlib.metadata
import platform
from datetime import UTC, datetime

import torch
from _harness import commit, device

from _coverage.rows import PACKAGES, Row


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
