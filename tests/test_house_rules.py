"""The rules of size, naming and safety that every file of the package keeps."""

import ast
import importlib.util
import statistics
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import secateur

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
MODULES = sorted(SRC.rglob("*.py"))

LINES_PER_FILE = 400
LINES_PER_FUNCTION = 80
MEDIAN_FUNCTION = 10
TOP_LEVEL_NAMES = 40

Function = ast.FunctionDef | ast.AsyncFunctionDef

each_module = pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SRC)))


def functions(source: str) -> Iterator[tuple[str, int]]:
    """Name and lines of code of each function: docstring, comments and blank lines left out."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function):
            body = set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
            if ast.get_docstring(node) is not None:
                docstring = node.body[0]
                body -= set(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
            text = [lines[number - 1].strip() for number in body]
            yield node.name, sum(bool(line) and not line.startswith("#") for line in text)


def unsafe(source: str) -> list[str]:
    """What in the source could run code that came in with a file."""
    return [
        f"line {node.lineno}: {what}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.expr | ast.stmt) and (what := _danger(node))
    ]


def _danger(node: ast.expr | ast.stmt) -> str | None:
    match node:
        case ast.Import(names=names):
            return _banned_module(name.name for name in names)
        case ast.ImportFrom(module=str(module), names=names):
            dotted = [module, *(f"{module}.{name.name}" for name in names)]
            return _banned_module(dotted) or next((d for d in dotted if d in BANNED_CALLS), None)
        case ast.Call(func=ast.Name(id="eval" | "exec" as name)):
            return f"{name}()"
        case ast.Attribute() if ast.unparse(node) in BANNED_CALLS:
            return ast.unparse(node)
        case ast.Call(keywords=keywords) if any(
            k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in keywords
        ):
            return "allow_pickle"
    return None


def _banned_module(names: Iterator[str] | list[str]) -> str | None:
    return next((name for name in names if name.split(".")[0] in BANNED_MODULES), None)


BANNED_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
BANNED_CALLS = {
    "torch.load",
    "torch.save",
    "yaml.load",
    "yaml.load_all",
    "yaml.full_load",
    "yaml.unsafe_load",
    "pandas.read_pickle",
}


@each_module
def test_file_is_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LINES_PER_FILE, f"{path} has {lines} lines; split it by what it does"


@each_module
def test_functions_are_short(path: Path) -> None:
    long = {name: size for name, size in functions(path.read_text(encoding="utf-8")) if size > LINES_PER_FUNCTION}
    assert not long, f"more than {LINES_PER_FUNCTION} lines of code in {path}: {long}"


@each_module
def test_module_has_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@each_module
def test_no_code_from_files(path: Path) -> None:
    assert not unsafe(path.read_text(encoding="utf-8"))


def test_median_function_is_short() -> None:
    sizes = [size for path in MODULES for _, size in functions(path.read_text(encoding="utf-8"))]
    assert statistics.median(sizes) < MEDIAN_FUNCTION


def test_few_names_at_top_level() -> None:
    names = secateur.__all__
    assert len(names) == len(set(names)) <= TOP_LEVEL_NAMES
    assert [name for name in names if not hasattr(secateur, name)] == []


def test_top_level_names_do_not_hide_modules() -> None:
    """`secateur.pruner` stays the module: a function of that name would shadow it."""
    hidden = [
        name
        for name in secateur.__all__
        if importlib.util.find_spec(f"secateur.{name}") and not isinstance(getattr(secateur, name), ModuleType)
    ]
    assert hidden == []


def test_package_is_typed() -> None:
    assert (SRC / "secateur" / "py.typed").is_file()


def test_changelog_has_an_unreleased_section() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "import joblib.externals",
        "eval('1')",
        "exec('x = 1')",
        "torch.load(path)",
        "torch.load(path, weights_only=True)",
        "from torch import load",
        "reader = torch.load",
        "yaml.load(text)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_unsafe_code_is_found(source: str) -> None:
    assert unsafe(source)


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "json.load(file)",
        "safetensors.torch.load_file(path)",
        "np.load(path, allow_pickle=False)",
        "from torch import nn",
        "from . import errors",
    ],
)
def test_safe_code_is_left_alone(source: str) -> None:
    assert unsafe(source) == []


def test_lines_of_code_are_counted_without_docstring_comment_and_blank() -> None:
    source = 'def f(\n    x,\n):\n    """One.\n\n    Two.\n    """\n    # three\n\n    return x\n'
    assert list(functions(source)) == [("f", 4)]


def test_the_version_is_that_of_the_package() -> None:
    import tomllib

    import secateur

    described = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert described["project"]["version"] == secateur.__version__
