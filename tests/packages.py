"""Packages made by hand, and tools in the place of those that would fetch them: no network, no installation."""

from __future__ import annotations

import hashlib
import io
import shlex
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from secateur.errors import DataError
from secateur.tasks.data import Source, fetch

CONTENT = {"one.txt": b"1", "sub/two.bin": bytes(range(256))}
PREFIX = "package/data/"
KINDS = ("deb", "npm", "wheel", "sdist")

Members = Iterable[tuple[str | tarfile.TarInfo, bytes]]


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def source(kind: Any = "npm", content: Mapping[str, bytes] = CONTENT, **more: Any) -> Source:
    """A source of these files; its package is not checked, each of its files is."""
    version = "" if kind == "deb" else "1.2.3"
    files = {name: sha(part) for name, part in content.items()}
    made = Source("things", "two files", "MIT", kind, "some-things", version, 7, PREFIX, files)
    return replace(made, **more)


def members(content: Mapping[str, bytes] = CONTENT) -> list[tuple[str | tarfile.TarInfo, bytes]]:
    """What a package holds: the files under its prefix, and others that are not wanted."""
    wanted = [(PREFIX + name, part) for name, part in content.items()]
    return [("package/setup.py", b"raise SystemExit"), *wanted, (PREFIX + "more.txt", b"more")]


def tarred(parts: Members) -> bytes:
    """A gzipped tar archive; a `TarInfo` is taken as it is."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as packed:
        for name, content in parts:
            entry = tarfile.TarInfo(name) if isinstance(name, str) else name
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def zipped(parts: Members) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, content in parts:
            assert isinstance(name, str)
            packed.writestr(name, content)
    return file.getvalue()


def below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content, and every empty folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"a folder"
        for path in sorted(folder.rglob("*"))
        if path.is_file() or (path.is_dir() and not any(path.iterdir()))
    }


class Tools:
    """A folder of tools that is all there is on the PATH; each notes how it was called."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.log = folder / "bin", folder / "calls"
        self.folder.mkdir()
        # An absolute path, because nothing else is on the PATH of the tools.
        self.copy = shutil.which("cp")
        monkeypatch.setenv("PATH", str(self.folder))
        monkeypatch.setattr(sys, "executable", str(self.folder / "python"))

    def make(self, name: str, *lines: str) -> None:
        """A tool of these lines of shell."""
        path = self.folder / name
        path.write_text("\n".join(["#!/bin/sh", f'echo "{name} $*" >> {shlex.quote(str(self.log))}', *lines, ""]))
        path.chmod(0o755)

    def copying(self, content: bytes, name: str = "package.tgz") -> str:
        """A line of shell that puts a file into the folder in which a tool runs."""
        kept = self.folder.parent / f"{sha(content)[:8]}-{name}"
        kept.write_bytes(content)
        return f"{self.copy} {shlex.quote(str(kept))} ./{shlex.quote(name)}"

    def unpacked(self, content: Mapping[str, bytes]) -> Path:
        """The tree that `dpkg-deb` unpacks, whatever it is given."""
        tree = self.folder.parent / "tree"
        for name, part in content.items():
            path = tree / PREFIX / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(part)
        self.make(
            "dpkg-deb", '[ "$1" = --extract ] && [ -f "$2" ] || exit 3', f'{self.copy} -R {shlex.quote(str(tree))} "$3"'
        )
        return tree

    def serving(self, kind: str, content: Mapping[str, bytes] = CONTENT) -> Source:
        """The tools of a kind, with a package of that kind in them."""
        if kind == "deb":
            self.make("apt-get", self.copying(b"a package", "some-things_1_all.deb"))
            self.unpacked({**content, "more.txt": b"more"})
        elif kind == "npm":
            self.make("npm", self.copying(tarred(members(content))))
        else:
            packed = zipped if kind == "wheel" else tarred
            self.make("python", self.copying(packed(members(content)), f"some.{kind}"))
        return source(kind, content)

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


def tools_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """Tools, and a cache folder of their own."""
    monkeypatch.setenv("SECATEUR_DATA", str(folder / "cache"))
    return Tools(folder, monkeypatch)


def silent(_: str) -> None:
    """Say nothing."""


def assert_refused(wanted: Source, words: str, tmp_path: Path) -> None:
    """Fetching fails with these words, and leaves nothing behind."""
    with pytest.raises(DataError, match=words):
        fetch(wanted, say=silent)
    assert below(tmp_path / "cache") == {}
