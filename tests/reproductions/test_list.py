"""The list, the README and the page say what the results say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "reproductions" / "results").glob("*.json"))
SCRIPTS = sorted(path.stem for path in (ROOT / "reproductions").glob("[a-z]*.py"))


@pytest.fixture(scope="module")
def listed() -> list[dict[str, Any]]:
    command = [sys.executable, "reproductions/_list.py", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def verdict(name: str) -> str:
    path = ROOT / "reproductions" / "results" / f"{name}.json"
    if not path.exists():
        return "no result yet"
    claims = json.loads(path.read_text())["claims"]
    held = sum(claim["holds"] for claim in claims)
    return "holds" if held == len(claims) else f"{held} of {len(claims)} hold"


def test_every_script_is_in_the_list(listed: list[dict[str, Any]]) -> None:
    assert sorted({row["name"] for row in listed}) == SCRIPTS


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_list_says_what_the_result_says(path: Path, listed: list[dict[str, Any]]) -> None:
    result = json.loads(path.read_text())
    rows = [row for row in listed if row["name"] == path.stem]
    assert path.stem in SCRIPTS
    assert [(row["claim"], row["target"], row["measured"]) for row in rows] == [
        (claim["what"], claim["target"], claim["measured"]) for claim in result["claims"]
    ]
    assert [row["verdict"] for row in rows] == ["holds" if claim["holds"] else "fails" for claim in result["claims"]]
    assert {row["seeds"] for row in rows} == {len(result["seeds"])}
    assert all(row["core_minutes"] == round(result["core_seconds"] / 60, 1) for row in rows)


def test_the_readme_says_which_hold() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert rows == {name: verdict(name) for name in SCRIPTS}
