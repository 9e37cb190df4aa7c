"""The page: what it says, what it leaves out, and that nothing in it reaches outside or breaks out."""

import base64
import copy
import gzip
import hashlib
import json
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from secateur.errors import RunError
from secateur.reporting import page, write_page
from secateur.reporting.checks import check
from secateur.reporting.headlines import headline, key_figures, lede
from secateur.reporting.sections import sections
from tests.reporting.results import HOSTILE, channels, demo, hostile, prune


class Reader(HTMLParser):
    """Collects what a browser would see: elements, their attributes, headings and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.elements: list[dict[str, str]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.scripts: dict[str, str] = {}
        self._script: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.elements.append({name: value or "" for name, value in attrs})
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

    def values(self, attribute: str) -> list[str]:
        return [value for _, name, value in self.attributes if name == attribute]


def own(text: str) -> str:
    """The page without the library it carries."""
    return re.sub(r'(id="plotly">).*?(</script>)', r"\1\2", text, flags=re.DOTALL)


def heading(text: str) -> str:
    found = re.search(r"<h1>(.*?)</h1>", text)
    assert found
    return found[1].replace("\N{NO-BREAK SPACE}", " ")


def test_headline_of_a_demo() -> None:
    assert heading(page(demo())) == "90 % of the weights can go at a cost of 0.3 points of accuracy"


def test_headline_of_a_pruning() -> None:
    says = "With 90.0 % of the weights removed, accuracy is 96.8 %, −0.6 points against the dense network"
    assert heading(page(prune())) == says


def test_headline_of_channels_counts_what_is_smaller_and_promises_no_speed() -> None:
    text = page(channels())
    says = "With 49.5 % of the parameters and 50.5 % of the multiply-accumulates gone, accuracy is 96.8 %"
    assert heading(text) == f"{says}, −0.6 points against the dense network"
    figures = {figure.name: (figure.value, figure.note) for figure in key_figures(channels())}
    assert figures["parameters left"] == ("29,001", "50.5 % of 57,482")
    assert figures["multiply-accumulates left"] == ("894k", "49.5 % of 1.81M")
    assert figures["time of a batch of 1"] == ("3.10 ms", "4.20 ms of the whole model")
    assert figures["batch norms measured again"][0] == "90.5 %"
    assert "weights left" not in figures
    read = Reader(text)
    assert "promise no speed; times are measured" in read.text
    assert "on a processor, 2 cores, 1 thread" in read.text
    assert "1.80M → 890k" in read.text
    assert [part.key for part in sections(channels())] == ["smaller", "history", "sizes", "weights"]


def test_a_layer_of_too_many_is_in_the_table_only() -> None:
    results = channels()
    results["report"]["layers"] *= 40
    read = Reader(page(results))
    assert "smaller-0" not in read.values("id")
    assert read.text.count("it is the model's output") >= 40
    del results["report"]["layers"], results["report"]["latency"]
    assert "Parameters and multiply-accumulates" in Reader(page(results)).text


def test_every_section_is_there_in_order() -> None:
    text = own(page({**demo(), "history": prune()["history"]}))
    order = ["curves", "granularities", "history", "sizes", "weights", "layers", "facts"]
    assert re.findall(r'<h2 id="(\w+)">', text) == order


@pytest.mark.parametrize("key", ["curves", "granularities", "sizes", "weights", "layers"])
@pytest.mark.parametrize("empty", [False, True])
def test_absent_sections_are_left_out(key: str, empty: bool) -> None:
    results = demo()
    if empty:
        results[key] = None
    else:
        del results[key]
    found = set(Reader(page(results)).values("id"))
    assert not [name for name in found if name == key or name.startswith(f"{key}-")]
    assert {"curves", "granularities", "sizes", "weights", "layers"} - {key} <= found


def test_the_least_there_can_be() -> None:
    text = page({"kind": "prune", "task": "digits"})
    assert Reader(text).text.count("Results for digits") == 1
    assert "otly" not in text
    assert "script-src 'none'" in text


def test_each_plot_has_a_label_and_its_numbers() -> None:
    read = Reader(page(demo()))
    plots = {
        attributes["id"]: attributes["aria-label"] for attributes in read.elements if attributes.get("class") == "plot"
    }
    assert list(plots) == [
        *("curves-0", "curves-1", "granularities-0", "sizes-0", "weights-0", "weights-1"),
    ]
    assert set(plots) == set(json.loads(read.scripts["figures"]))
    assert "98 %: pruning only 38.6 ± 12.0 %" in plots["curves-0"]
    assert "conv1: weights before 144, weights left 112" in plots["weights-0"]
    assert read.tags.count("details") == 4 + 2  # a section each, a layer each
    for number in ("97.1 ± 0.4 %", "85.5 ± 7.0 %", "28.3 kB", "8.1×", "16,000"):
        assert number in read.text


def test_tables_can_be_heard() -> None:
    read = Reader(page(demo()))
    assert read.tags.count("caption") == read.tags.count("table") == read.tags.count("details") + 1
    rows = read.tags.count("tr") - read.tags.count("table")
    assert read.values("scope").count("row") == rows > 10
    assert read.values("scope").count("col") == sum(tag == "th" for tag in read.tags) - rows


def test_a_plot_close_to_the_dense_network_only_where_it_shows_more() -> None:
    results = demo()
    del results["curves"]["pruned_only"], results["curves"]["fine_tuned"]
    assert "curves-1" not in Reader(page(results)).values("id")
    del results["dense"]
    assert "curves-0" in Reader(page(results)).values("id")


def test_many_layers_are_shown_one_at_a_time() -> None:
    results = demo()
    assert "select" not in Reader(page(results)).tags
    results["weights"] = {f"layer {index}": results["weights"]["fc1"] for index in range(40)}
    read = Reader(page(results))
    assert read.tags.count("option") == read.text.count("Weights before and after, layer") == 40


def test_settings_are_said_once() -> None:
    text = Reader(page({**demo(), "settings": {"command": "demo", "seeds": 3, "epochs": 7}})).text
    assert "command secateur demo task digits metric accuracy seeds 0, 1, 2 epochs 7" in text


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in the results numbers stand."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))
    elif isinstance(value, float):
        yield path


def said(results: dict[str, Any]) -> str:
    """All that the page says of numbers."""
    words = [headline(results), lede(results), *(" ".join(figure) for figure in key_figures(results))]
    for part in sections(results):
        tables = [part.table, *(plot.table for plot in part.plots)]
        words += [plot.words for plot in part.plots]
        words += [cell for table in tables if table for row in table.rows for cell in row]
    return " ".join(words)


@pytest.mark.parametrize("strange", [math.nan, math.inf, None, 0.0, 1e300])
@pytest.mark.parametrize("make", [demo, prune, channels])
def test_any_number_may_be_strange(make: Any, strange: float | None) -> None:
    for *path, last in places(make()):
        results = make()
        holder = results
        for key in path:
            holder = holder[key]
        holder[last] = strange
        check(results)
        assert not {"nan", "inf", "none"} & set(re.split(r"\W+", said(results).lower())), path


def test_all_numbers_may_be_unknown() -> None:
    results = {**demo(), **prune(), "kind": "demo", "dense": demo()["dense"]}
    for *path, last in places(results):
        holder = results
        for key in path:
            holder = holder[key]
        holder[last] = math.nan
    read = Reader(page(results))
    assert {"sizes", "layers", "facts"} <= set(read.values("id"))
    assert "NaN" not in read.scripts["results"] + read.scripts["figures"]


def test_numbers_that_are_not_finite_are_dashes_and_null() -> None:
    results = demo()
    results["curves"]["iterative"]["accuracy"][0] = float("nan")
    results["sizes"][1]["bytes"] = None
    read = Reader(page(results))
    assert "nan" not in read.text.lower().split()
    assert json.loads(read.scripts["results"])["curves"]["iterative"]["accuracy"][0] is None
    assert "NaN" not in read.scripts["figures"]


@pytest.mark.parametrize("make", [demo, prune, channels, hostile])
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


@pytest.mark.parametrize("make", [demo, prune, channels])
def test_nothing_points_outside(make: Any) -> None:
    text = page(make())
    read = Reader(text)
    assert not [
        a for a in read.attributes if a[1] in {"src", "href", "srcset", "action", "data", "poster", "style-src"}
    ]
    assert not {"link", "iframe", "img", "object", "embed", "base"} & set(read.tags)
    assert not re.search(r"url\(|@import|https?:|//\w+\.", own(text))


def digest(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


def test_the_policy_allows_no_connection_and_no_other_code() -> None:
    read = Reader(page(demo()))
    policy = next(value for value in read.values("content") if "default-src" in value)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "connect-src" not in rules
    assert rules["img-src"] == "data: blob:"
    library = gzip.decompress(base64.b64decode(read.scripts["plotly"])).decode()
    assert library.count("plotly.js v") > 0
    assert rules["script-src"].split() == [digest(read.scripts["last"]), digest(library)]


def test_the_page_is_small_and_the_same_every_time() -> None:
    text = page(demo())
    assert text == page(demo())
    assert len(text) < 2.5e6
    assert len(own(text)) < 80e3


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
        ({"report": {"macs": [1]}}, "'report.macs'"),
        ({"report": {"layers": [{"outputs": [1, 2, 3]}]}}, r"'report.layers\[0\].outputs'"),
        ({"report": {"latency": [{"before": -1.0}]}}, r"'report.latency\[0\].before'"),
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
