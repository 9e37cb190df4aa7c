"""Schedules: what fraction of the final budget is reached at which step.

A schedule is a function from a step number (0, 1, 2, ...) to a fraction between 0 and 1, or to None where the masks
are left alone. After its last step it says None for good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from secateur.errors import BudgetError

Schedule = Callable[[int], float | None]


@dataclass(frozen=True)
class Steps:
    """A schedule that knows where it ends: fractions at `begin`, `begin + every`, ..., `end`.

    Args:
        name: How a reader would write it.
        begin: First step with a fraction.
        end: Last step with a fraction; a hook is settled after it.
        every: Steps between two fractions.
        curve: From progress, 0 at `begin` and 1 at `end`, to the fraction.
    """

    name: str
    begin: int
    end: int
    every: int
    curve: Callable[[float], float]

    def __post_init__(self) -> None:
        """Check the steps.

        Raises:
            BudgetError: They are out of order.
        """
        if not (0 <= self.begin <= self.end and self.every >= 1):
            raise BudgetError(f"{self.name} needs 0 <= begin <= end and every >= 1")

    def __call__(self, step: int) -> float | None:
        """The fraction at a step.

        Args:
            step: Counted from 0.

        Returns:
            The fraction, or None where the masks are left alone.
        """
        due = self.begin <= step <= self.end and ((step - self.begin) % self.every == 0 or step == self.end)
        if not due:
            return None
        return self.curve((step - self.begin) / max(1, self.end - self.begin) if self.end > self.begin else 1.0)

    def __repr__(self) -> str:
        """The name.

        Returns:
            The name.
        """
        return self.name


def one_shot(at: int = 0) -> Steps:
    """Everything at once: `f = 1` at one step.

    Args:
        at: The step.

    Returns:
        Schedule: 1 at that step, None elsewhere.

    Example:
        >>> [one_shot(at=1)(step) for step in range(3)]
        [None, 1.0, None]
    """
    return Steps(f"one_shot(at={at})", at, at, 1, _full)


def linear(begin: int, end: int, every: int = 1) -> Steps:
    """Growing evenly: `f = (step - begin) / (end - begin)`.

    Args:
        begin: First step, at which nothing is removed yet.
        end: Step at which the whole budget is reached.
        every: Steps between two changes.

    Returns:
        Schedule: fractions at every `every`-th step and at `end`.

    Example:
        >>> [linear(0, 4, every=2)(step) for step in range(6)]
        [0.0, None, 0.5, None, 1.0, None]
    """
    return Steps(f"linear({begin}, {end}, {every})", begin, end, every, _straight)


def cubic(begin: int, end: int, every: int = 1) -> Steps:
    """Fast at first, while there is much to remove, then ever slower: `f = 1 - (1 - (step - begin) / (end - begin))^3`.

    Args:
        begin: First step, at which nothing is removed yet.
        end: Step at which the whole budget is reached.
        every: Steps between two changes.

    Returns:
        Schedule: fractions at every `every`-th step and at `end`.

    Reference:
        Zhu, Gupta (2018), To Prune, or Not to Prune, equation 1 (initial sparsity 0).

    Example:
        >>> [cubic(0, 4, every=2)(step) for step in range(5)]
        [0.0, None, 0.875, None, 1.0]
    """
    return Steps(f"cubic({begin}, {end}, {every})", begin, end, every, _cubic)


def iterative(sparsities: Sequence[float], *, every: int = 1, begin: int = 0) -> Steps:
    """Prune, recover, prune further: the sparsities after each round, the last of them the budget's.

    With a budget in another measure they are fractions of that: on the way to `Budget(macs=0.5)`, `[0.25, 0.5]` takes a
    quarter of the multiply-accumulates, then half of them.

    Args:
        sparsities: Rising, above 0 and below 1; divided by the last they are the fractions of the budget.
        every: Steps of recovery after each round.
        begin: Step of the first round.

    Returns:
        Schedule: one fraction per round.

    Raises:
        BudgetError: The sparsities do not rise or leave (0, 1).

    Reference:
        Han et al. (2015), Learning both Weights and Connections, section 3.4.

    Example:
        >>> schedule = iterative([0.3, 0.6], every=2)
        >>> [schedule(step) for step in range(4)]
        [0.5, None, 1.0, None]
    """
    levels = tuple(float(level) for level in sparsities)
    rising = all(a < b for a, b in zip((0.0, *levels), (*levels, 1.0), strict=True))
    if not levels or not rising:
        raise BudgetError(
            f"iterative() takes rising sparsities between 0 and 1, e.g. [0.3, 0.5, 0.7]; given: {list(sparsities)}"
        )
    rounds = len(levels) - 1
    return Steps(f"iterative({list(levels)})", begin, begin + every * rounds, every, _Levels(levels))


def join(*parts: tuple[int, Schedule]) -> Schedule:
    """Several schedules one after the other, each counting its steps from its own start.

    Args:
        *parts: Pairs of the step at which a schedule takes over, rising, and the schedule.

    Returns:
        Schedule: the fractions of the part that is on at a step.

    Raises:
        BudgetError: No part, or starts out of order.

    Example:
        >>> both = join((0, one_shot()), (3, one_shot(at=1)))
        >>> [both(step) for step in range(5)]
        [1.0, None, None, None, 1.0]
    """
    starts = [start for start, _ in parts]
    if not parts or any(b <= a for a, b in pairwise(starts)):
        raise BudgetError(f"join() takes pairs (start, schedule) with rising starts; given starts: {starts}")
    return _Joined(parts)


def settled(schedule: Schedule, step: int) -> bool:
    """Whether the schedule has had its last say before `step`.

    Args:
        schedule: Any schedule; one that does not know its `end` counts as over once it has reached 1.
        step: The next step.

    Returns:
        True if so.

    Example:
        >>> settled(one_shot(at=2), 2), settled(one_shot(at=2), 3)
        (False, True)
    """
    if isinstance(schedule, _Joined):
        start, last = schedule.parts[-1]
        return settled(last, step - start)
    end = getattr(schedule, "end", None)
    if isinstance(end, int):
        return step > end
    return any(schedule(past) == 1.0 for past in range(step))


@dataclass(frozen=True)
class _Joined:
    parts: tuple[tuple[int, Schedule], ...]

    def __call__(self, step: int) -> float | None:
        on = [(start, schedule) for start, schedule in self.parts if start <= step]
        return on[-1][1](step - on[-1][0]) if on else None


@dataclass(frozen=True)
class _Levels:
    levels: tuple[float, ...]

    def __call__(self, progress: float) -> float:
        return self.levels[round(progress * (len(self.levels) - 1))] / self.levels[-1]


def _full(_: float) -> float:
    return 1.0


def _straight(progress: float) -> float:
    return progress


def _cubic(progress: float) -> float:
    return 1 - (1 - progress) ** 3
