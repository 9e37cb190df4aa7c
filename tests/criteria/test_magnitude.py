"""Norms of units, by hand and against torch."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from secateur import criteria, granularity
from secateur.criteria import Group
from secateur.errors import SecateurError
from secateur.index_maps import Arange, Stored
from secateur.units import ParameterAxis, Units
from tests.nets import WEIGHT


def scores(criterion: criteria.Criterion, build: granularity.Granularity, model: nn.Module) -> Tensor:
    (units,) = build(model).values()
    return criterion.score(Group("it", units, {WEIGHT: model.get_parameter("weight").detach()}))


def linear(rows: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.weight.data = torch.tensor(rows)
    return layer


@pytest.mark.parametrize(("p", "wanted"), [(1, [7, 6]), (2, [5, 6]), (math.inf, [4, 6]), (3, [91 ** (1 / 3), 6])])
def test_norms_of_rows(p: float, wanted: list[float]) -> None:
    found = scores(criteria.magnitude(p), granularity.filter(), linear([[3.0, -4.0], [0.0, -6.0]]))
    assert torch.allclose(found, torch.tensor(wanted, dtype=torch.float32))


@given(st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0, math.inf]), st.integers(0, 50))
def test_norms_are_those_of_torch(p: float, seed: int) -> None:
    model = nn.Conv2d(3, 4, 3)
    model.weight.data = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    found = scores(criteria.magnitude(p), granularity.kernel(), model)
    wanted = torch.linalg.vector_norm(model.weight.detach(), p, dim=(2, 3)).flatten()
    assert torch.allclose(found, wanted, rtol=1e-5, atol=0)


@pytest.mark.parametrize("p", [0.5, 1, 2, 3, math.inf])
def test_a_single_weight_is_its_magnitude_exactly_however_small(p: float) -> None:
    tiny = [[1e-30, -2e-30], [3e-38, -1e38]]
    found = scores(criteria.magnitude(p), granularity.weight(), linear(tiny))
    assert torch.equal(found, torch.tensor(tiny).abs().flatten())


def test_as_many_overlapping_units_as_weights_are_still_norms_of_several() -> None:
    """Three patterns of two weights on a kernel of three: as many units as weights, but no single weights."""
    conv = nn.Conv2d(1, 1, (1, 3), bias=False)
    conv.weight.data = torch.tensor([[[[3.0, 4.0, 0.0]]]])
    patterns = granularity.kernel_pattern([(0, 1), (1, 2), (0, 2)], kernel=(1, 3))
    assert scores(criteria.magnitude(2), patterns, conv).tolist() == [5, 4, 3]


def test_as_many_units_as_weights_some_of_them_empty() -> None:
    pairs = Stored((4,), torch.tensor([0, 0, 1, -1]), 4)
    units = Units({WEIGHT: pairs}, Arange((4,), repeat=(4,)), {WEIGHT: "out"})
    group = Group("it", units, {WEIGHT: torch.tensor([3.0, 4.0, -2.0, 9.0])})
    assert criteria.magnitude(2).score(group).tolist() == [5, 2, 0, 0]


def test_half_precision_is_widened_before_it_is_summed() -> None:
    model = nn.Linear(4096, 1, bias=False)
    model.weight.data.fill_(0.01)
    half = model.to(torch.bfloat16)
    value = float(half.weight.detach()[0, 0])
    (found,) = scores(criteria.magnitude(1), granularity.filter(), half)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(4096 * value, rel=1e-5)  # bfloat16 sums would end near 1


def test_several_parameters_of_a_unit_are_averaged_and_only_weights_count() -> None:
    first, second, bias = (ParameterAxis(name, axis) for name, axis in (("a", 0), ("b", 1), ("c", 0)))
    channels = Arange((2, 2), repeat=(1, 2))
    index = {first: channels, second: Arange((2, 2), repeat=(2, 1)), bias: Arange((2,))}
    units = Units(index, Arange((2,), repeat=(2,)), {first: "out", second: "in", bias: "bias"})
    weights = {first: torch.tensor([[3.0, 4.0], [0.0, 1.0]]), second: torch.tensor([[6.0, 0.0], [8.0, 7.0]])}
    group = Group("it", units, {**weights, bias: torch.tensor([100.0, 100.0])})
    assert criteria.magnitude(2).score(group).tolist() == [(5 + 10) / 2, (1 + 7) / 2]


@pytest.mark.parametrize("p", [0, -1, float("nan")])
def test_the_order_is_above_zero(p: float) -> None:
    with pytest.raises(SecateurError, match=f"above 0 .*given: {p}"):
        criteria.magnitude(p)


def test_names() -> None:
    assert [str(criteria.magnitude(p)) for p in (1, 2, 0.5, math.inf)] == [
        "magnitude(p=1)",
        "magnitude(p=2)",
        "magnitude(p=0.5)",
        "magnitude(p=inf)",
    ]


@pytest.mark.parametrize(("p", "size"), [(2, 1e25), (2, 1e-25), (32, 0.01), (32, 100.0)])
def test_norms_neither_overflow_nor_vanish(p: float, size: float) -> None:
    found = scores(criteria.magnitude(p), granularity.filter(), linear([[size, 0.0], [2 * size, 0.0]]))
    assert found.dtype == torch.float32
    assert torch.allclose(found, torch.tensor([size, 2 * size]), rtol=1e-6, atol=0)
