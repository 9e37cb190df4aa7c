"""Data come out of packages whole or not at all, into their own folder and nowhere else."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import DataError
from secateur.tasks.data import SOURCES, cache_folder, fetch, locate
from secateur.tasks.data.source import KINDS as WORDS
from tests.packages import (
    CONTENT,
    KINDS,
    Tools,
    assert_refused,
    below,
    members,
    sha,
    silent,
    source,
    tarred,
    tools_in,
    zipped,
)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    return tools_in(tmp_path, monkeypatch)


def lay(folder: Path, names: Any = CONTENT) -> Path:
    """Put files of `CONTENT` into a folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(CONTENT[name])
    return folder


# ---------------------------------------------------------------------------------- the catalogue


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_of_the_catalogue_is_pinned_down_to_the_byte(name: str) -> None:
    made = SOURCES[name]
    sums = [made.archive, *made.files.values()]
    assert all(re.fullmatch("[0-9a-f]{64}|", digest) for digest in sums)
    assert made.files
    assert made.archive or all(made.files.values())
    assert made.version or made.kind == "deb"
    assert (made.name, made.kind in WORDS, made.prefix[-1]) == (name, True, "/")
    assert re.fullmatch("[a-z0-9-]+", name)  # also the name of a folder, and an argument on the command line
    assert all((made.what, made.licence, made.package, made.megabytes > 0))


@given(present=st.sets(st.sampled_from(sorted(CONTENT))))
def test_a_source_is_present_where_none_of_its_files_is_missing(
    tmp_path_factory: pytest.TempPathFactory, present: set[str]
) -> None:
    folder = lay(tmp_path_factory.mktemp("folder"), present)
    assert source().present(folder) == (present == set(CONTENT))
    missing = [name for name in CONTENT if name not in present]
    if missing:
        with pytest.raises(DataError, match=rf"things: .*{missing[0]} is missing\. `secateur data things` fetches it"):
            source().check(folder)
    else:
        source().check(folder)


@pytest.mark.parametrize("name", CONTENT)
def test_a_file_of_other_content_is_named(tmp_path: Path, name: str) -> None:
    (lay(tmp_path) / name).write_bytes(b"else")
    with pytest.raises(DataError, match=rf"{name} has the checksum {sha(b'else')[:16]}\.\.\., .*Remove it"):
        source().check(tmp_path)
    source(files=dict.fromkeys(CONTENT, "")).check(tmp_path)  # no checksum is known: being there is enough


def test_a_folder_in_the_place_of_a_file_is_no_file(tmp_path: Path) -> None:
    (lay(tmp_path, ["one.txt"]) / "sub" / "two.bin").mkdir(parents=True)
    assert not source().present(tmp_path)


def test_the_way_to_the_data_names_command_size_package_and_files() -> None:
    assert source().way() == (
        "`secateur data things` fetches it (7 MB, npm package some-things); or put one.txt, sub/two.bin into a folder "
        "and name it by --data-dir"
    )
    assert "or put all of package/data/ in it into a folder" in source(whole=True).way()


