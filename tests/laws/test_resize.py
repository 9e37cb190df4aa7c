"""Shapes after a plan are predicted without the model, exactly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.batches import call
from secateur.surgery import shrink
from secateur.workload import Extent, Workload, resize, workload
from tests.laws.test_shrink import random_plan
from tests.zoo.table import ZOO


def count(model: nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


def single(found: Workload) -> bool:
    """Whether a product sums over one channel; torch.einsum then runs a pointwise product instead."""
    return any(layer.operation == "bmm" and layer.input[-1] == 1 for layer in found.layers)


@pytest.mark.parametrize("name", ZOO)
@settings(max_examples=2)
@given(seed=st.integers(0, 1000))
def test_resize_equals_shrink(name: str, seed: int) -> None:
    model, example = ZOO[name].build(seed)
    plan = random_plan(model, example, seed)
    small = shrink(model, plan, prove=False)
    before = workload(model, example)
    predicted, measured = resize(before, plan), workload(small, example)
    assert before.parameter_count == count(model)
    assert predicted.parameters == measured.parameters
    assert predicted == measured or single(predicted)
    assert predicted.parameter_count == count(small)
    assert all(not isinstance(size, Extent) or size.origin for layer in before.layers for size in layer.output)


@pytest.mark.parametrize("name", ["layer norm", "mixer with layer norms", "encoder layer of torch", "group norm"])
def test_resize_equals_shrink_across_norms(name: str) -> None:
    """The workload has to be solved as the groups are."""
    model, example = ZOO[name].build()
    pruner = sc.Pruner(criteria.magnitude(), granularity.channel(example, cross_norms=True), allocation.uniform())
    plan = pruner.plan(model, sc.Budget(sparsity=0.5))
    small = shrink(model, plan, prove=False)
    assert resize(pruner.workload(model), plan) == workload(small, example)
    if any(part.units.crosses and part.sparsity for part in plan.parts):
        with pytest.raises(sc.PlanError, match="make the workload and the plan with the same"):
            resize(workload(model, example), plan)


@pytest.mark.parametrize("name", ["bottleneck", "cells of an lstm", "shuffle by view and transpose", "shifted windows"])
def test_a_workload_is_resized_twice(name: str) -> None:
    """The second plan is made on the smaller model, whose positions are others."""
    model, example = ZOO[name].build()
    found = workload(model, example)
    for seed in (3, 4):
        plan = random_plan(model, example, seed)
        found, model = resize(found, plan), shrink(model, plan, prove=False)
        assert found == workload(model, example)


def test_a_plan_for_another_model_is_refused() -> None:
    (one, example), (other, _) = ZOO["bottleneck"].build(), ZOO["depthwise separable"].build()
    wide = nn.Sequential(nn.Linear(2, 5), nn.Linear(5, 2))
    narrow = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2))
    plan = random_plan(wide, torch.zeros(1, 2), 3)
    assert plan.sparsity > 0
    with pytest.raises(sc.PlanError, match="was it made for another model"):
        resize(workload(narrow, torch.zeros(1, 2)), plan)
    with pytest.raises(sc.PlanError, match="does not have"):
        resize(workload(other, example), random_plan(one, example, 1))


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
