"""A run's folder: its settings, a journal of what has been measured, and the files it leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from secateur import ranks
from secateur.errors import RunError
from secateur.files import atomic_write, remove_leftovers

FORMAT, VERSION = "secateur.run", 1
STATES = "states"


@dataclass
class RunFolder:
    """A folder that remembers measurements, so that a run that stopped goes on where it was.

    `run.json` holds the settings, `journal.jsonl` one measurement a line, flushed to the disk as soon as it is made.
    Use `open_run`.

    Args:
        path: The folder.
        settings: What the run was asked to do.
        created: When it began, ISO 8601.
        known: Measurements by key.
    """

    path: Path
    settings: Mapping[str, Any]
    created: str
    known: dict[str, Any] = field(default_factory=dict)

    def file(self, name: str) -> Path:
        """A file of the folder.

        Args:
            name: Its name.

        Returns:
            Its path.
        """
        return self.path / name

    def state(self, name: str) -> Path:
        """A file from which a run that stopped goes on; these lie in a folder of their own.

        Args:
            name: Its name.

        Returns:
            Its path.
        """
        folder = self.path / STATES
        folder.mkdir(exist_ok=True)
        return folder / f"{name}.safetensors"

    def once(self, key: str, measure: Callable[[], Any]) -> Any:
        """A measurement from the journal, or made now and written into it.

        Args:
            key: What is measured.
            measure: Makes it; plain JSON.

        Returns:
            The measurement.
        """
        if key not in self.known:
            value = ranks.agreed(measure())
            line = json.dumps({"key": key, "value": value})
            ranks.by_first(lambda: _append(self.file("journal.jsonl"), line))
            self.known[key] = value
        return self.known[key]

    def leave(self, name: str, write: Callable[[Path], None]) -> None:
        """Write a file of the folder; of several ranks, the first does.

        Args:
            name: Its name.
            write: Writes it, atomically.
        """
        ranks.by_first(lambda: write(self.file(name)))

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file, atomically.

        Args:
            name: Its name.
            value: Plain JSON.
        """
        content = (json.dumps(value, indent=1) + "\n").encode()
        self.leave(name, lambda path: atomic_write(path, content))


def open_run(path: Path, settings: Mapping[str, Any], *, resume: bool) -> RunFolder:
    """Begin a run in a new or empty folder, or go on with the one that is there; all ranks get the same.

    Args:
        path: The folder.
        settings: What the run is to do, plain JSON.
        resume: Go on with a run of the same settings.

    Returns:
        The folder.

    Raises:
        RunError: There is a run and `resume` is not set, or it is one of other settings or another version, or the
            folder holds something else.
    """
    created, known = ranks.by_first(lambda: _opened(path, settings, resume=resume))
    return RunFolder(path, settings, created, known)


def _opened(path: Path, settings: Mapping[str, Any], *, resume: bool) -> tuple[str, dict[str, Any]]:
    """When the run began, and what it has measured."""
    for place in (path, path / STATES):
        remove_leftovers(place)
    if (path / "run.json").exists():
        if not resume:
            raise RunError(f"{path} already holds a run: go on with it by --resume, or choose another folder by --out")
        return _existing(path, settings)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(f"{path} is not empty and holds no run: choose a new folder by --out")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the folder {path} cannot be made: {error.strerror}") from error
    created = datetime.now(UTC).isoformat(timespec="seconds")
    described = {"format": FORMAT, "version": VERSION, "created": created, "settings": settings}
    atomic_write(path / "run.json", (json.dumps(described, indent=1) + "\n").encode())
    return created, {}


def read_run(path: Path) -> dict[str, Any]:
    """The description of a run.

    Args:
        path: Its folder.

    Returns:
        The contents of `run.json`.

    Raises:
        RunError: There is none, or it is damaged or of another version.
    """
    try:
        found = json.loads((path / "run.json").read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"{path} holds no run that can be read ({error}): give the folder that --out named") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("settings"), dict):
        raise RunError(f"{path}/run.json was not written by secateur")
    if found.get("version") != VERSION:
        raise RunError(
            f"{path} holds a run of version {found.get('version')}; this secateur reads version {VERSION}. "
            "Make the run again, or use the secateur that made it"
        )
    return found


def read_results(path: Path) -> dict[str, Any]:
    """The results of a finished run.

    Args:
        path: Its folder.

    Returns:
        The contents of `results.json`.

    Raises:
        RunError: The run is not finished, or is damaged.
    """
    read_run(path)
    try:
        found = json.loads((path / "results.json").read_text())
    except FileNotFoundError as error:
        raise RunError(f"the run in {path} is not finished: go on with it by the same command and --resume") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path}/results.json is damaged ({error}): make it anew by --resume") from error
    if not isinstance(found, dict):
        raise RunError(f"{path}/results.json holds {type(found).__name__}; expected an object")
    return found


def _existing(path: Path, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    found = read_run(path)
    before = found["settings"]
    differing = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
    if differing:
        shown = ", ".join(f"{key} was {before.get(key)!r}, now {settings.get(key)!r}" for key in differing)
        raise RunError(f"{path} holds a run of other settings ({shown}): repeat them, or choose another --out")
    return str(found.get("created", "")), _journal(path / "journal.jsonl")


def _journal(path: Path) -> dict[str, Any]:
    """Everything in a journal; a last line that was cut off while it was written is dropped, also from the file."""
    if not path.exists():
        return {}
    known, whole = {}, 0
    content = path.read_bytes()
    for line in content.splitlines(keepends=True):
        try:
            entry = json.loads(line)
            known[entry["key"]] = entry["value"]
        except (ValueError, KeyError, TypeError):
            break
        if not line.endswith(b"\n"):
            break
        whole += len(line)
    if whole < len(content):
        os.truncate(path, whole)
    return known


def _append(path: Path, line: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as journal:
            journal.write(line + "\n")
            journal.flush()
            os.fsync(journal.fileno())
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror}; what was measured before is safe. Free some space"
        ) from error
