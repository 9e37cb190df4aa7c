"""Two functions timed in turn, on a clock that the test moves."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.timing import InTurn, in_turn, machine, wait


class Bench:
    """Two functions that take so long, and a clock that knows."""

    def __init__(self, first: float, second: float) -> None:
        self.now, self.order, self.takes = 0.0, "", {"a": first, "b": second}

    def run(self, name: str) -> None:
        self.order += name
        self.now += self.takes[name]

    def timed(self, **more: float) -> InTurn:
        return in_turn(lambda: self.run("a"), lambda: self.run("b"), clock=lambda: self.now, **more)  # type: ignore[arg-type]


def test_every_other_pair_begins_with_the_second() -> None:
    bench = Bench(3, 2)
    found = bench.timed(seconds=100, most=3)
    assert bench.order == "abab" + "abbaab"  # two of each go before
    assert found == InTurn((3, 3, 3), (2, 2, 2))
    assert (found.medians, found.ratio) == ((3, 2), 1.5)


@given(st.integers(1, 20), st.integers(0, 100), st.integers(1, 5), st.integers(5, 40))
def test_so_many_pairs_as_fit_into_the_time_but_some_in_any_case(
    takes: int, seconds: int, least: int, most: int
) -> None:
    found = Bench(takes, takes).timed(seconds=seconds, least=least, most=most)
    fitting = -(-seconds // (2 * takes))  # the last may end late
    assert len(found.first) == len(found.second) == min(most, max(least, fitting))


def test_what_takes_long_is_called_once_before_and_three_times_timed() -> None:
    bench = Bench(30, 20)
    assert len(bench.timed(seconds=1).first) == 3
    assert bench.order == "ab" + "abbaab"


def test_a_machine_that_slows_down_does_not_change_the_ratio() -> None:
    bench = Bench(4, 1)
    before = InTurn((4.0,), (1.0,))
    bench.takes = {"a": 8, "b": 2}
    assert bench.timed(most=1, least=1).ratio == before.ratio == 4


def test_a_processor_tells_its_name_and_threads() -> None:
    words = machine(torch.device("cpu"))
    assert f"{torch.get_num_threads()} thread" in words
    assert "core" in words
    wait(torch.device("cpu"))
