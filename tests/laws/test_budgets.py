"""Laws of budgets over random models, units and allocations: met, by not one unit too many, and monotone."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur import Pruner, granularity
from secateur.granularity import Granularity
from tests.strategies import allocations, free_granularities, granularities, models, removed, scorers, shaken

fractions = st.floats(0, 0.99)
# For the convolutions of `models`; patterns of one size, so that it does not depend on the scores how much can go.
kernel_patterns = st.just(granularity.kernel_pattern([(0,), (1,)], kernel=(1, 2)))


class Case:
    """A model, a pruner that fits it, and what could go at most."""

    def __init__(self, model: nn.Module, pruner: Pruner) -> None:
        self.model, self.pruner = model, pruner
        try:
            self.groups = pruner.groups(model)
        except sc.ModelError:  # nothing fits
            assume(False)
        self.free = {name: units for name, units in self.groups.items() if not units.frozen}

    def plan(self, budget: sc.Budget, start: sc.Plan | None = None) -> sc.Plan:
        return self.pruner.plan(self.model, budget, start=start)

    @property
    def weights(self) -> int:
        """Of the groups that are free to go."""
        return sum(math.prod(units.shape) for units in self.free.values())

    @property
    def most(self) -> dict[str, float]:
        """The highest sparsity of each group."""
        return {
            name: 1 - (units.keep_per_scope or 1) * units.scope.n_units / units.n_units
            for name, units in self.free.items()
        }

    @property
    def reach(self) -> int:
        """Weights that can go."""
        return self.plan(sc.Budget(per_group=self.most)).weights_removed

    @property
    def size(self) -> int | None:
        """Weights of a unit, where all units are alike, and compete throughout their group."""
        if any(units.scope.n_units > 1 for units in self.free.values()):
            return None
        sizes = {int(size) for units in self.free.values() for size in units.weights_per_unit}
        return sizes.pop() if len(sizes) == 1 else None


@st.composite
def cases(draw: st.DrawFn, units: st.SearchStrategy[Granularity] | None = None) -> Case:
    kinds = st.one_of(granularities, kernel_patterns) if units is None else units
    model = draw(models(least=draw(st.sampled_from([1, 4]))))
    exclude = ("0",) if len(model) > 2 and draw(st.booleans()) else ()
    share = draw(allocations)
    if str(share) == "fixed":  # which names the first layer
        exclude = ()
    case = Case(model, Pruner(draw(scorers), draw(kinds), share, exclude=exclude))
    assume(str(share) != "fixed" or "0" in case.free)
    return case


def check_met(case: Case, plan: sc.Plan, target: int) -> None:
    """At least so many weights went; where units are of one size, as few as that allows."""
    assert plan.weights_removed >= target
    if (size := case.size) is not None:
        assert plan.weights_removed == -(-target // size) * size


@settings(max_examples=80)
@given(cases(), fractions)
def test_so_many_weights_are_removed(case: Case, fraction: float) -> None:
    target = math.ceil(fraction * case.weights - 1e-6)
    budget = sc.Budget(weights_removed=fraction)
    if target > (reach := case.reach):
        with pytest.raises(sc.BudgetError, match=f"let at most {reach} go"):
            case.plan(budget)
    else:
        check_met(case, case.plan(budget), target)


@settings(max_examples=80)
@given(cases(), st.data())
def test_fewer_than_so_many_weights_stay(case: Case, data: st.DataObject) -> None:
    everything = sum(math.prod(units.shape) for units in case.groups.values())
    n = data.draw(st.integers(1, everything + 2))
    target = max(0, everything - n + 1)
    if target > (reach := case.reach):
        with pytest.raises(sc.BudgetError, match=f"nonzeros={everything - reach + 1}$"):
            case.plan(sc.Budget(nonzeros=n))
    else:
        plan = case.plan(sc.Budget(nonzeros=n))
        assert plan.nonzeros < n
        check_met(case, plan, target)


@settings(max_examples=80)
@given(cases(free_granularities), fractions)
def test_the_nearest_number_of_units_is_removed(case: Case, fraction: float) -> None:
    units = sum(group.n_units for group in case.free.values())
    wanted, most = fraction * units, units - len(case.free)
    if wanted > most + 0.500001:
        with pytest.raises(sc.BudgetError, match="cannot be met"):
            case.plan(sc.Budget(sparsity=fraction))
    else:
        assume(wanted < most + 0.499999)
        gone = sum(map(len, removed(case.plan(sc.Budget(sparsity=fraction))).values()))
        assert abs(gone - wanted) <= 0.5 + 1e-9


@settings(max_examples=60)
@given(cases(), fractions)
def test_sparsities_by_group_are_taken_exactly(case: Case, part: float) -> None:
    asked = {name: part * most for name, most in case.most.items()}
    gone = removed(case.plan(sc.Budget(per_group=asked)))
    for name, units in case.free.items():
        scopes, size = units.scope.n_units, units.n_units // units.scope.n_units
        if units.keep_per_scope is None:
            wanted = scopes * min(size - 1, round(asked[name] * size))
        else:
            wanted = round(part * scopes) * (size - units.keep_per_scope)
        assert len(gone[name]) == wanted


@settings(max_examples=60)
@given(cases(), fractions, fractions)
def test_a_larger_budget_removes_no_fewer_weights(case: Case, one: float, other: float) -> None:
    limit = case.reach / case.weights
    less, more = (case.plan(sc.Budget(weights_removed=min(0.99, part * limit))) for part in sorted((one, other)))
    assert less.weights_removed <= more.weights_removed


@pytest.mark.parametrize("measure", ["sparsity", "weights_removed"])
@settings(max_examples=80)
@given(cases(), fractions, fractions, st.integers(0, 99))
def test_what_went_earlier_stays_away_and_counts(measure: str, case: Case, one: float, other: float, seed: int) -> None:
    """The second plan is made after every weight has changed, and for a larger or a smaller budget."""
    limit = case.reach / case.weights if measure == "weights_removed" else units_that_can_go(case)
    start = case.plan(in_measure(measure, one * limit))
    shaken(case.model, seed)
    later = case.plan(in_measure(measure, other * limit), start)
    before, after = removed(start), removed(later)
    assert all(before[name] <= after[name] for name in before)
    if other <= one and case.size is not None:
        assert before == after  # nothing more was to go


def in_measure(measure: str, fraction: float) -> sc.Budget:
    fraction = min(0.99, fraction)
    return sc.Budget(sparsity=fraction) if measure == "sparsity" else sc.Budget(weights_removed=fraction)


def units_that_can_go(case: Case) -> float:
    total = sum(units.n_units for units in case.free.values())
    return sum(case.most[name] * units.n_units for name, units in case.free.items()) / total


def test_a_maximum_does_not_bring_back_what_has_gone() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 5))
    model[0].get_parameter("weight").data = torch.arange(16.0).reshape(4, 4)
    free = Pruner(sc.criteria.magnitude(), granularity.weight(), sc.allocation.global_())
    start = free.plan(model, sc.Budget(per_group={"0": 0.5}))
    capped = Pruner(sc.criteria.magnitude(), granularity.weight(), sc.allocation.global_(), maximum={"0": 0.25})
    assert removed(capped.plan(model, sc.Budget(per_group={"0": 0.25})))["0"] == set(range(4))
    for budget in (sc.Budget(sparsity=0.25), sc.Budget(weights_removed=0.25), sc.Budget(per_group={"0": 0.1})):
        assert removed(capped.plan(model, budget, start=start))["0"] == set(range(8))


def test_bounds_hold_where_a_pattern_is_the_budget() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 4))
    bounds: Mapping[str, float] = {"0": 0.25}
    made = Pruner(sc.criteria.magnitude(), granularity.pattern(2, 4), sc.allocation.uniform(), maximum=bounds)
    plan = made.plan(model)
    assert (plan["0"].sparsity, plan["1"].sparsity) == (0.25, 0.5)
    floor = Pruner(sc.criteria.magnitude(), granularity.pattern(2, 4), sc.allocation.uniform(), minimum=bounds)
    least = floor.plan(model, sc.Budget(sparsity=8 / 48))
    assert (least["0"].sparsity, least["1"].sparsity) == (0.25, 0)
