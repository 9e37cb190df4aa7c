"""What holds a pruner back: minima and maxima, what is excluded, and what an earlier plan has removed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur import criteria, granularity
from secateur.allocation import Allocation
from secateur.granularity import Granularity
from tests.nets import Tied
from tests.small import ALLOCATIONS, network, pruner
from tests.strategies import allocations, free_granularities, models, removed

PARTS = st.floats(0, 1)


@settings(max_examples=80)
@given(models(), free_granularities, allocations, PARTS, PARTS, PARTS)
def test_bounds_hold_to_the_nearest_whole_unit(
    model: nn.Module, build: Granularity, share: Allocation, part: float, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    made = sc.Pruner(criteria.random(), build, share, minimum={"0": low}, maximum={"*": high})
    try:
        plan = made.plan(model, sc.Budget(sparsity=0.999 * part))
    except sc.BudgetError:  # the bounds do not allow it
        assume(False)
        raise
    for found in plan.parts:
        n, gone = found.units.n_units, found.units.n_units - found.kept
        assert gone <= round(high * n)
        assert gone >= min(round(low * n), n - 1) * (found.name == "0")


@pytest.mark.parametrize("share", ALLOCATIONS)
@pytest.mark.parametrize(("bound", "budget", "wanted"), [("maximum", 0.7, [6, 8]), ("minimum", 0.3, [6, 0])])
def test_a_bound_of_five_and_a_half_units_is_six(share: str, bound: str, budget: float, wanted: list[int]) -> None:
    model = nn.Sequential(nn.Linear(5, 2, bias=False), nn.Linear(5, 2, bias=False))
    model[0].get_parameter("weight").data = torch.arange(1.0, 11).reshape(2, 5) * (0.01 if bound == "maximum" else 100)
    model[1].get_parameter("weight").data = torch.arange(1.0, 11).reshape(2, 5)
    plan = pruner(share=ALLOCATIONS[share], **{bound: {"0": 0.55}}).plan(model, sc.Budget(sparsity=budget))
    gone = [part.units.n_units - part.kept for part in plan.parts]
    assert sum(gone) == sum(wanted)
    assert gone[0] <= 6 if bound == "maximum" else gone[0] >= 6


def test_unknown_names_in_bounds() -> None:
    with pytest.raises(sc.UnknownNameError, match=r"no group is named '7'; .*there are: 0, 2, 6, 8"):
        pruner(maximum={"7": 0.5}).plan(network(), sc.Budget(sparsity=0.5))


@pytest.mark.parametrize("pick", [nn.Linear, nn.Embedding])
def test_a_shared_weight_is_excluded_by_the_type_of_any_module_that_has_it(pick: type[nn.Module]) -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5), nn.Conv1d(2, 2, 2))
    model[1].weight = model[0].weight
    plan = pruner(exclude=(pick,)).plan(model, sc.Budget(sparsity=0.5))
    assert [part.units.frozen for part in plan.parts] == [f"excluded by {pick.__name__}", ""]


def test_a_type_excludes_the_groups_of_its_own_parameters_alone() -> None:
    model = nn.Sequential(Tied(), nn.Linear(4, 4))
    plan = pruner(exclude=(Tied,)).plan(model, sc.Budget(sparsity=0.5))
    assert not any(part.units.frozen for part in plan.parts)


@pytest.mark.parametrize("share", ALLOCATIONS)
def test_shares_that_rounding_would_lower_do_not_bring_units_back(share: str) -> None:
    """Rounding to an exact total may give a group fewer units for a larger budget; not once they are gone."""
    sizes = [(3, 5), (7, 2), (3, 3), (11, 4), (1, 5)]
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(ins, outs, bias=False) for ins, outs in sizes))
    made = pruner(share=ALLOCATIONS[share])
    start = None
    for step in range(41):
        plan = made.plan(model, sc.Budget(sparsity=0.7), fraction=step / 40, start=start)
        if start is not None:
            assert all(gone <= removed(plan)[name] for name, gone in removed(start).items())
        assert sum(map(len, removed(plan).values())) == round(0.7 * step / 40 * 87)
        start = plan


def test_a_start_of_other_units_is_refused() -> None:
    model = network()
    start = pruner(granularity.filter()).plan(model, sc.Budget(sparsity=0.5))
    with pytest.raises(sc.PlanError, match=r"removes units of '0', which has other units here"):
        pruner().plan(model, sc.Budget(sparsity=0.5), start=start)


def test_a_start_of_what_is_excluded_now_or_of_another_model_is_refused() -> None:
    model = network()
    start = pruner().plan(model, sc.Budget(per_group={"0": 0.5}))
    with pytest.raises(sc.PlanError, match=r"removes units of '0', which stays as it is \(excluded by 0\)"):
        pruner(exclude=("0",)).plan(model, sc.Budget(sparsity=0.5), start=start)
    other = nn.ModuleDict({"fc": nn.Linear(3, 3)})
    with pytest.raises(sc.PlanError, match="which is no group here"):
        pruner().plan(other, sc.Budget(sparsity=0.5), start=start)
    whole = pruner().plan(model, sc.Budget(sparsity=0))
    pruner().plan(other, sc.Budget(sparsity=0.5), start=whole)  # which removes nothing


def test_two_plans_united_are_a_start_of_both() -> None:
    model = network()
    one, two = (pruner(criterion=criteria.random(seed)).plan(model, sc.Budget(sparsity=0.2)) for seed in (1, 2))
    start = one & two
    plan = pruner().plan(model, sc.Budget(sparsity=0.5), start=start)
    assert all(gone <= removed(plan)[name] for first in (one, two) for name, gone in removed(first).items())
    assert plan.weights_removed == 252
