"""Laws of pruning while training: what has gone stays away, and the end is the budget, whatever the weights do."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc
from secateur import GradualPruning, Pruner, schedules
from secateur.schedules import Schedule
from secateur.state import load_state, save_state
from tests.small import taylor
from tests.strategies import allocations, free_granularities, granularities, models, removed, scorers, shaken

LENGTH = 9


@st.composite
def plans_in_time(draw: st.DrawFn) -> Schedule:
    begin, every = draw(st.integers(0, 2)), draw(st.integers(1, 3))
    end = draw(st.integers(begin, LENGTH - 1))
    kinds: list[Schedule] = [
        schedules.one_shot(end),
        schedules.linear(begin, end, every),
        schedules.cubic(begin, end, every),
        schedules.iterative([0.2, 0.3, 0.9], every=every, begin=begin),
        schedules.join((0, schedules.one_shot()), (begin + 1, schedules.linear(0, LENGTH - 2 - begin))),
    ]
    return draw(st.sampled_from(kinds))


def pruner_for(model: nn.Module, criterion: sc.Criterion, units: sc.granularity.Granularity, share: object) -> Pruner:
    made = Pruner(criterion, units, share)  # type: ignore[arg-type]
    try:
        groups = made.groups(model)
    except sc.ModelError:  # no layer that m divides
        assume(False)
    assume(str(share) != "fixed" or not groups["0"].frozen)
    return made


def most(pruner: Pruner, model: nn.Module) -> float:
    """The highest sparsity of all units."""
    free = [units for units in pruner.groups(model).values() if not units.frozen]
    stay = sum((units.keep_per_scope or 1) * units.scope.n_units for units in free)
    return 1 - stay / sum(units.n_units for units in free)


def check_zeros(model: nn.Module, plan: sc.Plan) -> None:
    for name, mask in plan.masks().items():
        assert not bool(model.get_parameter(name)[~mask].any())


@settings(max_examples=60)
@given(models(), scorers, granularities, allocations, plans_in_time(), st.floats(0.05, 0.95), st.data())
def test_nothing_comes_back_and_the_end_is_the_budget(
    model: nn.Module,
    criterion: sc.Criterion,
    units: sc.granularity.Granularity,
    share: object,
    schedule: Schedule,
    part: float,
    data: st.DataObject,
) -> None:
    pruner = pruner_for(model, criterion, units, share)
    budget = sc.Budget(sparsity=part * most(pruner, model))
    if data.draw(st.booleans()):
        budget = sc.Budget(weights_removed=pruner.plan(model, budget).weights_removed / weights_free(pruner, model))
    seeds = data.draw(st.lists(st.integers(0, 999), min_size=LENGTH, max_size=LENGTH))
    hook = GradualPruning(model, pruner, budget, schedule)
    before: dict[str, set[int]] = {}
    for seed in seeds:
        shaken(model, seed)
        hook.step()
        if hook.plan is not None:
            now = removed(hook.plan)
            assert all(gone <= now[name] for name, gone in before.items())
            before = now
            check_zeros(model, hook.plan)
    assert hook.settled
    assert hook.plan is not None
    check_end(pruner, budget, hook.plan)


def weights_free(pruner: Pruner, model: nn.Module) -> int:
    return sum(math.prod(units.shape) for units in pruner.groups(model).values() if not units.frozen)


def check_end(pruner: Pruner, budget: sc.Budget, plan: sc.Plan) -> None:
    free = [part for part in plan.parts if not part.units.frozen]
    if budget.weights_removed is not None:
        assert plan.weights_removed >= budget.weights_removed * sum(part.weights for part in free) - 1e-6
    if budget.sparsity is not None and all(part.units.scope.n_units == 1 for part in free):
        units = sum(part.units.n_units for part in free)
        assert abs(sum(part.units.n_units - part.kept for part in free) - budget.sparsity * units) <= 0.5 + 1e-9


@settings(max_examples=40)
@given(
    models(),
    st.one_of(scorers, st.builds(taylor)),
    free_granularities,
    st.floats(0.1, 0.9),
    st.integers(0, LENGTH),
    st.booleans(),
)
def test_stopping_and_going_on_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    model: nn.Module,
    criterion: sc.Criterion,
    units: sc.granularity.Granularity,
    part: float,
    stop: int,
    copied: bool,
) -> None:
    """Gradients, and what an optimizer did to the weights, are drawn from a seed: bit for bit the same both ways."""
    pruner = Pruner(criterion, units, sc.allocation.global_())
    budget, schedule = sc.Budget(sparsity=part * most(pruner, model)), schedules.cubic(1, LENGTH - 2, 2)
    whole = copy.deepcopy(model)
    hook = run(whole, GradualPruning(whole, pruner, budget, schedule), range(LENGTH))

    first = run(model, GradualPruning(model, pruner, budget, schedule), range(stop))
    if copied:
        again, second = copy.deepcopy((model, first))
    else:
        path = tmp_path_factory.mktemp("gradual") / "state.safetensors"
        save_state(path, [model.state_dict(), first.state_dict()])
        weights, state = load_state(path)
        again = copy.deepcopy(model)
        shaken(again, 0)
        again.load_state_dict(weights)
        second = GradualPruning(again, pruner, budget, schedule)
        second.load_state_dict(state)
    run(again, second, range(stop, LENGTH))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert hook.plan is not None
    assert second.plan is not None
    assert removed(hook.plan) == removed(second.plan)
    assert hook.plan.made_by == second.plan.made_by
    assert [part.reason for part in hook.plan.parts] == [part.reason for part in second.plan.parts]


def run(model: nn.Module, hook: GradualPruning, steps: range) -> GradualPruning:
    for step in steps:
        for place, parameter in enumerate(model.parameters()):
            draw = torch.Generator().manual_seed(100 * step + place)
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        hook.observe()
        with torch.no_grad():
            for parameter in model.parameters():
                gradient = parameter.grad
                assert isinstance(gradient, Tensor)
                parameter.sub_(0.1 * gradient + 0.01)  # as momentum and decay would: not zero where it is removed
        hook.step()
        if hook.plan is not None:
            check_zeros(model, hook.plan)
    return hook
