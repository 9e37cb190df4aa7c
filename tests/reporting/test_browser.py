"""The page in a browser: it draws every plot, without an error and without asking for anything."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from secateur.reporting import page
from tests.reporting.results import demo, hostile, prune

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=8000",
    "--window-size=1000,800",
    "--dump-dom",
)
FIRST = """<script>
window.troubles = [];
window.onerror = function (message) { window.troubles.push(String(message)); };
document.addEventListener("securitypolicyviolation", function (event) {
  window.troubles.push("refused: " + event.violatedDirective);
});
</script>"""
LAST = """<script>
window.addEventListener("load", function () {
  setTimeout(function () {
    var drawn = {};
    document.querySelectorAll(".plot").forEach(function (plot) {
      drawn[plot.id] = plot.querySelectorAll(".main-svg").length;
    });
    var found = document.createElement("pre");
    found.id = "found";
    found.textContent = JSON.stringify({
      troubles: window.troubles,
      resources: performance.getEntriesByType("resource").length,
      drawn: drawn,
      overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth
    });
    document.body.appendChild(found);
  }, 500);
});
</script>"""


def look(text: str, folder: Path) -> dict[str, Any]:
    """What a probe in a copy of the page finds."""
    target = folder / "page.html"
    text = text.replace("</title>", "</title>" + FIRST, 1)
    head, end = text.rsplit("</body>", 1)
    target.write_text(head + LAST + "</body>" + end, encoding="utf-8")
    done = subprocess.run(
        [str(BROWSER), *OPTIONS, f"--user-data-dir={folder / 'profile'}", target.as_uri()],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    report: dict[str, Any] = json.loads(html.unescape(found[1]))
    return report


@pytest.mark.skipif(BROWSER is None, reason="none of chromium, chromium-browser, google-chrome is found")
@pytest.mark.parametrize("make", [demo, prune, hostile])
def test_page_draws_every_plot_and_asks_for_nothing(make: Any, tmp_path: Path) -> None:
    found = look(page(make()), tmp_path)
    assert found["troubles"] == []
    assert found["resources"] == 0
    assert len(found["drawn"]) >= 4
    assert all(found["drawn"].values()), found["drawn"]
    assert found["overflow"] <= 0
