"""Print docs/reproductions.md: what each reproduction had to show, and what it did, from the JSON it left."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "reproductions"

HEAD = """# Reproductions

Papers, measured again with the public functions of this library, most of them on Fashion-MNIST: one readable file each
in `reproductions/`. `make reproductions` lists what had to come out and what did; `python reproductions/NAME.py`
measures it again, goes on where it was stopped, and prints its rows beside the committed ones. Where something did not
come out, the table says so. These are small networks, most on grey images of 28 x 28: nothing here says anything about
ImageNet.
"""


def section(script: Path) -> str:
    """Heading, what the script says of itself, and the table of its claims.

    Args:
        script: The script.

    Returns:
        Markdown.
    """
    title, _, text = (ast.get_docstring(ast.parse(script.read_text())) or "").partition("\n\n")
    path = FOLDER / "results" / f"{script.stem}.json"
    table = claims(json.loads(path.read_text())) if path.exists() else "There is no result yet."
    return f"## `{script.stem}`\n\n{title}\n\n{text}\n\n{table}\n"


def claims(result: dict[str, Any]) -> str:
    """The table of a result.

    Args:
        result: What the script left.

    Returns:
        Markdown.
    """
    rows = ["| what | target | measured | verdict |", "|---|---|---|---|"]
    for claim in result["claims"]:
        verdict = "holds" if claim["holds"] else "**fails**"
        rows.append(f"| {claim['what']} | {claim['target']} | {claim['measured']} | {verdict} |")
    seeds = ", ".join(map(str, result["seeds"]))
    where = f"{result['processor']}, {result['device']}, torch {result['versions']['torch']}"
    return "\n".join(rows) + f"\n\nSeeds {seeds}; {result['core_seconds'] / 60:.0f} core minutes on {where}."


def main() -> None:
    """Print the page."""
    sections = [section(script) for script in sorted(FOLDER.glob("[a-z]*.py"))]
    print("\n".join([HEAD, *sections]), end="")


if __name__ == "__main__":
    main()
