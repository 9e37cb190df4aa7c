"""The tables for the terminal."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from secateur.errors import RunError
from secateur.reporting import print_summary
from tests.reporting.results import HOSTILE, channels, demo, hostile, prune


def printed(results: dict[str, Any], width: int = 120) -> str:
    console = Console(file=StringIO(), width=width, color_system=None)
    with console.capture() as captured:
        print_summary(results, console)
    return captured.get()


def row(text: str, start: str) -> list[str]:
    """The cells of the line that begins so."""
    line = next(line for line in text.splitlines() if line.strip().startswith(start))
    return [cell.strip() for cell in line.strip().split("   ") if cell.strip()]


def test_channels() -> None:
    text = printed(channels())
    assert row(text, "parameters  ") == ["parameters", "57,482", "29,001", "50.5 %"]
    macs = row(text, "multiply-accumulates, batch 1")
    assert macs == ["multiply-accumulates, batch 1", "1,806,336", "894,122", "49.5 %"]
    assert row(text, "1   ") == ["1", "4.20 ms", "3.10 ms", "1.4×", "100"]
    assert row(text, "64  ") == ["64", "–", "–", "–", "–", "does not run"]
    assert row(text, "conv1") == ["conv1", "1", "16 → 8", "160 → 80", "1.80M → 890k"]
    assert row(text, "attention") == ["attention", "–", "–", "0", "3,000 → 1,500"]
    assert row(text, "fc1") == ["fc1", "16 → 8", "10", "160 → 80", "3,336 → 2,622", "it is the model's output"]
    assert row(text, "everything else") == ["everything else", "57.2k → 28.8k"]
    assert row(text, "pruning, batch") == ["pruning, batch norms measured again", "90.5 %", "−6.9 points"]


def test_demo() -> None:
    text = printed(demo())
    assert text.startswith("90 % of the weights can go at a cost of 0.3 points of accuracy\n")
    assert row(text, "98 %") == ["98 %", "38.6 ± 12.0 %", "89.7 ± 2.9 %", "93.3 ± 0.8 %"]
    assert row(text, "kernel pattern") == ["kernel pattern, 2 of 9", "75.0 %", "85.5 ± 7.0 %", "95.7 ± 1.2 %"]
    assert row(text, "conv1") == ["conv1", "112 of 144"]
    assert row(text, "pruned, CSR")[:4] == ["pruned, CSR", "46,804", "46.8 kB", "4.9×"]


def test_prune() -> None:
    text = printed(prune())
    assert row(text, "dense") == ["dense", "97.4 %", "–"]
    assert row(text, "pruning only") == ["pruning only", "61.2 %", "−36.2 points"]
    assert row(text, "pruning + fine-tuning") == ["pruning + fine-tuning", "96.8 %", "−0.6 points"]


@pytest.mark.parametrize(
    ("key", "title"),
    [("curves", "by sparsity"), ("granularities", "by granularity"), ("layers", "layers"), ("sizes", "sizes of")],
)
def test_absent_tables_are_left_out(key: str, title: str) -> None:
    results = demo()
    assert title in printed(results)
    del results[key]
    assert title not in printed(results)


def test_names_are_no_markup() -> None:
    results = hostile()
    results["layers"] = {"columns": ["layer"], "rows": [["[bold]conv[/bold]"]]}
    text = printed(results, width=600)
    assert "[bold]conv[/bold]" in text
    assert HOSTILE in text


def test_bad_input_is_named() -> None:
    with pytest.raises(RunError, match="'curves'"):
        printed({"kind": "demo", "task": "digits", "curves": []})


def test_names_cannot_steer_the_terminal() -> None:
    results = demo()
    results["layers"]["rows"][0][0] = "a\x1b[31mred\x1b]0;title\x07[bold]x[/bold]\x9b1m"
    results["granularities"][0]["name"] = "\x1b[2Jgone"
    text = printed(results, width=200)
    assert not {sign for sign in text if ord(sign) < 0x20 or 0x7F <= ord(sign) < 0xA0} - {"\n"}
    assert "a␛[31mred␛]0;title␇[bold]x[/bold]\ufffd1m" in text
