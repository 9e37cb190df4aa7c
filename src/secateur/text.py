"""Plain text for people: tables, numbers and sizes. Nothing here knows about pruning."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def harmless(text: str, style: str = "") -> Text:
    r"""Text for a terminal in which neither markup nor control characters do anything.

    Args:
        text: Any text, also from a file that somebody else wrote.
        style: A style of rich.

    Returns:
        The text, each control character replaced by a sign for it.

    Example:
        >>> harmless("conv[1]\x1b[31m").plain
        'conv[1]␛[31m'
    """
    shown = (chr(0x2400 + ord(sign)) if ord(sign) < 0x20 and sign != "\n" else sign for sign in text)
    return Text("".join("\ufffd" if 0x7F <= ord(sign) < 0xA0 else sign for sign in shown), style=style)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> Table:
    """A rich table; columns whose name ends in ``>`` are right-aligned.

    Args:
        columns: Headings.
        rows: Cells, already text.
        title: Shown above.

    Returns:
        The table, for a console or for `as_text`.
    """
    drawn = Table(
        title=harmless(title, "table.title") if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in columns:
        numeric = column.endswith(">")
        name = harmless(column.rstrip(">"))  # words give way to numbers, and are folded, not cut off
        drawn.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
    for row in rows:
        drawn.add_row(*map(harmless, row))  # not str, in which [brackets] are markup
    return drawn


def as_text(drawn: Table, width: int = 120) -> str:
    """A table as plain text, without colour.

    Args:
        drawn: The table.
        width: Characters a line may take.

    Returns:
        Lines joined by newlines, trailing blanks removed.
    """
    console = Console(file=StringIO(), width=width, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n")


def percent(fraction: float) -> str:
    """A fraction as a percentage with one decimal.

    Args:
        fraction: Between 0 and 1.

    Returns:
        The text.

    Example:
        >>> percent(0.905)
        '90.5 %'
    """
    return f"{100 * fraction:.1f} %"


def shape_text(shape: Sequence[int]) -> str:
    """Sizes joined by a cross.

    Args:
        shape: The sizes.

    Returns:
        The text.

    Example:
        >>> shape_text((16, 3, 3, 3))
        '16x3x3x3'
    """
    return "x".join(str(size) for size in shape)


def byte_text(count: float) -> str:
    """A number of bytes in the unit that reads best (powers of 1000).

    Args:
        count: Bytes.

    Returns:
        The text.

    Example:
        >>> byte_text(1536), byte_text(230_000_000)
        ('1.5 kB', '230.0 MB')
    """
    if count < 1000:
        return f"{count:.0f} B"
    power = 1 if count < 1e6 else 2 if count < 1e9 else 3
    return f"{count / 1000**power:.1f} {('kB', 'MB', 'GB')[power - 1]}"
