"""The page in a browser: it draws every plot, without an error and without asking for anything."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secateur.reporting import write_page
from tests.reporting.browser import FOUND, Browser
from tests.reporting.results import channels, demo, hostile, prune

pytestmark = pytest.mark.skipif(FOUND is None, reason="none of chromium, chromium-browser, google-chrome is found")

# How many shapes with an extent each plot has in its layers of data.
DRAWN = """Object.fromEntries([...document.querySelectorAll(".plot")].map((plot) => [
  plot.id,
  [...plot.querySelectorAll(".scatterlayer path, .barlayer path")]
    .filter((path) => { const box = path.getBBox(); return box.width + box.height > 0; }).length
]))"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
WIDTHS = """[...document.querySelectorAll(".plot")].filter((plot) => plot.clientWidth).map(
  (plot) => plot.clientWidth - plot.querySelector(".main-svg").clientWidth)"""
TEXT_COLOR = "getComputedStyle(document.querySelector('.plot .ytick text')).fill"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


def opened(browser: Browser, folder: Path, results: dict[str, Any]) -> None:
    target = folder / "page.html"
    write_page(results, target)
    browser.medium()
    browser.screen(1280)
    browser.open(target)


def fits(browser: Browser) -> None:
    browser.wait(f"{OVERFLOW} === 0 && {WIDTHS}.every((rest) => rest === 0)")


def test_every_plot_is_drawn_and_nothing_is_asked_for(browser: Browser, tmp_path: Path) -> None:
    """Every plot there is, with the names that are hardest to draw."""
    opened(browser, tmp_path, {**hostile(), "history": prune()["history"], "report": channels()["report"]})
    drawn = browser.value(DRAWN)
    assert len(drawn) == 8
    assert all(drawn.values()), drawn
    assert browser.troubles() == []
    assert browser.value("performance.getEntriesByType('resource').length") == 0
    assert [address.rsplit("/", 1)[-1] for address in browser.requests()] == ["page.html"]
    for width in (320, 390, 768, 1280):
        browser.screen(width)
        browser.wait(f"innerWidth === {width}")
        fits(browser)


def test_a_point_shows_its_values_on_hover(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, demo())
    browser.value("document.querySelector('.plot').scrollIntoView()")
    box = browser.value("document.querySelector('.plot .points path').getBoundingClientRect().toJSON()")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for shift in (3, 0):
        browser("Input.dispatchMouseEvent", type="mouseMoved", x=x + shift, y=y)
    label = "(document.querySelector('.hoverlayer .hovertext') || {textContent: ''}).textContent"
    # the pointer comes past the line of the dense network: it is the point's own label that is waited for
    browser.wait(f"{label}.includes('50')")
    shown = browser.value(label)
    assert re.search(r"50\s%.*\d\s%", shown), shown


def test_plots_follow_screen_scheme_and_paper(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, demo())
    light = browser.value(TEXT_COLOR)
    browser.medium("dark")
    browser.wait(f"{TEXT_COLOR} !== {light!r}")
    dark = browser.value(TEXT_COLOR)
    browser.screen(390)
    browser.wait("innerWidth === 390")
    fits(browser)
    browser.screen(1280)
    fits(browser)

    browser.value("dispatchEvent(new Event('beforeprint'))")
    browser.medium("dark", "print")
    assert browser.value(TEXT_COLOR) == light
    assert set(browser.value(WIDTHS)) == {0}
    browser.medium("dark")
    browser.value("dispatchEvent(new Event('afterprint'))")
    assert browser.value(TEXT_COLOR) == dark
    assert set(browser.value(WIDTHS)) == {0}
    sheets = base64.b64decode(browser("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", sheets)) <= 6
    assert browser.troubles() == []

    # Were a name ever to become an element, it still could do nothing.
    browser.value(
        "(() => { const script = document.createElement('script'); script.textContent = 'window.harmed = 1';"
        " document.body.append(script); document.body.insertAdjacentHTML('beforeend',"
        ' \'<img src=x onerror="window.harmed = 2"><img src="https://example.org/x.png">\'); })()'
    )
    assert browser.value("new Promise((done) => setTimeout(() => done(window.harmed ?? 0), 100))") == 0
    assert browser.blocked() == ["csp", "csp"]


def test_one_of_many_layers_is_picked(browser: Browser, tmp_path: Path) -> None:
    results = prune()
    layer = results["weights"]["fc1"]
    opened(browser, tmp_path, {**results, "weights": {f"layer {index}": layer for index in range(30)}})
    visible = "[...document.querySelectorAll('.plot')].filter((plot) => plot.clientWidth).map((plot) => plot.id)"
    assert browser.value(visible) == ["history-0", "sizes-0", "weights-0"]
    browser.value(
        "(() => { const select = document.querySelector('select');"
        " select.selectedIndex = 7; select.dispatchEvent(new Event('change')); })()"
    )
    assert browser.value(visible) == ["history-0", "sizes-0", "weights-7"]
    assert browser.value(DRAWN)["weights-7"] > 0


def test_a_browser_without_the_means_shows_the_tables(browser: Browser, tmp_path: Path) -> None:
    script = browser("Page.addScriptToEvaluateOnNewDocument", source="delete window.DecompressionStream")
    try:
        opened(browser, tmp_path, demo())
    finally:
        browser("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])
    assert browser.value("document.documentElement.dataset.plots") == "failed"
    assert browser.value("getComputedStyle(document.querySelector('.unplotted')).display") == "block"
    assert browser.value("document.querySelectorAll('details table').length") == 6
