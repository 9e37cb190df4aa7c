"""The page: what it says, what it leaves out, and that nothing in it reaches outside or breaks out."""

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from secateur.errors import RunError
from secateur.reporting import page, write_page
from tests.reporting.results import HOSTILE, demo, hostile, prune


class Reader(HTMLParser):
    """Collects what a browser would see: elements, their attributes, headings and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.scripts: dict[str, str] = {}
        self._script: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._script = (dict(attrs).get("id") or "last") if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def ids(results: dict[str, Any]) -> set[str]:
    return {value for _, name, value in Reader(page(results)).attributes if name == "id"}


def own(text: str) -> str:
    """The page without the library it carries."""
    return re.sub(r'(<script id="plotly">).*?(</script>)', r"\1\2", text, flags=re.DOTALL)


def test_headline_of_a_demo() -> None:
    assert "<h1>90 % of the weights can go at a cost of 0.3 points of accuracy</h1>" in page(demo())


def test_headline_of_a_pruning() -> None:
    text = page(prune())
    assert (
        "<h1>With 90.0 % of the weights removed, accuracy is 96.8 %, −0.6 points against the dense network</h1>" in text
    )


def test_every_section_is_there_in_order() -> None:
    text = own(page({**demo(), "history": prune()["history"]}))
    order = ["curves", "granularities", "sizes", "weights", "history", "layers", "facts"]
    assert re.findall(r'<h2 id="(\w+)">', text) == order


@pytest.mark.parametrize("key", ["curves", "granularities", "sizes", "weights", "layers"])
@pytest.mark.parametrize("empty", [False, True])
def test_absent_sections_are_left_out(key: str, empty: bool) -> None:
    results = demo()
    if empty:
        results[key] = None
    else:
        del results[key]
    found = ids(results)
    assert key not in found
    assert not [name for name in found if name.startswith(f"plot-{key}-")]
    assert {"curves", "granularities", "sizes", "weights", "layers"} - {key} <= found


def test_the_least_there_can_be() -> None:
    text = page({"kind": "prune", "task": "digits"})
    assert Reader(text).text.count("Results for digits") == 1
    assert "Plotly" not in text


def test_each_plot_has_a_label_a_sentence_and_its_numbers() -> None:
    read = Reader(page(demo()))
    plots = [value for _, name, value in read.attributes if name == "id" and value.startswith("plot-")]
    assert sorted(plots) == [
        "plot-curves-0",
        "plot-granularities-0",
        "plot-sizes-0",
        "plot-weights-0",
        "plot-weights-1",
    ]
    labels = [value for tag, name, value in read.attributes if (tag, name) == ("div", "aria-label") and ": " in value]
    assert len(labels) == len(plots)
    assert read.tags.count("details") == 4
    for number in ("97.1 ± 0.4 %", "85.5 ± 7.0 %", "28.3 kB", "8.1×"):
        assert number in read.text


def test_numbers_that_are_not_finite_are_dashes_and_null() -> None:
    results = demo()
    results["curves"]["iterative"]["accuracy"][0] = float("nan")
    results["sizes"][1]["bytes"] = None
    read = Reader(page(results))
    assert "nan" not in read.text.lower().split()
    assert json.loads(read.scripts["results"])["curves"]["iterative"]["accuracy"][0] is None
    assert "NaN" not in read.scripts["figures"]


@pytest.mark.parametrize("make", [demo, prune, hostile])
def test_json_in_the_page_is_the_input(make: Any) -> None:
    results = make()
    before = copy.deepcopy(results)
    assert json.loads(Reader(page(results)).scripts["results"]) == before == results


def test_hostile_names_stay_text() -> None:
    tame, wild = Reader(page(demo())), Reader(page(hostile()))
    assert set(wild.tags) == set(tame.tags)
    assert wild.tags.count("script") == tame.tags.count("script") == 4
    assert {name for _, name, _ in wild.attributes} == {name for _, name, _ in tame.attributes}
    assert wild.text.count(HOSTILE) >= 8
    figures = json.loads(wild.scripts["figures"])
    assert "<img" not in json.dumps(figures)  # Plotly has a markup of its own


def test_json_cannot_end_its_script() -> None:
    text = page(hostile())
    for key in ("results", "figures"):
        inside = text.split(f'id="{key}">', 1)[1].split("</script>", 1)[0]
        assert json.loads(inside)
        assert not set("<>&") & set(inside)


@pytest.mark.parametrize("make", [demo, prune])
def test_nothing_points_outside(make: Any) -> None:
    text = page(make())
    read = Reader(text)
    assert not [
        a for a in read.attributes if a[1] in {"src", "href", "srcset", "action", "data", "poster", "style-src"}
    ]
    assert not {"link", "iframe", "img", "object", "embed", "base"} & set(read.tags)
    assert not re.search(r"url\(|@import|https?://", own(text))


def test_the_policy_allows_no_connection() -> None:
    policy = next(v for _, n, v in Reader(page(demo())).attributes if n == "content" and "default-src" in v)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "connect-src" not in rules
    assert rules["script-src"] == rules["style-src"] == "'unsafe-inline'"
    assert rules["img-src"] == "data: blob:"


def test_the_library_is_there_once() -> None:
    assert page(demo()).count('<script id="plotly">') == 1
    assert 4e6 < len(page(demo())) < 7e6


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kind": "other"}, "'kind'"),
        ({"task": None}, "'task'"),
        ({"seconds": "12"}, "'seconds'"),
        ({"dense": {}}, "'dense.accuracy'"),
        ({"curves": {"iterative": {"sparsity": [0.5], "accuracy": [0.9, 0.8]}}}, "'curves.iterative.accuracy'"),
        ({"granularities": [{"weights_removed": 0.5}]}, r"'granularities\[0\].name'"),
        ({"sizes": [{"name": "dense", "bytes": -1}]}, r"'sizes\[0\].bytes'"),
        ({"weights": {"fc": {"edges": [0, 1], "before": [1, 2], "after": [1]}}}, "'weights.fc.before'"),
        ({"layers": {"columns": ["a"], "rows": [["1", "2"]]}}, r"'layers.rows\[0\]'"),
        ({"settings": {"path": Path()}}, "'settings.path'"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(RunError, match=named):
        page({**demo(), **change})


def test_bad_input_leaves_the_earlier_page(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    write_page(demo(), target)
    before = target.read_bytes()
    with pytest.raises(RunError, match="'kind'"):
        write_page({"task": "digits"}, target)
    assert target.read_bytes() == before == page(demo()).encode()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"report\.html"):
        write_page(demo(), tmp_path / "none" / "report.html")
