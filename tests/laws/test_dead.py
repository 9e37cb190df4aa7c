"""What plans that mask leave dead leaves, and nothing else does: the model computes what it did."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc
from secateur import granularity
from secateur.batches import call
from secateur.dependency.recorder import tensors_in
from secateur.plan import Part
from tests.zoo.table import ZOO

GRANULARITIES = {
    "weight": granularity.weight(),
    "filter": granularity.filter(),
    "input_channel": granularity.input_channel(),
}


def outputs(model: nn.Module, example: Any) -> list[Tensor]:
    with torch.no_grad():
        return list(tensors_in(call(model, example)))


def masking(model: nn.Module, kind: str, sparsity: float, seed: int) -> sc.Plan:
    """Of every layer that is free some units, perhaps all."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for name, units in GRANULARITIES[kind](model).items():
        gone = torch.rand(units.n_units, generator=generator) < (0 if units.frozen else sparsity)
        parts.append(Part(name, units, ~gone))
    return sc.Plan(tuple(parts))


def zeros(model: nn.Module) -> sc.Plan:
    """Masks what is zero already."""
    parts = []
    for name, units in granularity.weight()(model).items():
        if not units.frozen:
            (axis,) = units.index
            parts.append(Part(name, units, (model.get_parameter(axis.parameter) != 0).flatten()))
    return sc.Plan(tuple(parts))


def sizes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.named_parameters()}


def with_layers(name: str) -> bool:
    """Not bare matrices alone, of which the granularities of single layers know nothing."""
    try:
        return bool(granularity.weight()(ZOO[name].network()))
    except sc.SecateurError:
        return False


@settings(max_examples=40)
@given(
    name=st.sampled_from([name for name in ZOO if with_layers(name)]),
    kind=st.sampled_from(list(GRANULARITIES)),
    sparsity=st.sampled_from([0.5, 0.8, 0.95]),
    seed=st.integers(0, 1000),
)
def test_without_the_dead_it_computes_the_same(name: str, kind: str, sparsity: float, seed: int) -> None:
    model, example = ZOO[name].build(seed)
    plan = masking(model, kind, sparsity, seed)
    small = sc.shrink(model, plan, example=example)
    _, fresh = ZOO[name].build(seed if ZOO[name].looks else seed + 1)
    for masked, shrunk in zip(outputs(sc.mask(model, plan), fresh), outputs(small, fresh), strict=True):
        torch.testing.assert_close(shrunk, masked, rtol=1e-4, atol=1e-4 * float(masked.abs().max()))
    again = sc.shrink(small, zeros(small), example=example)
    assert sizes(again) == sizes(small)
