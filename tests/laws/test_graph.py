"""The graph of a smaller model computes what the masked model does, whatever its code could follow."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

import secateur as sc
from secateur import granularity
from tests.laws.test_shrink import outputs, random_parts
from tests.zoo.table import ZOO


def twice(example: Any) -> Any:
    """The batch two times."""
    return tree_map_only(Tensor, lambda one: torch.cat([one, one]), example)


def assert_equal(model: nn.Module, plan: sc.Plan, small: nn.Module, inputs: Any) -> None:
    for masked, shrunk in zip(outputs(sc.mask(model, plan), inputs), outputs(small, inputs), strict=True):
        torch.testing.assert_close(shrunk, masked, rtol=1e-4, atol=1e-4 * float(masked.abs().max()))


@pytest.mark.parametrize("name", ZOO)
@settings(max_examples=3)
@given(seed=st.integers(0, 1000))
def test_a_graph_equals_mask(name: str, seed: int) -> None:
    model, example = ZOO[name].build(seed)
    plan = random_parts(granularity.channel(example, graph=True)(model), seed)
    small = sc.shrink(model, plan, example=example, prove=False, graph=True)
    _, fresh = ZOO[name].build(seed if ZOO[name].looks else seed + 1)
    for inputs in (fresh,) if ZOO[name].looks else (fresh, twice(fresh)):
        assert_equal(model, plan, small, inputs)
