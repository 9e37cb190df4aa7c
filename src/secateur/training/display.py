"""The progress bar of a training run, and of passes over data."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

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


class Batches(Protocol):
    """Batches, and how many there are."""

    def __len__(self) -> int:
        """How many."""

    def __iter__(self) -> Iterator[Any]:
        """Each of them."""


class Watched:
    """Batches that show a bar while one goes through them.

    Methods may begin a second pass before the first has ended: only one bar is shown at a time.

    Args:
        batches: Such as a DataLoader.
        text: What is done with them.
        show: False: never. True: on a terminal.

    Example:
        >>> watched = Watched([1, 2], "counting", show=False)
        >>> list(watched), len(watched)
        ([1, 2], 2)
    """

    def __init__(self, batches: Batches, text: str = "looking at data", *, show: bool) -> None:
        """Show nothing yet."""
        self._batches, self._text, self._show, self._on = batches, text, show, False

    def __len__(self) -> int:
        """How many batches a pass has."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        """A pass."""
        first, self._on = not self._on, True
        try:
            with progress_bar(len(self._batches), 0, show=self._show and first) as advance:
                for batch in self._batches:
                    yield batch
                    advance(self._text)
        finally:
            self._on = not first
