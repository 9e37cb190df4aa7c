"""Distances between filters against two loops."""

from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, granularity
from secateur.criteria import Group, fpgm
from secateur.errors import ModelError
from secateur.testing import check_criterion
from tests.nets import LAYERS, layer


def scores(model: nn.Module, build: granularity.Granularity, name: str = "weight") -> Tensor:
    units = build(model)[name]
    held = {axis: model.get_parameter(axis.parameter).detach() for axis in units.index}
    return fpgm().score(Group(name, units, held))


def two_loops(filters: Tensor) -> Tensor:
    """The definition, in double precision."""
    rows = filters.detach().double().flatten(1)
    return torch.stack([sum((one - other).square().sum().sqrt() for other in rows) for one in rows]).float()  # type: ignore[misc]


@given(st.integers(1, 40), st.integers(2, 6), st.integers(0, 99))
def test_sums_are_those_of_two_loops(count: int, size: int, seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Linear(size, count)
    assert torch.allclose(scores(model, granularity.filter()), two_loops(model.weight), rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", LAYERS)
def test_filters_of_every_layer(kind: str) -> None:
    module = layer(kind)
    weight, groups = module.weight, getattr(module, "groups", 1)
    if "transposed" in kind:  # the filters of a group lie along its second axis
        weight = torch.cat([part.transpose(0, 1) for part in weight.chunk(groups)])
    assert torch.allclose(scores(module, granularity.filter()), two_loops(weight), rtol=1e-6, atol=0)


def test_in_blocks_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Conv2d(3, 10, 3)
    whole = scores(model, granularity.filter())
    monkeypatch.setattr(sys.modules[fpgm.__module__], "DISTANCES", 30)  # three rows of ten at a time, the last alone
    assert torch.allclose(scores(model, granularity.filter()), whole, rtol=1e-6, atol=0)


def test_far_from_the_origin_near_filters_are_still_told_apart() -> None:
    """Squares of a million differ in their twelfth digit; the filters are 1, 1 and 2 apart."""
    model = nn.Linear(40, 3, bias=False)
    model.weight.data = torch.full((3, 40), 2.0**20)
    model.weight.data[1, 0] += 1
    model.weight.data[2, 0] += 2
    assert torch.allclose(scores(model, granularity.filter()), torch.tensor([3.0, 2.0, 3.0]), rtol=1e-6, atol=0)


def test_equal_filters_are_at_no_distance() -> None:
    model = nn.Linear(7, 30, bias=False)
    model.weight.data[:] = torch.randn(7)
    assert torch.allclose(scores(model, granularity.filter()), torch.zeros(30), atol=1e-6)


def test_moving_all_filters_changes_nothing_and_scaling_scales() -> None:
    model = nn.Conv2d(2, 6, 3)
    before = scores(model, granularity.filter())
    model.weight.data *= 4
    assert torch.allclose(scores(model, granularity.filter()), 4 * before, rtol=1e-6, atol=0)
    model.weight.data = model.weight.data.double() + torch.randn(1, 2, 3, 3, dtype=torch.float64)
    moved = scores(model, granularity.filter())
    assert moved.dtype == torch.float64
    assert torch.allclose(moved.float(), 4 * before, rtol=1e-6, atol=0)


def test_kernels_are_compared_with_all_kernels_of_a_layer() -> None:
    model = nn.Conv2d(3, 4, 3)
    assert torch.allclose(scores(model, granularity.kernel()), two_loops(model.weight.flatten(0, 1)), rtol=1e-6, atol=0)


class Sum(nn.Module):
    """A layer whose first three channels are added to one layer's, and the last two to another's."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.both, self.out = nn.Linear(4, 3), nn.Linear(6, 2), nn.Linear(7, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.out(torch.cat([self.a(x[:, :4]), self.b(x[:, :6])], 1) + self.both(x)))


def test_all_that_makes_a_channel_is_compared_side_by_side() -> None:
    model = Sum()
    found = scores(model, granularity.channel(torch.zeros(1, 7)), "a")
    assert torch.allclose(found, two_loops(torch.cat([model.a.weight, model.both.weight[:3]], 1)), rtol=1e-6, atol=0)


def test_units_of_several_rows_are_compared_as_wholes() -> None:
    class Grouped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.out = nn.Linear(3, 8), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            one, other = self.first(x).chunk(2, -1)
            return torch.as_tensor(self.out(one * other))

    model = Grouped()
    found = scores(model, granularity.channel(torch.zeros(1, 3)), "first")
    pairs = torch.stack([model.first.weight[:4], model.first.weight[4:]], 1)
    assert torch.allclose(found, two_loops(pairs), rtol=1e-6, atol=0)


def test_the_most_replaceable_goes_first() -> None:
    model = nn.Linear(1, 5, bias=False)
    model.weight.data = torch.tensor([[0.1], [9.0], [10.0], [11.0], [20.0]])
    units = granularity.filter()
    with pytest.raises(ModelError, match="single weights"):
        scores(model, units)
    wide = nn.Linear(2, 5, bias=False)
    wide.weight.data = torch.cat([model.weight.data, torch.zeros(5, 1)], 1)
    plan = sc.Pruner(fpgm(), units, allocation.uniform()).plan(wide, sc.Budget(sparsity=0.2))
    assert plan["weight"].keep.tolist() == [True, True, False, True, True]  # the median, and by no means the smallest


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (granularity.weight(), "are single weights"),
        (granularity.pattern(2, 4), "are single weights"),
        (granularity.input_channel(), "make no output channels"),
        (granularity.kernel_pattern(), "overlap"),
        (granularity.block(3, 5), "are of unequal sizes"),
    ],
    ids=str,
)
def test_where_distances_say_nothing_it_says_so(build: granularity.Granularity, what: str) -> None:
    with pytest.raises(ModelError, match=rf"those of group 'weight' {what}: use granularity\.filter\(\)"):
        scores(nn.Conv2d(4, 4, 3), build)


def test_it_conforms() -> None:
    check_criterion(fpgm())
