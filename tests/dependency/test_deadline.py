"""What takes too long says where it was; the clock is the test's."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur import granularity
from secateur.dependency import Deadline, coupled, fitted, record, record_all, solve, within
from tests.zoo.table import ZOO


def ticking(seconds: float) -> Deadline:
    """Every look at the clock takes a second."""
    deadline = within(seconds, clock())
    assert deadline is not None
    return deadline


def clock() -> Callable[[], float]:
    ticks = itertools.count()
    return lambda: float(next(ticks))


class Inner(nn.Module):
    """Many small steps."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Any:
        for _ in range(1000):
            x = self.step(x).tanh()
        return x


class Loops(nn.Module):
    """Runs for long, and would try again if its layers fail."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = nn.Linear(3, 4), Inner()

    def forward(self, x: Tensor) -> Any:
        return self.inner(self.first(x))


def test_a_forward_pass_that_loops_is_stopped_where_it_is() -> None:
    model, example = Loops(), torch.zeros(1, 3)
    before = {name: vars(module).copy() for name, module in model.named_modules()}
    with pytest.raises(
        sc.ModelError, match=r"Loops was still running.*: 50 operations.* in inner.* when 50 s"
    ) as error:
        record(model, example, deadline=ticking(50))
    assert "test_deadline.py:" in str(error.value)
    assert "time_limit=" in str(error.value)
    assert {name: vars(module) for name, module in model.named_modules()} == before


@pytest.mark.parametrize("compute", [None, False, True])
def test_no_second_attempt_is_made_when_time_is_over(compute: bool | None) -> None:
    """A second one would be stopped at its first operation, and say so."""
    with pytest.raises(sc.ModelError, match="50 operations were recorded"):
        record(Loops(), torch.zeros(1, 3), compute=compute, deadline=ticking(50))


class Helping(nn.Module):
    """A head that only runs while training, after many steps."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head, self.inner = nn.Linear(4, 4), nn.Linear(4, 2), Inner()

    def forward(self, x: Tensor) -> Any:
        return self.head(self.inner(self.first(x)) if self.training else self.first(x))


def test_the_pass_in_train_mode_has_the_same_limit() -> None:
    with pytest.raises(sc.ModelError, match="Helping was still running"):
        record_all(Helping(), torch.zeros(1, 4), deadline=ticking(50))


def test_solving_says_how_far_labels_went() -> None:
    model, example = ZOO["residual block with projection"].build()
    found = record(model, example)
    with pytest.raises(sc.ModelError, match=rf"3 of {len(found.calls)} operations in this round, the next is aten\."):
        solve(found, deadline=ticking(3))
    patient = solve(found, deadline=ticking(10_000))
    assert [group.index.keys() for group in coupled(patient)] == [group.index.keys() for group in coupled(solve(found))]


def test_fitting_says_how_many_rounds_it_took() -> None:
    model, example = ZOO["scale from a width that is read"].build()
    found = record(model, example)
    patient = clock()
    solve(found, deadline=within(10_000, patient))
    first = int(patient()) - 1  # looks at the clock of the first solution; the next one is of the first round
    with pytest.raises(sc.ModelError, match=r"still being fitted to the model's code: 0 rounds, 0 dimensions held, "):
        fitted(model, found, deadline=ticking(first + 0.5))
    patient = clock()
    fitted(model, found, deadline=within(10_000, patient))
    last = int(patient()) - 1  # that of the round that finds nothing more
    with pytest.raises(sc.ModelError, match=r"1 rounds, \d+ dimensions held, the last: its size is"):
        fitted(model, found, deadline=ticking(last - 0.5))


def test_a_granularity_has_a_limit_and_can_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.dependency.deadline.monotonic", clock())
    example = torch.zeros(1, 3)
    with pytest.raises(sc.ModelError, match="20 operations were recorded"):
        granularity.channel(example, time_limit=20)(Loops())
    with pytest.raises(sc.ModelError, match="when 300 s were over"):
        granularity.channel(example)(Loops())
    model = nn.Sequential(*[nn.Linear(3, 3) for _ in range(200)])
    assert len(granularity.channel(example, time_limit=None)(model)) == 200
