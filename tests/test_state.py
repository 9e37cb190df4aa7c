import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from secateur.errors import RunError
from secateur.files import atomic_write
from secateur.state import load_state, save_state

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.bool, torch.int64, torch.uint8, torch.complex64]


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    seed = draw(st.integers(0, 99))
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 10
    tensor = values.to(draw(st.sampled_from(DTYPES)))
    return tensor.transpose(0, -1) if tensor.ndim > 1 and draw(st.booleans()) else tensor


scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(), st.text(max_size=5))
keys = st.one_of(st.integers(), st.text(max_size=5))
trees = st.recursive(
    st.one_of(scalars, tensors()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
    ),
    max_leaves=8,
)


def same(one: Any, two: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        return one.dtype == two.dtype and one.shape == two.shape and torch.equal(one, two)
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(two) and len(one) == len(two) and all(map(same, one, two))
    return type(one) is type(two) and (one == two or (one != one and two != two))  # noqa: PLR0124  NaN


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@settings(max_examples=80)
@given(tree=trees)
def test_what_is_saved_comes_back(folder: Path, tree: Any) -> None:
    save_state(folder / "tree.safetensors", tree)
    assert same(tree, load_state(folder / "tree.safetensors"))


def test_tensors_that_share_memory_come_back_apart(folder: Path) -> None:
    base = torch.arange(6.0)
    save_state(folder / "shared.safetensors", {"all": base, "half": base[::2], "again": base})
    found = load_state(folder / "shared.safetensors")
    assert torch.equal(found["half"], torch.tensor([0.0, 2.0, 4.0]))
    found["again"][0] = 9
    assert found["all"][0] == 0


@pytest.mark.parametrize("thing", [object(), {1, 2}, b"bytes", {"deep": [{"er": lambda: 0}]}])
def test_what_is_no_state_is_refused_with_its_place(folder: Path, thing: object) -> None:
    with pytest.raises(RunError, match="the state has"):
        save_state(folder / "thing.safetensors", thing)
    assert not (folder / "thing.safetensors").exists()


def test_kinds_are_not_mixed_up(folder: Path) -> None:
    save_state(folder / "one.safetensors", {"a": 1}, kind="one")
    assert load_state(folder / "one.safetensors", kind="one") == {"a": 1}
    with pytest.raises(RunError, match="not a two file"):
        load_state(folder / "one.safetensors", kind="two")


@settings(max_examples=150)
@given(data=st.data())
def test_damage_gives_a_run_error_and_nothing_else(folder: Path, data: st.DataObject) -> None:
    path = folder / "damaged.safetensors"
    save_state(path, {"weights": torch.arange(12.0).reshape(3, 4), "step": 3, 7: (True, None, 0.5)})
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "insert", "number"])):
        case "flip":
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del content[at : at + data.draw(st.integers(1, 300))]
        case "insert":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        case "number":
            content[at : at + 10] = b"9999999999"
    path.write_bytes(bytes(content))
    try:
        found = load_state(path)
    except RunError:
        return
    assert isinstance(found, dict)  # damage that says nothing wrong, e.g. in a weight


@pytest.mark.parametrize("step", ["replace", "fsync", "fdopen"])
def test_a_write_that_fails_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    atomic_write(path, b"old")

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(RunError, match="No space left on device"):
        atomic_write(path, b"new")
    monkeypatch.undo()
    if step != "fsync":
        assert path.read_bytes() == b"old"
    assert path.read_bytes() in (b"old", b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_kill_minus_nine_while_writing_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic_write(path, b"old")
    killed = (
        "import os, signal, sys; from pathlib import Path; from secateur.files import atomic_write\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "atomic_write(Path(sys.argv[1]), b'new' * 1000)"
    )
    done = subprocess.run([sys.executable, "-c", killed, str(path)], check=False)
    assert done.returncode == -9
    assert path.read_bytes() == b"old"


def test_a_link_is_followed_and_a_missing_folder_named(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    atomic_write(real, b"old")
    link.symlink_to(real)
    atomic_write(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    with pytest.raises(RunError, match="expected a folder that exists"):
        atomic_write(tmp_path / "none" / "file", b"")
