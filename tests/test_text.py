"""Plain text for people."""

from __future__ import annotations

import pytest

from secateur.text import as_text, byte_text, percent, shape_text, table


def test_columns_align_and_lose_their_mark() -> None:
    lines = as_text(table(("name", "count>"), [["a", "1"], ["bb", "200"]])).splitlines()
    assert [line.split() for line in lines if "─" not in line] == [["name", "count"], ["a", "1"], ["bb", "200"]]
    assert lines[-1].endswith("200")
    assert lines[-2].endswith("    1")


def test_brackets_are_text_and_not_markup() -> None:
    cells = ["layers[0]", "[bold]x[/bold]", "[/]", "[red", ":smile:"]
    text = as_text(table(("a[b]", "c"), [[cell, cell] for cell in cells], title="[title]"))
    assert all(text.count(cell) == 2 for cell in cells)
    assert "a[b]" in text
    assert text.startswith("[title]")


@pytest.mark.parametrize(("fraction", "text"), [(0, "0.0 %"), (1, "100.0 %"), (0.9994, "99.9 %"), (1 / 3, "33.3 %")])
def test_percent(fraction: float, text: str) -> None:
    assert percent(fraction) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (2.5e9, "2.5 GB"), (4e12, "4000.0 GB")],
)
def test_bytes(count: float, text: str) -> None:
    assert byte_text(count) == text


def test_shapes() -> None:
    assert shape_text((16, 3, 3, 3)) == "16x3x3x3"
    assert shape_text(()) == ""