# --------------------------------------------------------------------------------- where they lie


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"SECATEUR_DATA": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own"),
        ({"SECATEUR_DATA": "~/own"}, "/home/me/own"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/secateur"),
        ({"XDG_CACHE_HOME": "", "SECATEUR_DATA": ""}, "/home/me/.cache/secateur"),
        ({}, "/home/me/.cache/secateur"),
    ],
)
def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], folder: str) -> None:
    for name in ("SECATEUR_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)


def test_data_are_looked_for_in_a_named_folder_or_in_the_cache_and_then_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECATEUR_DATA", str(tmp_path / "cache"))
    installed = source(system=str(tmp_path / "system"))
    named = tmp_path / "named"
    orders = {None: [tmp_path / "cache" / "things", tmp_path / "system"], named: [named, named / "things"]}
    for folder in (place for order in orders.values() for place in order):
        lay(folder, ["one.txt"])  # only a part of them: the next place counts
    for data_dir, (first, second) in orders.items():
        with pytest.raises(DataError, match=re.escape(f"not on this machine (looked in {first} and {second}). `sec")):
            locate(installed, data_dir)
        lay(second)
        assert locate(installed, data_dir) == second
        lay(first)
        assert locate(installed, data_dir) == first
    assert locate(installed, str(named)) == named
    with pytest.raises(DataError, match=r"\(looked in [^ ]*cache/things\)"):
        locate(source(name="things", files={"other": ""}))  # which no package of the system puts anywhere


# -------------------------------------------------------------------------------------- fetching

COMMANDS = {
    "deb": ["apt-get download some-things"],
    "npm": ["npm pack --silent some-things@1.2.3"],
    "wheel": ["python -m pip download --quiet --no-deps --only-binary :all: some-things==1.2.3"],
    "sdist": ["python -m pip download --quiet --no-deps --no-binary some-things some-things==1.2.3"],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["cache", "absolute", "relative"])
def test_the_listed_files_of_a_package_are_fetched_once(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = {"cache": None, "absolute": tmp_path / "x" / "y", "relative": Path("x", "y")}[place]
    root = tmp_path / "cache" if folder is None else tmp_path / "x" / "y"
    wanted, said = tools.serving(kind), list[str]()
    for _ in range(2):
        assert fetch(wanted, folder, say=said.append) == root / "things"
        assert below(root) == {f"things/{name}": part for name, part in CONTENT.items()}
    assert [call for call in tools.calls() if not call.startswith("dpkg-deb")] == COMMANDS[kind]
    assert said == [f"fetching things (7 MB, {WORDS[wanted.kind]} some-things)"]


@pytest.mark.parametrize("kind", ["npm", "wheel", "sdist"])
def test_a_source_can_be_kept_whole(tools: Tools, tmp_path: Path, kind: str) -> None:
    tools.serving(kind)
    folder = fetch(source(kind, whole=True), say=silent)
    assert below(folder) == {**CONTENT, "more.txt": b"more"}


def test_a_fetched_folder_can_be_read_by_whom_the_system_lets(tools: Tools, tmp_path: Path) -> None:
    folder = fetch(tools.serving("npm"), say=silent)
    (tmp_path / "plain").mkdir()
    assert folder.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_without_package_lists_apt_gets_its_own(tools: Tools, tmp_path: Path) -> None:
    wanted = tools.serving("deb")
    tools.make(
        "apt-get",
        'if [ "$1" = download ]; then echo "E: Unable to locate package" >&2; exit 100; fi',
        'for last; do :; done; [ "$last" = update ] && exit 0',
        tools.copying(b"a package"),
    )
    assert below(fetch(wanted, say=silent)) == CONTENT
    refused, update, download, _ = tools.calls()
    assert refused == COMMANDS["deb"][0]
    own = rf"-oDir::State::lists={tmp_path}/cache/\.fetch-[^ ]+/lists -oDir::Cache=[^ ]+ -oAPT::Sandbox::User="
    assert re.fullmatch(f"apt-get {own} update", update)
    assert re.fullmatch(f"apt-get {own} download some-things", download)


# ---------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("kind", KINDS)
def test_a_tool_that_is_not_there_is_named(tools: Tools, tmp_path: Path, kind: Any) -> None:
    tool = {"deb": "apt-get", "npm": "npm"}.get(kind, "[^ ]*python")
    assert_refused(source(kind), rf"things is fetched by {tool}, which is not on this system\. `sec", tmp_path)


def test_unpacking_needs_its_tool_too(tools: Tools, tmp_path: Path) -> None:
    wanted = tools.serving("deb")
    (tools.folder / "dpkg-deb").unlink()
    assert_refused(wanted, "is fetched by dpkg-deb, which is not on this system", tmp_path)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["echo first >&2; echo 'no such package' >&2; exit 1"], "npm pack failed for some-things: no such package. `"),
        (["echo said on stdout; exit 1"], "failed for some-things: said on stdout. `"),
        (["exit 7"], "failed for some-things: exit code 7. `"),
        (["printf 'caf\\351\\n' >&2; exit 1"], "failed for some-things: caf\ufffd. `"),  # no UTF-8
        (["exit 0"], r"expected one package, found \[\]"),
        (["echo a > a", "echo b > b"], r"expected one package, found \['[ab]', '[ab]'\]"),
    ],
)
def test_what_a_tool_says_is_passed_on(tools: Tools, tmp_path: Path, lines: list[str], words: str) -> None:
    tools.make("npm", *lines)
    assert_refused(source(), words, tmp_path)


