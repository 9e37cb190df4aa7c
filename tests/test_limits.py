"""Budgets that shapes tell: parameters, multiply-accumulates, any cost."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur import allocation, cost, criteria, granularity, schedules
from secateur.workload import CostModel, Workload, resize, workload
from tests.small import ALLOCATIONS
from tests.zoo.table import ZOO

NETWORKS = ("bottleneck", "depthwise separable", "dense concatenation", "fused attention", "flatten to linear", "gru")
MEASURES = {"macs": "macs", "parameters": "parameter_count"}


def pruner(example: Any, share: allocation.Allocation | None = None, **more: Any) -> sc.Pruner:
    return sc.Pruner(criteria.magnitude(), granularity.channel(example, **more), share or allocation.uniform())


def share_left(model: nn.Module, example: Any, plan: sc.Plan, measure: str) -> float:
    before, after = workload(model, example), workload(sc.shrink(model, plan, prove=False), example)
    left: float = getattr(after, MEASURES[measure]) / getattr(before, MEASURES[measure])
    return left


def units(plan: sc.Plan) -> tuple[int, int]:
    """Units that go, and units that are free to."""
    free = [part for part in plan.parts if not part.units.frozen]
    return sum(part.units.n_units - part.kept for part in free), sum(part.units.n_units for part in free)


@pytest.mark.parametrize("share", ALLOCATIONS)
@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=3)
@given(fraction=st.floats(0.5, 1), measure=st.sampled_from(sorted(MEASURES)))
def test_budgets_are_met_and_with_one_unit_more_they_are_not(
    name: str, share: str, fraction: float, measure: str
) -> None:
    model, example = ZOO[name].build()
    made = pruner(example, ALLOCATIONS[share])
    plan = made.plan(model, sc.Budget(**{measure: fraction}))  # type: ignore[arg-type]
    assert share_left(model, example, plan, measure) <= fraction + 1e-9
    gone, total = units(plan)
    if gone:
        fewer = made.plan(model, sc.Budget(sparsity=(gone - 1) / total))
        assert share_left(model, example, fewer, measure) > fraction


def test_more_goes_for_a_smaller_budget() -> None:
    model, example = ZOO["bottleneck"].build()
    made = pruner(example, allocation.global_())
    plans = [made.plan(model, sc.Budget(macs=fraction)) for fraction in (0.9, 0.7, 0.5, 0.3)]
    assert [units(plan)[0] for plan in plans] == sorted({units(plan)[0] for plan in plans})
    for small, large in itertools.pairwise(plans):
        for one, two in zip(small.parts, large.parts, strict=True):
            assert not bool((two.keep & ~one.keep).any())


def test_all_may_stay() -> None:
    model, example = ZOO["bottleneck"].build()
    assert pruner(example).plan(model, sc.Budget(macs=1.0)).sparsity == 0


def test_multiples_are_kept() -> None:
    model, example = ZOO["bottleneck"].build()
    plan = pruner(example, round_to=4).plan(model, sc.Budget(macs=0.5))
    assert share_left(model, example, plan, "macs") <= 0.5
    assert all(part.kept % 4 == 0 for part in plan.parts if not part.units.frozen)


def test_a_cost_is_a_budget_too() -> None:
    model, example = ZOO["bottleneck"].build()
    most = sc.Cost(macs=workload(model, example).macs // 2)
    plan = pruner(example).plan(model, sc.Budget(cost=(cost.macs(), most)))
    small = workload(sc.shrink(model, plan), example)
    assert cost.macs()(small).macs == small.macs <= (most.macs or 0)
    assert cost.parameters()(small).parameters == small.parameter_count
    assert plan.made_by["budget"] == {"cost": {"model": "macs", "macs": most.macs}}


def test_several_limits_at_once() -> None:
    """The tightest counts."""
    model, example = ZOO["bottleneck"].build()

    def both(found: Workload) -> sc.Cost:
        return sc.Cost(macs=found.macs, parameters=found.parameter_count)

    whole = both(workload(model, example))
    most = sc.Cost(macs=0.9 * (whole.macs or 0), parameters=0.4 * (whole.parameters or 0))
    plan = pruner(example).plan(model, sc.Budget(cost=(both, most)))
    assert plan.made_by["budget"]["cost"]["model"] == "both"
    assert torch.equal(plan.parts[0].keep, pruner(example).plan(model, sc.Budget(parameters=0.4)).parts[0].keep)


def test_a_cost_that_the_model_does_not_tell() -> None:
    model, example = ZOO["bottleneck"].build()
    with pytest.raises(sc.BudgetError, match=r"tells \['macs'\]; the budget limits \['seconds'\]"):
        pruner(example).plan(model, sc.Budget(cost=(cost.macs(), sc.Cost(seconds=1.0))))


@pytest.mark.parametrize("given_", [3, (cost.macs(), 3), (cost.macs(), sc.Cost()), (3, sc.Cost(macs=1))])
def test_what_is_no_cost_is_refused(given_: Any) -> None:
    with pytest.raises(sc.BudgetError, match="cost is a cost model and the cost"):
        sc.Budget(cost=given_)


@pytest.mark.parametrize("value", [-1, float("nan"), True, "3"])
def test_a_cost_is_a_number(value: Any) -> None:
    with pytest.raises(sc.BudgetError, match="at least 0; given"):
        sc.Cost(seconds=value)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("share", ["uniform", "global"])
def test_what_cannot_be_met_names_what_can(measure: str, share: str) -> None:
    model, example = ZOO["bottleneck"].build()
    made = pruner(example, ALLOCATIONS[share])
    with pytest.raises(sc.BudgetError, match=f"the closest is {measure}=") as caught:
        made.plan(model, sc.Budget(**{measure: 1e-4}))  # type: ignore[arg-type]
    closest = float(re.findall(r"closest is \w+=(\S+)", str(caught.value))[0])
    plan = made.plan(model, sc.Budget(**{measure: closest}))  # type: ignore[arg-type]
    assert share_left(model, example, plan, measure) == pytest.approx(closest, rel=1e-5)


def test_an_allocation_that_places_little_is_told_too() -> None:
    model, example = ZOO["bottleneck"].build()
    made = pruner(example, allocation.fixed({"stem": 0.5}))
    with pytest.raises(sc.BudgetError, match=r"leave at least .* the closest is macs="):
        made.plan(model, sc.Budget(macs=0.1))


def test_single_layers_cannot_tell() -> None:
    model, _ = ZOO["mlp"].build()
    made = sc.Pruner(criteria.magnitude(), granularity.weight(), allocation.uniform())
    with pytest.raises(sc.BudgetError, match=r"granularity.channel\(example\)"):
        made.plan(model, sc.Budget(cost=(cost.macs(), sc.Cost(macs=1))))


def test_a_schedule_approaches_a_budget() -> None:
    model, example = ZOO["bottleneck"].build()
    hook = sc.GradualPruning(model, pruner(example), sc.Budget(macs=0.5), schedules.linear(0, 4))
    left = []
    for _ in range(5):
        hook.step()
        assert hook.plan is not None
        left.append(share_left(model, example, hook.plan, "macs"))
    for found, wanted in zip(left, (1, 0.875, 0.75, 0.625, 0.5), strict=True):
        assert wanted - 0.15 < found <= wanted  # a unit of this network is up to a tenth of it


def test_a_saved_plan_sizes_the_same_workload(tmp_path: Path) -> None:
    model, example = ZOO["shifted windows"].build()
    plan = pruner(example).plan(model, sc.Budget(parameters=0.7))
    plan.save(tmp_path / "plan.safetensors")
    found = workload(model, example)
    assert resize(found, sc.Plan.load(tmp_path / "plan.safetensors")) == resize(found, plan)


def test_a_cost_model_is_any_function() -> None:
    """Such as one that falls in steps of 8 channels."""
    model, example = ZOO["bottleneck"].build()

    def steps(found: Workload) -> sc.Cost:
        return sc.Cost(seconds=float(sum(-(-layer.output[1] // 8) for layer in found.layers if layer.kind == "conv")))

    model_: CostModel = steps
    whole = steps(workload(model, example)).seconds or 0
    plan = pruner(example).plan(model, sc.Budget(cost=(model_, sc.Cost(seconds=whole - 2))))
    assert (steps(workload(sc.shrink(model, plan), example)).seconds or 0) <= whole - 2
