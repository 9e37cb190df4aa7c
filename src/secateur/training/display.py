"""The progress bar of a training run."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeRemainingColumn(),
)


@contextmanager
def progress_bar(steps: int | None, done: int, *, show: bool) -> Generator[Callable[[str], None], None, None]:
    """A bar that counts steps and vanishes at the end; nothing where nobody would see it.

    Args:
        steps: How many there are in all; None: not known.
        done: How many were done before, by the run that is gone on with.
        show: False: never. True: on a terminal.

    Yields:
        A function to call after each step, with the text to show.

    Example:
        >>> with progress_bar(10, 0, show=False) as advance:
        ...     advance("loss 0.3")
    """
    bar = Progress(*_COLUMNS, transient=True)
    if not (show and bar.console.is_terminal):
        yield lambda _text: None
        return
    with bar:
        task = bar.add_task("", total=steps, completed=done)
        yield lambda text: bar.update(task, advance=1, description=text)
