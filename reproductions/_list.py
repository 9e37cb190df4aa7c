"""List every reproduction: what had to come out, what did, whether it holds, seeds and time. `--json` for machines."""

from __future__ import annotations

import ast
import json
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console

from secateur.text import table

HERE = Path(__file__).resolve().parent


def rows() -> list[dict[str, Any]]:
    """A row for each claim; one for a script without a result.

    Returns:
        Name of the script, paper, claim, target, measured, verdict, seeds, core minutes.
    """
    found = []
    for script in sorted(HERE.glob("[a-z]*.py")):
        path = HERE / "results" / f"{script.stem}.json"
        if not path.exists():
            summary = (ast.get_docstring(ast.parse(script.read_text())) or "").split("\n")[0]
            found.append({"name": script.stem, "claim": summary, "verdict": "no result yet"})
            continue
        result = json.loads(path.read_text())
        shared = {"name": script.stem, "paper": result["paper"], "seeds": len(result["seeds"])}
        shared["core_minutes"] = round(result["core_seconds"] / 60, 1)
        found += [{**shared, **_row(claim)} for claim in result["claims"]]
    return found


def _row(claim: dict[str, Any]) -> dict[str, Any]:
    verdict = "holds" if claim["holds"] else "fails"
    return {"claim": claim["what"], "target": claim["target"], "measured": claim["measured"], "verdict": verdict}


def main() -> None:
    """Print the rows, those of a reproduction under its heading."""
    found = rows()
    if "--json" in sys.argv[1:]:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    console = Console(highlight=False)
    for name, group in groupby(found, key=lambda row: row["name"]):
        claims = list(group)
        first = claims[0]
        known = (
            f"{first['seeds']} seeds, {first['core_minutes']:g} core minutes" if "seeds" in first else "no result yet"
        )
        console.print(f"\n[bold]{name}[/]  {first.get('paper', first['claim'])}  ({known})")
        if "seeds" in first:
            cells = [[row[column] for column in ("verdict", "claim", "measured", "target")] for row in claims]
            console.print(table(["verdict", "what", "measured", "target"], cells))


if __name__ == "__main__":
    main()
