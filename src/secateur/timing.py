"""Times of two functions called in turn, and what machine they were taken on."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class InTurn:
    """Times of two functions that were called in turn, so that a machine that slows down slows both.

    Args:
        first: Seconds of each call of the first.
        second: Seconds of each call of the second.

    Example:
        >>> found = InTurn((2.0, 4.0, 9.0), (1.0, 2.0, 3.0))
        >>> found.medians, found.ratio
        ((4.0, 2.0), 2.0)
    """

    first: tuple[float, ...]
    second: tuple[float, ...]

    @property
    def medians(self) -> tuple[float, float]:
        """Seconds of the one and of the other."""
        return statistics.median(self.first), statistics.median(self.second)

    @property
    def ratio(self) -> float:
        """Median over the pairs of the first's time over the second's."""
        return statistics.median(one / two for one, two in zip(self.first, self.second, strict=True))


def in_turn(
    first: Callable[[], Any],
    second: Callable[[], Any],
    *,
    seconds: float = 1.0,
    least: int = 3,
    most: int = 100,
    clock: Callable[[], float] = time.perf_counter,
) -> InTurn:
    """Time two functions in pairs, of which every other one begins with the second.

    Before that both are called twice, or once if that takes all the time there is.

    Args:
        first: One function; it returns when its work is done.
        second: The other.
        seconds: No new pair is begun after so long.
        least: Pairs that are timed in any case.
        most: Pairs at most.
        clock: Tells seconds.

    Returns:
        The times.

    Example:
        >>> ticks = iter(range(100))
        >>> called = []
        >>> found = in_turn(lambda: called.append("a"), lambda: called.append("b"), most=2, clock=lambda: next(ticks))
        >>> "".join(called), found
        ('ababba', InTurn(first=(1, 1), second=(1, 1)))
    """
    begun, called = clock(), 0
    while called == 0 or (called < 2 and clock() - begun < seconds):
        first()
        second()
        called += 1
    times: tuple[list[float], list[float]] = ([], [])
    begun = clock()
    while len(times[0]) < most and (len(times[0]) < least or clock() - begun < seconds):
        order = (0, 1) if len(times[0]) % 2 == 0 else (1, 0)
        for which in order:
            before = clock()
            (first, second)[which]()
            times[which].append(clock() - before)
    return InTurn(tuple(times[0]), tuple(times[1]))


def processor() -> str:
    """The processor's own name, and how many of its cores this machine has.

    Returns:
        In words.
    """
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def machine(device: torch.device) -> str:
    """What computes on a device of torch.

    Args:
        device: The device.

    Returns:
        Its name in words; of a processor also the threads that torch uses.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor()}, {threads} thread{'s' if threads > 1 else ''}"


def wait(device: torch.device) -> None:
    """Wait until a device has done what it was given.

    Args:
        device: The device.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
