"""Writing a file so that it is either the old one or the new one, never something between."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from secateur.errors import RunError

LEFTOVER = ".secateur-*.tmp"


def atomic_write(path: Path, content: bytes) -> None:
    """Write a whole file, or leave what was there before.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and the temporary
    file is then renamed over `path`; last, the folder itself is flushed. Whatever happens on the
    way (a full disk, ``kill -9``, a power cut), `path` holds its old content or the new one. Only
    a process that was killed leaves its temporary file, ``.secateur-*.tmp``; see `remove_leftovers`.

    Args:
        path: The file; a symbolic link is followed, and the file it points at is replaced.
        content: All its bytes.

    Raises:
        RunError: If the system refuses: no space, no such folder, no permission.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     atomic_write(Path(folder, "a.txt"), b"new")
        ...     Path(folder, "a.txt").read_bytes(), len(os.listdir(folder))
        (b'new', 1)
    """
    target = Path(os.path.realpath(path))
    temporary = target.parent / LEFTOVER.replace("*", secrets.token_hex(8))
    try:
        _write_through(temporary, content)
        Path(temporary).replace(target)
        _flush_folder(target.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise RunError(
                f"cannot write {path} ({len(content)} bytes): {error.strerror or error}; expected a"
                " folder that exists, may be written to and has that much space. What stands under this"
                " name is whole, old or new. Free some space or give another path"
            ) from error
        raise


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that killed processes left in a folder which no other process writes to.

    Args:
        folder: The folder; if there is none, nothing is done.
    """
    for path in folder.glob(LEFTOVER):
        path.unlink(missing_ok=True)


def _write_through(path: Path, content: bytes) -> None:
    # os.open and not tempfile: the file gets the permissions any new file of the user gets.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o666), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder; its rename is journaled
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # may be written to, not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(descriptor)
