"""Shapes after a plan are predicted without the model, exactly."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur import granularity
from secateur.plan import Part
from secateur.surgery import shrink
from secateur.workload import from_solution, resize, workload
from tests.laws.test_shrink import random_plan
from tests.zoo.table import ZOO


def count(model: nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


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
    assert predicted.layers == measured.layers
    assert predicted.parameters == measured.parameters
    assert predicted == measured
    assert predicted.parameter_count == count(small)
    assert all(type(size) is int or size.origin for layer in before.layers for size in layer.output)
