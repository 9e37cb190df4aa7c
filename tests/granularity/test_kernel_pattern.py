"""Natural patterns: what a model's kernels take by themselves, and that they always reach every position."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur.errors import ModelError, PlanError
from secateur.granularity import PCONV_PATTERNS, kernel_pattern, natural_patterns
from secateur.units import select
from tests.nets import WEIGHT

KERNELS = [(3, 3), (1, 3), (2, 2), (5,), (2, 3), (1, 2), (1, 1), (3, 3, 3)]


def convolution(kernel: tuple[int, ...], channels: int, seed: int) -> nn.Module:
    kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(kernel)]
    module = kind(1, channels, kernel, bias=False)
    draw = torch.Generator().manual_seed(seed)
    module.weight.data = torch.randint(0, 4, module.weight.shape, generator=draw).float()  # ties are the rule
    return module


@given(st.sampled_from(KERNELS), st.integers(1, 30), st.integers(0, 50), st.data())
def test_natural_patterns_reach_every_position(
    kernel: tuple[int, ...], channels: int, seed: int, data: st.DataObject
) -> None:
    cells = math.prod(kernel)
    entries = data.draw(st.integers(min(2, cells), cells))
    least = math.ceil((cells - 1) / (entries - 1)) if entries > 1 else 1
    count = data.draw(st.integers(max(1, least), least + 6))
    model = convolution(kernel, channels, seed)
    if entries == 1:
        return  # a kernel of one weight has nothing to choose
    found = natural_patterns(model, entries=entries, count=count, kernel=kernel)
    assert 1 <= len(found) <= count
    assert len(set(found)) == len(found)
    assert {cell for pattern in found for cell in pattern} == set(range(cells))
    assert all(len(set(pattern)) == len(pattern) == entries for pattern in found)
    assert all(cells // 2 in pattern for pattern in found)
    kernel_pattern(found, kernel=kernel)(model)  # which would refuse patterns that do not fit


def test_most_frequent_patterns_come_from_the_largest_magnitudes() -> None:
    conv = nn.Conv2d(1, 3, (1, 3), bias=False)
    conv.weight.data = torch.tensor([[[[-5.0, 0.0, 1.0]]], [[[2.0, 9.0, -1.0]]], [[[0.0, 0.0, 3.0]]]])
    assert natural_patterns(conv, entries=2, count=5, kernel=(1, 3)) == ((0, 1), (1, 2))


def test_rare_patterns_give_way_to_those_that_reach_the_rest() -> None:
    """All kernels want the left; the right is reached by a pattern no kernel has."""
    conv = nn.Conv2d(1, 3, (1, 3), bias=False)
    conv.weight.data = torch.tensor([[[[2.0, 0.0, 1.0]]]] * 3)
    assert natural_patterns(conv, entries=2, count=2, kernel=(1, 3)) == ((0, 1), (1, 2))


@pytest.mark.parametrize(("entries", "count"), [(4, 2), (2, 7), (1, 9), (10, 8), (0, 8)])
def test_too_few_patterns_to_reach_every_position(entries: int, count: int) -> None:
    with pytest.raises(PlanError, match="cannot reach all 9 positions"):
        natural_patterns(nn.Conv2d(1, 1, 3), entries=entries, count=count)


def test_eight_patterns_of_four_weights_unless_said_otherwise() -> None:
    found = natural_patterns(convolution((3, 3), 200, seed=1))
    assert len(found) == 8
    assert {len(pattern) for pattern in found} == {4}


def test_no_kernel_of_that_size() -> None:
    with pytest.raises(ModelError, match=r"Linear has no convolution with a kernel of \(3, 3\)"):
        natural_patterns(nn.Linear(2, 2))


def test_pconv_patterns_have_four_weights_with_the_centre() -> None:
    assert len(set(PCONV_PATTERNS)) == 8
    assert all(len(set(pattern)) == 4 and 4 in pattern for pattern in PCONV_PATTERNS)
    assert {cell for pattern in PCONV_PATTERNS for cell in pattern} == set(range(9))


def test_every_kernel_keeps_its_best_pattern() -> None:
    weight = torch.rand(3, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    units = kernel_pattern()(nn.Conv2d(2, 3, 3))["weight"]
    scores = units.reduce({WEIGHT: weight})
    mask = units.expand(select(units, scores, units.full_sparsity or 0))[WEIGHT]
    for kernel, kept in zip(weight.reshape(-1, 9), mask.reshape(-1, 9), strict=True):
        wanted = max(PCONV_PATTERNS, key=lambda pattern: float(kernel[list(pattern)].sum()))
        assert tuple(kept.nonzero()[:, 0].tolist()) == wanted
