"""Rates as functions of the epochs done: laws, cases by hand, and what the training loop asks of them."""

from __future__ import annotations

import dataclasses
import math
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

import secateur as sc
from secateur.tasks.task import dense_rate
from secateur.training.rates import Rate, constant, cosine, rewound, steps
from tests.runs import Line, Stop, descend, downhill, sloping
from tests.tiny import tiny

DOUBLE = 2**-53  # a rounding of double precision
lengths = st.floats(0.125, 1000)
shares = st.floats(0, 1)
times = st.floats(0, 2000)


def said(rate: Rate, *epochs: float) -> list[float]:
    return [rate(epoch) for epoch in epochs]


# ------------------------------------------------------------------------------------------ laws


@given(epoch=times)
def test_constant_is_one(epoch: float) -> None:
    assert constant()(epoch) == 1


@given(epochs=lengths, rise=st.floats(0, 0.99), shares=st.lists(shares, min_size=2, max_size=8))
def test_a_cosine_rises_to_one_and_then_falls_to_zero(epochs: float, rise: float, shares: list[float]) -> None:
    warm_up = rise * epochs
    rate = cosine(epochs, warm_up=warm_up)
    rising = said(rate, *(share * warm_up for share in sorted(shares) if share * warm_up < warm_up))
    falling = said(rate, *(warm_up + share * (epochs - warm_up) for share in sorted(shares)))
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert all(0.1 <= value <= 1 for value in rising)
    assert all(0 <= value <= 1 for value in falling)
    assert rate(warm_up) == 1
    assert rate(epochs) == rate(2 * epochs) == 0


@given(epochs=st.integers(1, 500), share=shares)
def test_the_two_halves_of_a_cosine_are_each_others_mirror(epochs: int, share: float) -> None:
    rate, at = cosine(epochs), share * epochs
    # The argument, up to pi, and the cosine are each rounded a few times.
    assert rate(at) + rate(epochs - at) == pytest.approx(1, abs=32 * DOUBLE)


@given(
    epochs=st.lists(st.floats(0, 100), unique=True, max_size=5).map(sorted),
    divide_by=st.floats(0.5, 100),
    epoch=st.floats(0, 120),
)
def test_steps_divide_once_for_each_epoch_that_has_come(epochs: list[float], divide_by: float, epoch: float) -> None:
    expected = 1.0
    for at in epochs:
        if at <= epoch:
            expected /= divide_by
    # Up to five divisions or one power, each rounded.
    assert steps(epochs, divide_by=divide_by)(epoch) == pytest.approx(expected, rel=16 * DOUBLE)


RATES: dict[str, Callable[[], Rate]] = {
    "constant()": constant,
    "cosine(4)": lambda: cosine(4),
    "cosine(4, warm_up=0.5)": lambda: cosine(4, warm_up=0.5),
    "steps([2, 3], divide_by=10)": lambda: steps([2, 3]),
    "rewound(cosine(4), 1.5)": lambda: rewound(cosine(4), 1.5),
}


@pytest.mark.parametrize("name", RATES)
@given(start=st.floats(0, 5), epoch=st.floats(0, 5))
def test_a_rewound_rate_is_the_earlier_one_from_its_epoch_on(name: str, start: float, epoch: float) -> None:
    assert rewound(RATES[name](), start)(epoch) == RATES[name]()(start + epoch)


@pytest.mark.parametrize("name", RATES)
def test_a_rate_has_a_name_and_goes_to_another_process(name: str) -> None:
    rate = RATES[name]()
    assert repr(rate) == name
    sent = pickle.loads(pickle.dumps(rate))  # noqa: S301  our own bytes
    assert repr(sent) == name
    assert said(sent, 0, 1.25, 3) == said(rate, 0, 1.25, 3)


def test_a_plain_function_can_be_rewound() -> None:
    def halving(epoch: float) -> float:
        return math.pow(0.5, epoch)

    rate = rewound(halving, 2)
    assert (rate(1), repr(rate)) == (0.125, "rewound(halving, 2)")


# ----------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize(
    ("rate", "values"),
    [
        (cosine(3, warm_up=1), {0: 0.1, 0.5: 0.55, 1: 1, 2: 0.5, 3: 0, 9: 0}),
        (cosine(1), {0: 1, 0.5: 0.5, 1: 0}),
        (cosine(6), {0: 1, 2: 3 / 4, 3: 1 / 2, 4: 1 / 4, 6: 0}),  # cos 60 degrees is a half
        (steps([2, 3.5], divide_by=4), {0: 1, 1.999: 1, 2: 1 / 4, 3: 1 / 4, 3.5: 1 / 16, 99: 1 / 16}),
        (steps([]), {0: 1, 50: 1}),
        (steps([0]), {0: 0.1}),
        (steps([1], divide_by=0.5), {0: 1, 1: 2}),  # a rate may rise, too
        (rewound(cosine(6), 2), {0: 3 / 4, 2: 1 / 4, 4: 0, 7: 0}),
        (rewound(rewound(steps([5]), 2), 2), {0: 1, 0.9: 1, 1: 0.1}),
    ],
    ids=repr,
)
def test_cases_by_hand(rate: Rate, values: dict[float, float]) -> None:
    # The argument of the cosine, up to pi, and the cosine are each rounded a few times.
    assert said(rate, *values) == pytest.approx(list(values.values()), abs=32 * DOUBLE)


