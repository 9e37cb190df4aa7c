"""A file is the old one or the new one, whatever goes wrong on the way."""

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import RunError
from secateur.files import atomic_write

OLD, NEW = b"old" * 1000, b"new" * 2000
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file in a folder of its own, with its old content."""
    file = tmp_path / "folder" / "file.bin"
    file.parent.mkdir()
    file.write_bytes(OLD)
    return file


def alone(path: Path) -> bool:
    """Whether nothing else is in the folder: no temporary file was left behind."""
    return [entry.name for entry in path.parent.iterdir()] == [path.name]


class FullDisk:
    """A file that takes half of what is written into it."""

    def __init__(self, file: Any, error: BaseException) -> None:
        self.file, self.error = file, error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, content: bytes) -> None:
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        raise self.error


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def halfway(error: BaseException) -> Callable[..., Any]:
    real = os.fdopen
    return lambda *args, **options: FullDisk(real(*args, **options), error)


def flush_of_the_folder(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let fsync fail for folders only."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


STEPS: dict[str, Callable[[BaseException], Callable[..., Any]]] = {
    "open": raising,
    "fdopen": halfway,  # the file it opens is full after half of the bytes
    "fsync": raising,
    "replace": raising,
}


@settings(max_examples=20)
@given(content=st.binary(max_size=5000))
def test_a_file_is_written_whole(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("written") / "file"
    atomic_write(path, b"what was there before" * 100)
    atomic_write(path, content)
    assert path.read_bytes() == content
    assert alone(path)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_the_system_refuses_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(os, step, STEPS[step](FULL))
        with pytest.raises(RunError, match=r"file\.bin \(6000 bytes\): No space left on device; expected a folder"):
            atomic_write(path, NEW)
    assert path.read_bytes() == OLD
    assert alone(path)
    atomic_write(path, NEW)
    assert path.read_bytes() == NEW


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_is_no_refusal_passes_through_and_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: type[BaseException]
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(os, step, STEPS[step](error()))
        with pytest.raises(error):
            atomic_write(path, NEW)
    assert path.read_bytes() == OLD
    assert alone(path)


def test_a_folder_that_cannot_be_flushed_is_reported_and_the_new_file_is_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush_of_the_folder(monkeypatch, errno.EIO)
    with pytest.raises(RunError, match="What stands under this name is whole, old or new"):
        atomic_write(path, NEW)
    assert path.read_bytes() == NEW
    assert alone(path)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_file_systems_that_flush_no_folders_are_put_up_with(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    flush_of_the_folder(monkeypatch, number)
    atomic_write(path, NEW)
    assert path.read_bytes() == NEW


def test_a_folder_that_may_be_written_to_but_not_read_is_put_up_with(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse_folders(name: Any, *args: Any) -> int:
        if Path(name).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(name, *args)

    monkeypatch.setattr(os, "open", refuse_folders)
    atomic_write(path, NEW)
    assert path.read_bytes() == NEW


# What runs in a process that is killed, and what it leaves.
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
KILLED = {
    "before the bytes are on the disk": (f"os.fsync = lambda _: {KILL}", OLD),
    "before the new file has its name": (f"os.replace = lambda *_: {KILL}", OLD),
    "after the new file has its name": (f"real = os.replace\nos.replace = lambda *a: (real(*a), {KILL})", NEW),
}


@pytest.mark.parametrize("when", KILLED)
def test_kill_minus_nine_leaves_one_of_the_two_files_whole(path: Path, when: str) -> None:
    patch, left = KILLED[when]
    script = "\n".join(
        [
            "import os, signal, sys",
            "from pathlib import Path",
            "from secateur.files import atomic_write",
            patch,
            "atomic_write(Path(sys.argv[1]), b'new' * 2000)",
        ]
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == left
    atomic_write(path, b"next")
    assert path.read_bytes() == b"next"
    strays = {entry.name for entry in path.parent.iterdir()} - {path.name}
    assert all(name.startswith(".secateur-") and name.endswith(".tmp") for name in strays)


def test_a_file_larger_than_the_system_allows_is_refused(path: Path) -> None:
    """A real refusal in the middle of writing: a limit on the size of files, in a process of its own."""
    script = "\n".join(
        [
            "import resource, sys",
            "from pathlib import Path",
            "from secateur.errors import RunError",
            "from secateur.files import atomic_write",
            "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))",
            "try:",
            "    atomic_write(Path(sys.argv[1]), b'new' * 2000)",
            "except RunError as error:",
            "    sys.exit(7 if 'File too large' in str(error) else 8)",
        ]
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == 7
    assert path.read_bytes() == OLD
    assert alone(path)


def test_who_has_the_old_file_open_goes_on_reading_it(path: Path) -> None:
    with path.open("rb") as reader:
        start = reader.read(10)
        atomic_write(path, NEW)
        assert start + reader.read() == OLD


def test_several_writers_leave_the_file_of_one_of_them(path: Path) -> None:
    contents = [bytes([number]) * (1000 + number) for number in range(8)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda content: atomic_write(path, content), contents))
    assert path.read_bytes() in contents
    assert alone(path)


@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_stays_and_what_it_points_at_is_replaced(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absolute: bool
) -> None:
    link = tmp_path / "link"
    link.symlink_to(path if absolute else Path("folder", "file.bin"))
    moved: list[Path] = []
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        moved.append(Path(source))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    atomic_write(link, NEW)
    assert link.is_symlink()
    assert path.read_bytes() == NEW
    assert [source.parent for source in moved] == [path.parent]  # on the file system of the file, not of the link


def test_a_link_to_nothing_gets_its_file(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "later")
    atomic_write(link, NEW)
    assert link.is_symlink()
    assert (tmp_path / "later").read_bytes() == NEW


def test_a_new_file_has_the_permissions_of_any_new_file(path: Path) -> None:
    plain = path.parent / "plain"
    plain.touch()
    atomic_write(path.parent / "made", b"")
    assert (path.parent / "made").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("none/file", "No such file or directory"),
        ("file.bin/file", "Not a directory"),
        (".", "directory|busy"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_place_where_no_file_can_be_is_named(path: Path, place: str, reason: str) -> None:
    with pytest.raises(RunError, match=f"cannot write .*({reason}).*give another path"):
        atomic_write(path.parent / place, NEW)
    assert path.read_bytes() == OLD
    assert alone(path)
