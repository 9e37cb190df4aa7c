"""`secateur data`: what there is, where it lies, and fetching it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import secateur.cli.data as commands
from secateur.cli.main import app
from secateur.cli.options import complete
from secateur.tasks.data import SOURCES, Source
from tests.packages import CONTENT, Tools, below, source, tools_in


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["data", *arguments], env={"COLUMNS": "100"})


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """Three sources: the package of `broken` cannot be had, those of the other two can."""
    tools = tools_in(tmp_path, monkeypatch)
    tools.serving("npm")
    tools.serving("wheel")
    tools.make("apt-get", "echo 'no such package' >&2; exit 1")
    kinds = {"first": "npm", "broken": "deb", "last": "wheel"}
    made: Mapping[str, Source] = {name: source(kind, name=name) for name, kind in kinds.items()}
    monkeypatch.setattr(commands, "SOURCES", made)
    return tools


def test_without_names_every_source_is_listed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_DATA", str(tmp_path))
    found = call()
    assert found.exit_code == 0, found.stderr
    letters = "".join(found.stdout.split())
    assert "…" not in letters
    for name, listed in SOURCES.items():
        assert any(line.startswith(f" {name} ") for line in found.stdout.splitlines())
        assert str(listed.megabytes) in letters
    assert found.stderr == ""


def test_the_list_is_there_for_machines(tools: Tools, tmp_path: Path) -> None:
    assert call("last").exit_code == 0
    found = call("--json")
    assert (found.exit_code, found.stderr) == (0, "")
    listed = json.loads(found.stdout)
    assert {name: entry["folder"] for name, entry in listed.items()} == {
        "first": None,
        "broken": None,
        "last": str(tmp_path / "cache" / "last"),
    }
    assert listed["first"] == {
        "what": "two files",
        "licence": "MIT",
        "megabytes": 7,
        "kind": "npm",
        "package": "some-things",
        "version": "1.2.3",
        "folder": None,
    }


def test_the_table_says_where_the_data_lie(tools: Tools, tmp_path: Path) -> None:
    assert call("first", "--data-dir", str(tmp_path / "own")).exit_code == 0
    wide = CliRunner().invoke(app, ["data", "--data-dir", str(tmp_path / "own")], env={"COLUMNS": "400"}).stdout
    assert str(tmp_path / "own" / "first") in wide
    letters = "".join(wide.split())
    assert letters.count("nothere") == 2
    assert "".join(call().stdout.split()).count("nothere") == 3


@pytest.mark.parametrize("own", [False, True])
def test_named_sources_are_fetched_into_the_folder(tools: Tools, tmp_path: Path, own: bool) -> None:
    folder = tmp_path / ("own" if own else "cache")
    found = call("last", "first", "last", *(["--data-dir", str(folder)] if own else []))
    assert found.exit_code == 0
    assert below(folder) == {
        f"{name}/{part}": content for name in ("first", "last") for part, content in CONTENT.items()
    }
    assert found.stdout == ""
    assert f"last is in {folder / 'last'} fetching first (7 MB, npm package some-things)" in words(found.stderr)
    assert len(tools.calls()) == 2


@pytest.mark.parametrize("arguments", [["--all"], ["first", "--all"], ["first", "broken", "last"]])
def test_one_that_fails_does_not_stop_the_others(tools: Tools, tmp_path: Path, arguments: list[str]) -> None:
    found = call(*arguments)
    assert found.exit_code == 1
    assert {name.partition("/")[0] for name in below(tmp_path / "cache")} == {"first", "last"}
    said = words(found.stderr)
    assert said.count("error:") == 1
    assert "error: apt-get update failed for some-things: no such package. `secateur data broken` fetches it" in said
    assert said.endswith("1 of 3 could not be fetched: broken")
    assert said.index("last is in") < said.index("error:")  # at the end, where it is seen


def test_what_was_fetched_and_what_failed_is_there_for_machines(tools: Tools, tmp_path: Path) -> None:
    found = call("--all", "--json")
    assert found.exit_code == 1
    printed = json.loads(found.stdout)
    assert printed["fetched"] == {name: str(tmp_path / "cache" / name) for name in ("first", "last")}
    assert list(printed["failed"]) == ["broken"]
    assert "no such package" in printed["failed"]["broken"]
    again = call("first", "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout) == {"fetched": {"first": str(tmp_path / "cache" / "first")}, "failed": {}}


def test_a_name_of_no_source_is_refused_before_anything_is_fetched(tools: Tools, tmp_path: Path) -> None:
    found = call("first", "frist", "--json")
    assert found.exit_code == 1
    error = json.loads(found.stdout)["error"]
    assert error["kind"] == "UnknownNameError"
    assert error["message"] == "no source of data is named 'frist'; nearest: first; there are: broken, first, last"
    assert (tools.calls(), (tmp_path / "cache").exists()) == ([], False)


def test_ctrl_c_says_what_stays(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "fetch", stopped)
    found = call("--all")
    assert found.exit_code == 130
    assert "stopped; what was fetched completely stays; repeat the command" in words(found.stderr)
    assert "--resume" not in found.stderr


def test_what_a_tool_says_does_not_steer_the_terminal(tools: Tools) -> None:
    tools.make("apt-get", "printf '\\033[31m[bold]no\\n' >&2; exit 1")
    found = call("broken")
    assert "\x1b" not in found.stderr
    assert "␛[31m[bold]no" in found.stderr


def test_names_are_completed_without_being_asked_for_at_the_start() -> None:
    assert complete("source")("lidar") == ["lidar-classes", "lidar-pair"]
    assert complete("source")("") == list(SOURCES)
    check = "import sys; from secateur.cli.main import app; print({'torch', 'secateur.tasks'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_command_explains_itself() -> None:
    found = call("--help")
    assert found.exit_code == 0
    assert "--data-dir" in found.stdout
    assert "Raises" not in found.stdout