@pytest.mark.parametrize(
    "wrong", [(0, 0), (3, 3), (3, 4), (3, -1), (math.inf, 0), (math.nan, 0), (3, math.nan), (-1, 0)]
)
def test_a_cosine_without_room_is_refused(wrong: tuple[float, float]) -> None:
    epochs, warm_up = wrong
    with pytest.raises(sc.RunError, match=rf"cosine over {epochs} epochs with a rise of {warm_up}; expected 0 <= warm"):
        cosine(epochs, warm_up=warm_up)


@pytest.mark.parametrize(
    ("at", "divide_by"),
    [([3, 2], 10), ([2, 2], 10), ([2], 0), ([2], -1), ([2], math.inf), ([2], math.nan), ([math.nan], 10)],
)
def test_steps_that_do_not_rise_are_refused(at: list[float], divide_by: float) -> None:
    with pytest.raises(sc.RunError, match="expected rising epochs and a divisor above 0"):
        steps(at, divide_by=divide_by)


@pytest.mark.parametrize("epoch", [-1, -0.5, math.nan, math.inf])
def test_an_epoch_before_the_earlier_run_is_refused(epoch: float) -> None:
    """A rise of `cosine` carried on to the left of 0 would be a rate below 0."""
    with pytest.raises(sc.RunError, match=rf"rewound to epoch {epoch}; expected 0 or more"):
        rewound(cosine(4, warm_up=1), epoch)


# ---------------------------------------------------------------------------------------- the loop


class Asked:
    """A rate of 1 that notes what it is asked."""

    def __init__(self) -> None:
        self.epochs: list[float] = []

    def __call__(self, epoch: float) -> float:
        self.epochs.append(epoch)
        return 1.0


class Stream(IterableDataset[Any]):
    """Data of unknown length."""

    def __iter__(self) -> Iterator[Any]:
        yield from sloping(1, 1, 1)


@pytest.mark.parametrize(
    ("batches", "accumulate", "parts"),
    [
        (4, 1, [0, 1 / 4, 1 / 2, 3 / 4]),
        (3, 1, [0, 1 / 3, 2 / 3]),
        (4, 2, [0, 1 / 2]),
        (5, 2, [0, 1 / 3, 2 / 3]),  # the one left over makes a step of its own
        (5, 9, [0]),
    ],
)
def test_the_rate_is_asked_before_every_step_for_the_part_of_the_epoch_that_is_done(
    batches: int, accumulate: int, parts: list[float]
) -> None:
    asked = Asked()
    descend(Line(), sloping(*[1] * batches), epochs=3, rate=asked, accumulate=accumulate)
    assert asked.epochs == [epoch + part for epoch in range(3) for part in parts]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_without_a_length_the_rate_moves_with_the_epochs(accumulate: int) -> None:
    asked = Asked()
    descend(Line(), DataLoader(Stream(), batch_size=None), epochs=3, rate=asked, accumulate=accumulate)
    per_epoch = math.ceil(3 / accumulate)
    assert asked.epochs == [float(epoch) for epoch in range(3) for _ in range(per_epoch)]


def test_each_step_is_taken_at_the_rate_of_its_moment() -> None:
    """Slope 1, rate 0.5, two steps an epoch: the weight is the sum of the rates."""
    model, weights = Line(), []

    def loss(outputs: Tensor, _: Any) -> Tensor:
        weights.append(model.w.item())
        return downhill(outputs, _)

    descend(model, sloping(1, 1), loss, learning_rate=1, divide_by=2, epochs=2, rate=lambda epoch: 1 / (1 + epoch))
    taken = [after - before for before, after in zip(weights, [*weights[1:], model.w.item()], strict=True)]
    # Differences of sums below 2, each rounded.
    assert taken == pytest.approx([0.5, 0.5 / 1.5, 0.5 / 2, 0.5 / 2.5], abs=4 * DOUBLE)


def test_no_rate_is_a_constant_rate() -> None:
    one, two = Line(), Line()
    descend(one, sloping(1, 2), epochs=3)
    descend(two, sloping(1, 2), epochs=3, rate=constant())
    assert one.w.item() == two.w.item() == 9


def test_a_run_that_is_gone_on_with_asks_for_the_rest(tmp_path: Path) -> None:
    """And takes its rates from the first rate of the optimizer, not from the one it stopped at."""
    whole, stopped, rest = Line(), Line(), Line()
    descend(whole, sloping(1, 1), epochs=4, rate=cosine(4))

    def stop(history: Any) -> None:
        if len(history.losses) == 3:
            raise Stop

    with pytest.raises(Stop):
        descend(stopped, sloping(1, 1), epochs=4, rate=cosine(4), checkpoint=tmp_path / "run", on_epoch=stop)
    asked: list[float] = []

    def noted(epoch: float) -> float:
        asked.append(epoch)
        return cosine(4)(epoch)

    descend(rest, sloping(1, 1), epochs=4, rate=noted, checkpoint=tmp_path / "run", resume=True)
    assert asked == [2, 2.5, 3, 3.5]
    assert rest.w.item() == whole.w.item()


def test_the_dense_rate_of_a_task_is_its_rise_and_a_cosine() -> None:
    task = dataclasses.replace(tiny(), epochs=5, warm_up=1)
    made = {epochs: repr(dense_rate(task, epochs)) for epochs in (None, 3, 1, 0)}
    assert made == {
        None: "cosine(5, warm_up=1)",
        3: "cosine(3, warm_up=1)",
        1: "cosine(1)",  # no room for the rise
        0: "constant()",
    }