def test_a_tool_that_asks_gets_no_answer(tools: Tools, tmp_path: Path) -> None:
    tools.make("npm", "read password && exit 8", "exit 9")
    here, there = os.pipe()
    os.write(there, b"secret\n")
    before = os.dup(0)
    os.dup2(here, 0)
    try:
        assert_refused(source(), "exit code 9", tmp_path)
    finally:
        os.dup2(before, 0)
        for descriptor in (here, there, before):
            os.close(descriptor)


def test_a_tool_is_not_waited_for_forever(tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(command: list[str], *, timeout: float, **_: Any) -> Any:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", late)
    assert_refused(source(), r"npm took more than 900 seconds for some-things\. `", tmp_path)


def test_ctrl_c_leaves_nothing_behind(tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        fetch(source(), say=silent)
    assert below(tmp_path / "cache") == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_with_another_checksum_is_not_kept(tools: Tools, tmp_path: Path, kind: str) -> None:
    wanted = tools.serving(kind)
    other = source(wanted.kind, archive=sha(b"another package"))
    assert_refused(
        other, rf"has the checksum .*expected {sha(b'another package')[:16]}.*nothing of it was kept", tmp_path
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_with_another_file_is_not_kept(tools: Tools, tmp_path: Path, kind: str) -> None:
    tools.serving(kind, {**CONTENT, "one.txt": b"one"})
    assert_refused(source(kind), rf"one\.txt has the checksum {sha(b'one')[:16]}", tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_without_a_file_is_not_kept(tools: Tools, tmp_path: Path, kind: str) -> None:
    tools.serving(kind, {"sub/two.bin": CONTENT["sub/two.bin"]})
    assert_refused(source(kind), r"one\.txt is missing", tmp_path)


@pytest.mark.parametrize("kind", ["npm", "wheel", "sdist"])
@pytest.mark.parametrize("damage", [lambda _: b"", lambda _: b"no package", lambda packed: packed[: len(packed) // 2]])
def test_a_damaged_package_is_not_kept(
    tools: Tools, tmp_path: Path, kind: str, damage: Callable[[bytes], bytes]
) -> None:
    packed = (zipped if kind == "wheel" else tarred)(members())
    tools.make("npm" if kind == "npm" else "python", tools.copying(damage(packed)))
    assert_refused(source(kind), r"things: the package package\.tgz is damaged \(.*\)\. `", tmp_path)


def test_files_that_are_there_are_checked_and_left_alone(tools: Tools, tmp_path: Path) -> None:
    target = lay(tmp_path / "cache" / "things")
    (target / "one.txt").write_bytes(b"else")
    with pytest.raises(DataError, match=r"one\.txt has the checksum .* Remove it"):
        fetch(tools.serving("npm"), say=silent)
    assert (target / "one.txt").read_bytes() == b"else"
    (target / "one.txt").unlink()
    with pytest.raises(DataError, match="things exists and lacks files of things: move it away, then fetch again"):
        fetch(source(), say=silent)
    assert below(target) == {"sub/two.bin": CONTENT["sub/two.bin"]}
    assert tools.calls() == []


def test_a_folder_that_cannot_be_made_is_named(tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match=r"things could not be written to .*cache/things: .*"):
        fetch(tools.serving("npm"), say=silent)
    assert (tmp_path / "cache").read_text() == "a file"


def test_two_that_fetch_the_same_at_once_both_have_it(tools: Tools, tmp_path: Path) -> None:
    wanted = tools.serving("npm")
    other = lay(tmp_path / "other" / "things")
    tools.make("npm", tools.copying(tarred(members())), f"{tools.copy} -R '{other}' '{tmp_path}/cache'")
    assert below(fetch(wanted, say=silent)) == CONTENT
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["things"]
