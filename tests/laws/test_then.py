"""Pruned twice is pruned once: `shrink(shrink(m, p), q)` has the bits of `shrink(m, p.then(q))`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur import granularity
from secateur.dependency import integers
from secateur.plan import Part
from secateur.workload import resize, workload
from tests.zoo.table import ZOO


def some_units(model: nn.Module, example: Any, seed: int) -> sc.Plan:
    """Of every group that is free, up to half leave."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for name, units in granularity.channel(example)(model).items():
        keep = torch.ones(units.n_units, dtype=torch.bool)
        if not units.frozen:
            gone = int(torch.randint(units.n_units // 2 + 1, (), generator=generator))
            keep[torch.randperm(units.n_units, generator=generator)[:gone]] = False
        parts.append(Part(name, units, keep))
    return sc.Plan(tuple(parts))


def same(one: nn.Module, other: nn.Module) -> bool:
    tensors, others = (
        [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        for model in (one, other)
    )
    same_names = [name for name, _ in tensors] == [name for name, _ in others]
    equal = all(torch.equal(a, b) for (_, a), (_, b) in zip(tensors, others, strict=False))
    return same_names and equal and integers(one) == integers(other)


@pytest.mark.parametrize("name", ZOO)
@settings(max_examples=2)
@given(seed=st.integers(0, 1000))
def test_pruned_twice_is_pruned_once(name: str, seed: int) -> None:
    model, example = ZOO[name].build(seed)
    first = some_units(model, example, seed)
    small = sc.shrink(model, first)
    second = some_units(small, example, seed + 1)
    assert same(sc.shrink(small, second), sc.shrink(model, first.then(second)))


NAMES = ("flatten to linear", "batch norm after flatten", "dense experts", "scan of a state space")


@pytest.mark.parametrize("name", NAMES)
def test_three_plans_in_a_row(name: str, tmp_path: Path) -> None:
    """Joined either way, read from a file, and as shapes alone."""
    model, example = ZOO[name].build()
    first = some_units(model, example, 1)
    small = sc.shrink(model, first)
    second = some_units(small, example, 2)
    smaller = sc.shrink(small, second)
    third = some_units(smaller, example, 3)
    smallest = sc.shrink(smaller, third)
    whole = first.then(second).then(third)
    whole.save(tmp_path / "plan.safetensors")
    for plan in (whole, first.then(second.then(third)), sc.Plan.load(tmp_path / "plan.safetensors")):
        assert same(smallest, sc.shrink(model, plan))
        spoken_of = {axis.parameter for part in plan.parts for axis in part.units.index}
        assert plan.nonzeros == sum(smallest.get_parameter(one).numel() for one in spoken_of)
        shapes = resize(workload(model, example), plan).parameters
        assert shapes == {key: tuple(value.shape) for key, value in smallest.named_parameters()}


def test_single_weights_of_what_channels_leave() -> None:
    """The second plan only masks: on the kept slices its masks are those of the smaller model."""
    model, example = ZOO["scan of a state space"].build()
    channels = some_units(model, example, 1)
    small = sc.shrink(model, channels)
    weights = sc.Pruner(sc.criteria.magnitude(), granularity.weight(), sc.allocation.uniform())
    second = weights.plan(small, sc.Budget(sparsity=0.5))
    masked = sc.mask(model, channels.then(second))
    assert same(sc.mask(small, second), sc.shrink(masked, channels))


def test_a_plan_for_the_larger_model_does_not_follow() -> None:
    model, example = ZOO["mlp"].build()
    first = some_units(model, example, 5)
    assert first.weights_removed
    with pytest.raises(sc.PlanError, match="in the second plan; the first one leaves"):
        first.then(first)
