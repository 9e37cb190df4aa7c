"""A source of data: which package holds it, which files belong to it, and where they lie on this machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from secateur.errors import DataError

Kind = Literal["deb", "npm", "wheel", "sdist"]
KINDS: Mapping[Kind, str] = {
    "deb": "Debian package",
    "npm": "npm package",
    "wheel": "Python wheel",
    "sdist": "Python source package",
}


@dataclass(frozen=True)
class Source:
    """Files that a package ships.

    Args:
        name: What the data are called here; also the name of their folder.
        what: One line for people.
        licence: As the package states it.
        kind: What sort of package.
        package: Its name.
        version: Its version; empty where any will do, because the files are checked one by one.
        megabytes: Of the package, as it is fetched.
        prefix: The part of the package that is kept, without it.
        files: SHA-256 by path of the files that must be there; empty where the package's own is enough.
        whole: Keep all of the prefix, not only the listed files.
        archive: SHA-256 of the package; empty where the files are checked one by one.
        system: Where the files lie if the package is installed on the system.
    """

    name: str
    what: str
    licence: str
    kind: Kind
    package: str
    version: str
    megabytes: int
    prefix: str
    files: Mapping[str, str]
    whole: bool = False
    archive: str = ""
    system: str = ""

    def present(self, folder: Path) -> bool:
        """Whether the files lie in a folder; their contents are not looked at.

        Args:
            folder: The folder.

        Returns:
            True if none is missing.
        """
        return all((folder / name).is_file() for name in self.files)

    def check(self, folder: Path) -> None:
        """Compare every listed file with its checksum.

        Args:
            folder: Where the files lie.

        Raises:
            DataError: A file is missing or differs; it is named.
        """
        for name, expected in self.files.items():
            path = folder / name
            if not path.is_file():
                raise DataError(f"{self.name}: {path} is missing. {self.way()}")
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if expected and found != expected:
                raise DataError(
                    f"{self.name}: {path} has the checksum {found[:16]}..., expected {expected[:16]}...: it is damaged "
                    f"or of another version. Remove it. {self.way()}"
                )

    def way(self) -> str:
        """How to get the data, in one sentence.

        Returns:
            The sentence.
        """
        names = f"all of {self.prefix} in it" if self.whole else ", ".join(self.files)
        return (
            f"`secateur data {self.name}` fetches it ({self.megabytes} MB, {KINDS[self.kind]} {self.package}); "
            f"or put {names} into a folder and name it by --data-dir"
        )


def cache_folder() -> Path:
    """Where fetched data are kept: `$SECATEUR_DATA`, or `secateur` in the user's cache folder.

    Returns:
        The folder; it need not exist yet.
    """
    if own := os.environ.get("SECATEUR_DATA"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "secateur"


def locate(source: Source, data_dir: Path | str | None = None) -> Path:
    """The folder in which the files of a source lie.

    Args:
        source: The source.
        data_dir: Look here, in the folder itself and in one of it that bears the source's name; None: in the cache
            folder, then where the system's package puts them.

    Returns:
        The folder.

    Raises:
        DataError: They are not there; the message says how to get them.
    """
    if data_dir is not None:
        places = [Path(data_dir), Path(data_dir) / source.name]
    else:
        places = [cache_folder() / source.name, *([Path(source.system)] if source.system else [])]
    for place in places:
        if source.present(place):
            return place
    looked = " and ".join(map(str, places))
    raise DataError(f"the data of {source.name} are not on this machine (looked in {looked}). {source.way()}")
