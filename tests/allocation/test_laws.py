"""Laws of allocations over random groups, bounds and ties."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from secateur.allocation import Allocation, Scored, erdos_renyi, fixed, global_, lamp, uniform
from secateur.allocation.lamp import lamp_scores
from secateur.errors import BudgetError

EVERY = [uniform(), global_(), lamp(), erdos_renyi(), erdos_renyi(kernel=False), fixed({"*": 0.3, "a": 0.6})]

scores = st.lists(st.one_of(st.integers(0, 5).map(float), st.floats(0, 10, width=32)), min_size=1, max_size=12)


@st.composite
def groups(draw: st.DrawFn, *, bounds: bool = True) -> dict[str, Scored]:
    found = {}
    for name in draw(st.sampled_from(["a", "ab", "abc", "abcd"])):
        values = torch.tensor(draw(scores))
        n = len(values)
        low, high = sorted((draw(st.integers(0, n - 1)), draw(st.integers(0, n - 1)))) if bounds else (0, n)
        found[name] = Scored(values, n, torch.ones(n), (n, draw(st.integers(1, 3))), low / n, high / n)
    return found


def total(given_groups: Mapping[str, Scored]) -> int:
    return sum(group.n_units for group in given_groups.values())


def gone(given_groups: Mapping[str, Scored], shares: Mapping[str, float]) -> float:
    return sum(group.n_units * shares[name] for name, group in given_groups.items())


def within(given_groups: Mapping[str, Scored], part: float) -> float:
    """A sparsity that the bounds allow: so far between the least and the most."""
    low = gone(given_groups, {name: group.least for name, group in given_groups.items()})
    high = gone(given_groups, {name: group.most for name, group in given_groups.items()})
    return round(low + part * (high - low)) / total(given_groups)


@pytest.mark.parametrize("allocation", EVERY, ids=str)
@settings(max_examples=50)
@given(groups(), st.floats(0, 1))
def test_the_total_is_met_within_the_bounds(
    allocation: Allocation, given_groups: dict[str, Scored], part: float
) -> None:
    sparsity = within(given_groups, part)
    shares = allocation(given_groups, sparsity)
    assert list(shares) == list(given_groups)
    assert gone(given_groups, shares) == pytest.approx(sparsity * total(given_groups), abs=1e-6)
    for name, group in given_groups.items():
        assert group.least - 1e-9 <= shares[name] <= group.most + 1e-9


@pytest.mark.parametrize("allocation", EVERY, ids=str)
@settings(max_examples=50)
@given(groups(), st.floats(0, 1), st.floats(0, 1))
def test_no_group_gets_less_when_all_get_more(
    allocation: Allocation, given_groups: dict[str, Scored], one: float, other: float
) -> None:
    less, more = (allocation(given_groups, within(given_groups, part)) for part in sorted((one, other)))
    assert all(less[name] <= more[name] + 1e-9 for name in given_groups)


@pytest.mark.parametrize("allocation", EVERY, ids=str)
@settings(max_examples=50)
@given(groups(), st.floats(0, 1))
def test_what_the_bounds_do_not_allow_is_refused(
    allocation: Allocation, given_groups: dict[str, Scored], sparsity: float
) -> None:
    low, high = within(given_groups, 0), within(given_groups, 1)
    assume(not low - 0.6 / total(given_groups) < sparsity < high + 0.6 / total(given_groups))
    with pytest.raises(BudgetError, match="cannot be met"):
        allocation(given_groups, sparsity)


@given(groups(bounds=False), st.floats(0, 1))
def test_global_is_one_threshold_over_all_scores(given_groups: dict[str, Scored], sparsity: float) -> None:
    everything = torch.cat([group.values() for group in given_groups.values()])
    removed = round(sparsity * len(everything))
    shares = global_()(given_groups, sparsity)
    order = everything.argsort(stable=True)[:removed]  # of equal scores those of the first groups go
    owner = torch.cat([torch.full((group.n_units,), place) for place, group in enumerate(given_groups.values())])
    wanted = torch.bincount(owner[order], minlength=len(given_groups)).tolist()
    assert [round(shares[name] * group.n_units, 6) for name, group in given_groups.items()] == wanted


@given(groups(), st.floats(0, 1))
def test_global_is_fair_among_groups_that_no_bound_holds(given_groups: dict[str, Scored], part: float) -> None:
    """Nothing that stays in such a group is below anything that went from another."""
    shares = global_()(given_groups, within(given_groups, part))
    for name, group in given_groups.items():
        count = round(shares[name] * group.n_units)
        ordered = group.values().sort().values
        for other, its in given_groups.items():
            theirs = round(shares[other] * its.n_units)
            if other == name or count >= round(group.most * group.n_units) or theirs <= round(its.least * its.n_units):
                continue
            # This group could have given one more, the other one fewer: then that would not have been better.
            assert ordered[count] >= its.values().sort().values[theirs - 1]


@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=30))
def test_lamp_scores_are_the_formula(values: list[float]) -> None:
    ordered = sorted(torch.tensor(values).double().tolist())
    squares = [value * value for value in ordered]
    wanted = [squares[place] / max(sum(squares[place:]), 1e-300) for place in range(len(squares))]
    found = lamp_scores(torch.tensor(values, dtype=torch.float64))
    assert torch.allclose(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=0)
    assert bool((found.diff() >= -1e-12).all())
