"""The smaller model computes what the masked one does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc
from secateur import granularity
from secateur.batches import call
from secateur.dependency.recorder import tensors_in
from secateur.plan import Part
from secateur.surgery import shrink
from secateur.surgery.shrink import cut, put_into
from secateur.units import Units
from tests.zoo.table import ZOO


def outputs(model: nn.Module, example: Any) -> list[Tensor]:
    with torch.no_grad():
        return list(tensors_in(call(model, example)))


def random_plan(model: nn.Module, example: Any, seed: int) -> sc.Plan:
    """Of every group that is free, some units leave and one at least stays."""
    return random_parts(granularity.channel(example)(model), seed)


def random_parts(groups: Mapping[str, Units], seed: int) -> sc.Plan:
    """The same of groups that are there already."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for name, units in groups.items():
        keep = torch.ones(units.n_units, dtype=torch.bool)
        if not units.frozen:
            gone = int(torch.randint(units.n_units, (), generator=generator))
            keep[torch.randperm(units.n_units, generator=generator)[:gone]] = False
        parts.append(Part(name, units, keep))
    return sc.Plan(tuple(parts))


@pytest.mark.parametrize("name", ZOO)
@settings(max_examples=3)
@given(seed=st.integers(0, 1000))
def test_shrink_equals_mask(name: str, seed: int) -> None:
    model, example = ZOO[name].build(seed)
    plan = random_plan(model, example, seed)
    small = shrink(model, plan)
    before = sum(value.numel() for value in model.parameters())
    assert type(small) is type(model)
    assert sum(value.numel() for value in small.parameters()) <= before
    _, fresh = ZOO[name].build(seed if ZOO[name].looks else seed + 1)
    for masked, shrunk in zip(outputs(sc.mask(model, plan), fresh), outputs(small, fresh), strict=True):
        torch.testing.assert_close(shrunk, masked, rtol=1e-4, atol=1e-4 * float(masked.abs().max()))


def bits(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in (*model.named_parameters(), *model.named_buffers())}


@pytest.mark.parametrize("name", ZOO)
@settings(max_examples=2)
@given(seed=st.integers(0, 1000))
def test_what_was_trained_small_goes_back_where_it_was_cut_from(name: str, seed: int) -> None:
    model, example = ZOO[name].build(seed)
    plan = random_plan(model, example, seed)
    masked, small = sc.mask(model, plan), cut(model, plan)
    before, removed = bits(sc.mask(model, plan)), plan.masks()
    put_into(masked, small, plan)
    rescaled = {key for part in plan.parts for key in part.units.rescaled}  # divided by what they were multiplied with
    assert all(torch.equal(value, before[key]) for key, value in bits(masked).items() if key not in rescaled)
    for key in rescaled:
        torch.testing.assert_close(masked.get_parameter(key), sc.mask(model, plan).get_parameter(key))
    with torch.no_grad():
        for value in small.parameters():
            value.add_(1)
    put_into(masked, small, plan)
    for key, value in cut(masked, plan).named_parameters():
        if key in rescaled:
            torch.testing.assert_close(value, small.get_parameter(key))
        else:
            assert torch.equal(value, small.get_parameter(key))
    for key, mask in removed.items():
        assert not bool(masked.get_parameter(key)[~mask].any())
