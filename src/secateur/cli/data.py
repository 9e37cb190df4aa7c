"""What `secateur data` does once torch may be imported."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from secateur.errors import DataError, UnknownNameError
from secateur.tasks.data import SOURCES, Source, fetch, locate
from secateur.text import harmless, table


def print_sources(data_dir: Path | None, *, as_json: bool) -> None:
    """Print the sources of data there are, and where each lies on this machine.

    Args:
        data_dir: Look in this folder instead of the cache folder and the system's.
        as_json: For machines.
    """
    places = {name: _place(source, data_dir) for name, source in SOURCES.items()}
    if as_json:
        found = {name: _described(source, places[name]) for name, source in SOURCES.items()}
        sys.stdout.write(json.dumps(found) + "\n")
        return
    rows = [
        [name, source.what, source.licence, str(source.megabytes), _package(source), str(places[name] or "not here")]
        for name, source in SOURCES.items()
    ]
    drawn = table(["name", "what", "licence", "MB>", "package", "where"], rows)
    drawn.columns[0].no_wrap = True
    for column in drawn.columns:
        column.overflow = "fold"  # names and paths are there to be copied: none is cut off
    console = Console()
    console.print(drawn)
    console.print("secateur data NAME fetches one, secateur data --all every one", highlight=False, soft_wrap=True)


def fetch_sources(names: Sequence[str], data_dir: Path | None, *, as_json: bool) -> bool:
    """Fetch sources of data one after the other, also after one has failed.

    Args:
        names: The sources; none: every one.
        data_dir: Folder to put them in; None: the cache folder.
        as_json: For machines.

    Returns:
        Whether every one is there now; what went wrong has been printed.

    Raises:
        UnknownNameError: A name is that of no source; nothing has been fetched then.
    """
    for name in names:
        if name not in SOURCES:
            raise UnknownNameError("source of data", name, SOURCES)
    fetched, failed = {}, {}
    for name in dict.fromkeys(names or SOURCES):
        try:
            fetched[name] = str(fetch(SOURCES[name], data_dir, say=_say))
        except DataError as error:
            failed[name] = str(error)
        else:
            _say(f"{name} is in {fetched[name]}")
    if as_json:
        sys.stdout.write(json.dumps({"fetched": fetched, "failed": failed}) + "\n")
    for words in failed.values():
        Console(stderr=True).print("[bold red]error:[/]", harmless(words), highlight=False, soft_wrap=True)
    if failed:
        _say(f"{len(failed)} of {len(fetched) + len(failed)} could not be fetched: {', '.join(failed)}")
    return not failed


def _place(source: Source, data_dir: Path | None) -> Path | None:
    try:
        return locate(source, data_dir)
    except DataError:
        return None


def _package(source: Source) -> str:
    return f"{source.kind} {source.package} {source.version}".rstrip()


def _described(source: Source, place: Path | None) -> dict[str, str | int | None]:
    return {
        "what": source.what,
        "licence": source.licence,
        "megabytes": source.megabytes,
        "kind": source.kind,
        "package": source.package,
        "version": source.version,
        "folder": None if place is None else str(place),
    }


def _say(words: str) -> None:
    Console(stderr=True).print(harmless(words), highlight=False, soft_wrap=True)
