"""The pages of the documentation say what the code does now."""

import csv
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import secateur as sc
from secateur import allocation, criteria, granularity, schedules

ROOT = Path(__file__).resolve().parents[2]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "_generate" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_pictures_are_drawn_from_the_integers_of_today() -> None:
    drawn = script("_drawing").pictures()
    kept = {path.name: path.read_text() for path in (ROOT / "docs" / "pictures").iterdir()}
    assert kept == drawn, "run `make pages`"
    page = (ROOT / "docs" / "granularity.md").read_text()
    assert {name for name in drawn if f"pictures/{name}" not in page} == set()


@pytest.mark.parametrize("module", [allocation, criteria, granularity, schedules, sc])
def test_every_name_is_on_the_page_of_names(module: ModuleType) -> None:
    page = (ROOT / "docs" / "names.md").read_text()
    names = getattr(
        module, "__all__", [name for name in vars(module) if name in ("one_shot", "linear", "cubic", "join")]
    )
    functions = [name for name in names if callable(getattr(module, name)) and name[0].islower()]
    helpers = {"weight_layers"}
    missing = [name for name in functions if name not in helpers and not re.search(rf"[.`]{name}`", page)]
    assert missing == []


def rows() -> dict[str, dict[str, str]]:
    files = sorted((ROOT / "benchmarks" / "results").glob("*.csv"))
    found = [row for file in files for row in csv.DictReader(file.read_text().splitlines())]
    return {row["row"]: row for row in found if "row" in row}  # a table of models has other columns


def test_what_the_readme_claims_of_models_is_in_the_table() -> None:
    table = list(csv.DictReader((ROOT / "benchmarks" / "results" / "coverage.csv").read_text().splitlines()))
    passed = {
        name: [row for row in table if row["library"] == name] for name in ("torchvision", "timm", "transformers")
    }
    told = [f"{sum(row['verdict'] == 'pass' for row in rows)} of {len(rows)}" for rows in passed.values()]
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"{told[0]} models of torchvision, {told[1]} of timm and {told[2]} of transformers" in readme
    assert max(float(row["difference"]) for row in table if row["verdict"] == "pass") < 1e-6
    others = [row["crossed_verdict"] for row in table if row["verdict"] != "pass"]
    assert "of the other two they leave with `channel(example, cross_norms=True)`" in readme
    assert others == ["pass", "pass"]


def test_what_the_readme_claims_of_speed_is_a_row_that_holds() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    found = rows()
    assert "less than half the time of `torch.nn.utils.prune`" in readme
    assert float(found["time, secateur / torch"]["median"]) < 0.5
    assert "less than 3 % of a training step" in readme
    assert float(found["the hook's two calls alone / step without"]["median"]) < 0.03
    assert "210 layers of SmolLM2-135M in less than two minutes and less than 4 GiB on two cores" in readme
    assert float(found["SparseGPT: SmolLM2-135M, 210 layers"]["median"]) < 120
    assert float(found["SparseGPT: largest memory of the process"]["median"]) < 4


# docs/design/decisions.md says why
MISSED = {
    "APoZ: pass with / without, ResNet-20",
    "APoZ: pass with / without, small VGG",
    "Wanda: pass with / without, ResNet-20",
    "Wanda: pass with / without, SmolLM2-135M",
}


def test_every_row_names_its_device_versions_and_commit_and_meets_its_target() -> None:
    for row in rows().values():
        assert all(row[key] for key in ("device", "torch", "python", "commit", "date", "median"))
        if row["target"]:
            met = float(row["median"]) <= float(row["target"].removeprefix("at most "))
            assert row["holds"] == ("yes" if met else "no")
            assert met or row["row"] in MISSED


# what no paper is the first to have, and what handles numbers rather than tensors
NO_PAPER = {
    "allocation.fixed",
    "criteria.elementwise",
    "criteria.weighted",
    "reconstruction.errors",
    "schedules.join",
    "schedules.linear",
    "schedules.one_shot",
    "statistics.FullRecursion",
    "training.undecayed",
}
NUMBERS = ("schedules.", "training.rates.", "training.undecayed", "training.distill")
METHODS = ("granularity.", "criteria.", "allocation.", "reconstruction.", "statistics.", "schedules.", "training.")
DATA = {"tasks.fashion", "tasks.smollm", "tasks.spam"}  # an example would need a file that may not be there
FORMULA = re.compile(r"^\.\. math::|`[^`]*[=~<][^`]*`|`(max|min|sum) over [^`]*`", re.MULTILINE)
SHAPE = re.compile(r"^Shapes:|`\([^`]*,[^`]*\)`", re.MULTILINE)


def missing(path: str, text: str) -> list[str]:
    """What the docstring of a term should have and has not."""
    method = path.startswith(METHODS)
    wanted = {
        "formula": not method or path in ("schedules.join", "training.undecayed") or FORMULA.search(text),
        "shapes": not method or path.startswith(NUMBERS) or SHAPE.search(text),
        "reference": not method or path in NO_PAPER or "Reference:\n" in text,
        "example": path in DATA or ">>> " in text,
    }
    return [f"{path}: {part}" for part, there in wanted.items() if not there]


def test_every_term_leads_to_a_docstring_with_formula_shapes_reference_and_example() -> None:
    names = script("names")
    paths = dict.fromkeys(path for _, path in names.TERMS)
    assert [lack for path in paths for lack in missing(path, inspect.getdoc(names.found(path)) or "")] == []


def test_every_term_is_tested_somewhere() -> None:
    names = script("names")
    assert [path for path in dict.fromkeys(path for _, path in names.TERMS) if not names.tests(path)] == []
