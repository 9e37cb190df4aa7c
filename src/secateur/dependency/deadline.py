"""A limit on how long a model is recorded and solved, with a cause that can be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from secateur.errors import ModelError


class OutOfTime(ModelError):  # noqa: N818  a kind of its own only so that no second attempt is made
    """The limit has passed."""


@dataclass(frozen=True)
class Deadline:
    """A moment until which something has to be done.

    Args:
        seconds: How long it may take.
        end: When it is over, by the clock.
        clock: What tells the time, in seconds.
    """

    seconds: float
    end: float
    clock: Callable[[], float]

    def check(self, stage: Callable[..., str], *given: Any) -> None:
        """Go on if there is time left.

        Args:
            stage: Says what is being done; only asked if there is none.
            *given: What it is asked with.

        Raises:
            OutOfTime: There is none.
        """
        if self.clock() > self.end:
            raise OutOfTime(
                f"{stage(*given)}, when {self.seconds:g} s were over. Give a smaller example (shorter sequences, "
                "smaller pictures, one sample) or more time: time_limit= in seconds, None for no limit"
            )


def within(seconds: float | None, clock: Callable[[], float] | None = None) -> Deadline | None:
    """A deadline from now on.

    Args:
        seconds: How long; None: forever.
        clock: What tells the time; left out: the system's.

    Returns:
        The deadline; None if there is none.

    Example:
        >>> hours = iter([0.0, 3600.0])
        >>> within(60, lambda: next(hours)).check(str, "it was recorded")
        Traceback (most recent call last):
        secateur.dependency.deadline.OutOfTime: it was recorded, when 60 s were over. Give a smaller example ...
    """
    if seconds is None:
        return None
    clock = clock or monotonic
    return Deadline(seconds, clock() + seconds, clock)
