"""Packages made to do harm: nothing of them is written elsewhere than into the folder of their source."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import DataError
from secateur.tasks.data import fetch
from tests.packages import (
    CONTENT,
    PREFIX,
    Tools,
    assert_refused,
    below,
    members,
    silent,
    source,
    tarred,
    tools_in,
    zipped,
)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    return tools_in(tmp_path, monkeypatch)


def outside(root: Path) -> dict[str, bytes]:
    """Every file below a folder, except in the folder of the source, and what the tools note."""
    return {
        name: part
        for name, part in below(root).items()
        if not name.startswith("cache/things/") and name not in ("cache", "calls")
    }


PARTS = st.sampled_from(["..", ".", "", "a", "b", PREFIX.strip("/"), "package", "data", "\\", "~"])


@settings(max_examples=60)
@given(
    kind=st.sampled_from(["npm", "wheel"]),
    names=st.lists(st.lists(PARTS, min_size=1, max_size=6).map("/".join), max_size=4, unique=True),
    prefixed=st.booleans(),
    absolute=st.booleans(),
)
def test_nothing_is_written_outside_the_folder(
    tmp_path_factory: pytest.TempPathFactory, kind: str, names: list[str], prefixed: bool, absolute: bool
) -> None:
    root = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patched:
        tools = tools_in(root, patched)
        start = PREFIX * prefixed + f"{root}/outside/" * absolute
        parts = [*members(), *((start + name, b"hostile") for name in names if name)]
        tools.make("npm" if kind == "npm" else "python", tools.copying((tarred if kind == "npm" else zipped)(parts)))
        before = outside(root)
        try:
            fetch(source(kind, whole=True), say=silent)
        except DataError:
            assert below(root / "cache") == {}
        else:
            assert CONTENT.items() <= below(root / "cache" / "things").items()
    assert outside(root) == before


@pytest.mark.parametrize("name", ["../../x.txt", "../../../x.txt", "sub/../../../../x.txt", "../kept/one.txt"])
@pytest.mark.parametrize("kind", ["npm", "wheel"])
def test_members_that_lead_elsewhere_are_left_out(tools: Tools, tmp_path: Path, kind: str, name: str) -> None:
    packed = (tarred if kind == "npm" else zipped)([*members(), (PREFIX + name, b"hostile")])
    tools.make("npm" if kind == "npm" else "python", tools.copying(packed))
    before = outside(tmp_path)
    assert below(fetch(source(kind, whole=True), say=silent)) == {**CONTENT, "more.txt": b"more"}
    assert outside(tmp_path) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_links_and_other_things_than_files_are_left_out(tools: Tools, tmp_path: Path, kind: bytes) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT["one.txt"])
    entry = tarfile.TarInfo(PREFIX + "one.txt")
    entry.type, entry.linkname = kind, str(secret)
    others = [part for part in members() if part[0] != PREFIX + "one.txt"]
    tools.make("npm", tools.copying(tarred([(entry, b""), *others])))
    assert_refused(source(), r"one\.txt is missing", tmp_path)


def test_a_link_in_a_debian_package_is_left_out(tools: Tools, tmp_path: Path) -> None:
    wanted = tools.serving("deb")
    (tmp_path / "secret").write_bytes(CONTENT["one.txt"])
    linked = tmp_path / "tree" / PREFIX / "one.txt"
    linked.unlink()
    linked.symlink_to(tmp_path / "secret")
    assert_refused(wanted, r"one\.txt is missing", tmp_path)


def test_a_member_in_the_place_of_a_folder_is_refused(tools: Tools, tmp_path: Path) -> None:
    tools.make("npm", tools.copying(tarred([(PREFIX + "sub", b"a file"), *members()])))
    assert_refused(source(whole=True), "things could not be written", tmp_path)


@settings(max_examples=60)
@given(kind=st.sampled_from(["npm", "wheel"]), data=st.data())
def test_a_flipped_bit_is_found_or_does_no_harm(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("root")
    packed = bytearray((tarred if kind == "npm" else zipped)(members()))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.MonkeyPatch.context() as patched:
        tools = tools_in(root, patched)
        tools.make("npm" if kind == "npm" else "python", tools.copying(bytes(packed)))
        try:
            folder = fetch(source(kind), say=silent)
        except DataError:
            assert below(root / "cache") == {}
        else:
            assert below(folder) == CONTENT
