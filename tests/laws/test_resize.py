"""Shapes after a plan are predicted without the model, exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import secateur as sc
from secateur import allocation, cost, criteria, granularity
from secateur.batches import call
from secateur.surgery import shrink
from secateur.workload import Extent, resize, workload
from tests.laws.test_shrink import random_plan
from tests.zoo.table import ZOO


def count(model: nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


def wide(plan: sc.Plan) -> sc.Plan:
    """At least two units stay: for sizes of 1 torch runs other operations, such as a product as `mul`."""
    parts = []
    for part in plan.parts:
        keep = part.keep.clone()
        if part.kept < 2:
            keep[:2] = True
        parts.append(replace(part, keep=keep))
    return sc.Plan(tuple(parts))


@pytest.mark.parametrize("name", ZOO)
@settings(max_examples=2)
@given(seed=st.integers(0, 1000))
def test_resize_equals_shrink(name: str, seed: int) -> None:
    model, example = ZOO[name].build(seed)
    plan = wide(random_plan(model, example, seed))
    small = shrink(model, plan, prove=False)
    before = workload(model, example)
    predicted, measured = resize(before, plan), workload(small, example)
    assert before.parameter_count == count(model)
    assert predicted.layers == measured.layers
    assert predicted.parameters == measured.parameters
    assert predicted == measured
    assert predicted.parameter_count == count(small)
    assert all(not isinstance(size, Extent) or size.origin for layer in before.layers for size in layer.output)


BUDGETS = ("bottleneck", "depthwise separable", "dense concatenation", "fused attention", "flatten to linear", "gru")


@pytest.mark.parametrize("name", BUDGETS)
@pytest.mark.parametrize("measure", ["macs", "parameters"])
def test_budgets_are_met_and_not_by_a_unit_too_many(name: str, measure: str) -> None:
    model, example = ZOO[name].build()
    pruner = sc.Pruner(criteria.magnitude(), granularity.channel(example), allocation.uniform())
    plan = pruner.plan(model, sc.Budget(**{measure: 0.6}))  # type: ignore[arg-type]
    before, after = workload(model, example), workload(sc.shrink(model, plan), example)
    whole, left = (getattr(one, {"macs": "macs", "parameters": "parameter_count"}[measure]) for one in (before, after))
    assert left <= 0.6 * whole
    free = [part for part in plan.parts if not part.units.frozen]
    gone = sum(part.units.n_units - part.kept for part in free)
    fewer = pruner.plan(model, sc.Budget(sparsity=(gone - 1) / sum(part.units.n_units for part in free)))
    assert getattr(resize(before, fewer), {"macs": "macs", "parameters": "parameter_count"}[measure]) > 0.6 * whole


def test_a_cost_is_a_budget_too() -> None:
    model, example = ZOO["bottleneck"].build()
    pruner = sc.Pruner(criteria.magnitude(), granularity.channel(example), allocation.uniform())
    most = workload(model, example).macs // 2
    plan = pruner.plan(model, sc.Budget(cost=(cost.macs(), sc.Cost(macs=most))))
    assert workload(sc.shrink(model, plan), example).macs <= most


def test_what_cannot_be_met_names_the_closest() -> None:
    model, example = ZOO["bottleneck"].build()
    pruner = sc.Pruner(criteria.magnitude(), granularity.channel(example), allocation.uniform())
    with pytest.raises(sc.BudgetError, match="the closest is macs="):
        pruner.plan(model, sc.Budget(macs=0.001))


def test_single_layers_cannot_tell() -> None:
    model, _ = ZOO["mlp"].build()
    with pytest.raises(sc.BudgetError, match="channel"):
        sc.Pruner(criteria.magnitude(), granularity.weight(), allocation.uniform()).plan(model, sc.Budget(macs=0.5))


@pytest.mark.parametrize("name", ZOO)
def test_multiply_accumulates_agree_with_the_counter_of_torch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts two for each. It knows no fused recurrent layers, no fused attention of the CPU, no vectors."""
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)
    model, example = ZOO[name].build()
    found = workload(model, example)
    unknown = [layer for layer in found.layers if layer.kind == "recurrent" or layer.operation in ("mv", "dot", "vdot")]
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        call(model.requires_grad_(False), example)
    assert 2 * (found.macs - sum(layer.macs for layer in unknown)) == counter.get_total_flops()
