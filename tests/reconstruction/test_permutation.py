"""Channels in another order: the model computes the same, and N:M keeps more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.batches import call
from secateur.errors import ModelError
from secateur.reconstruction import permuted
from secateur.reconstruction.column_order import best_magnitude, column_order, kept_magnitude
from secateur.reconstruction.permutation import reorder
from tests.zoo.table import ZOO

# No linear or convolution layer with an even number of inputs.
UNFIT = {
    "weight norm over what comes in",
    "projections of three dimensions",
    "bare matrices",
    "weight of inputs times outputs",
}
seeds = st.integers(0, 100)


def matrix(seed: int, rows: int = 64, columns: int = 128) -> Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed))


def efficacy(before: Tensor, order: Any) -> float:
    default, best = kept_magnitude(before, 2, 4), best_magnitude(before, 2, 4)
    return (kept_magnitude(before[:, torch.tensor(order)], 2, 4) - default) / (best - default)


# --------------------------------------------------------------------------------- the search


def test_what_is_kept_is_what_the_pattern_keeps() -> None:
    fc = nn.Linear(16, 5)
    plan = sc.Pruner(criteria.magnitude(), granularity.pattern(2, 4), allocation.uniform()).plan(fc)
    kept = float((fc.weight.detach().abs() * plan.masks()["weight"]).sum())
    assert kept_magnitude(fc.weight.detach(), 2, 4) == pytest.approx(kept)


@given(seeds, st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 4), (4, 8), (1, 3), (2, 2)]), st.integers(1, 4))
@settings(max_examples=30)
def test_it_is_an_order_and_never_keeps_less(seed: int, pattern: tuple[int, int], stripes: int) -> None:
    n, m = pattern
    before = torch.randn(6, stripes * m, generator=torch.Generator().manual_seed(seed))
    order = column_order(before, n, m, escapes=2)
    assert sorted(order) == list(range(stripes * m))
    assert kept_magnitude(before[:, torch.tensor(order)], n, m) >= kept_magnitude(before, n, m) * (1 - 1e-6)


def test_two_stripes_are_shared_out_as_well_as_can_be() -> None:
    """Against all 35 ways."""
    from itertools import combinations

    for seed in range(10):
        before = matrix(seed, 6, 8)
        shared = [[*first, *(place for place in range(8) if place not in first)] for first in combinations(range(8), 4)]
        best = max(kept_magnitude(before[:, torch.tensor(order)], 2, 4) for order in shared)
        found = kept_magnitude(before[:, torch.tensor(column_order(before, 2, 4))], 2, 4)
        assert found == pytest.approx(best)


@pytest.mark.parametrize("seed", range(3))
def test_efficacy_on_random_matrices_is_at_least_the_published_one(seed: int) -> None:
    """Pool, Yu (2021), a random 64 x 128 matrix: greedy swaps 32.1 %, three-stripe groups 36.6 %, the default 0."""
    before = matrix(seed)
    swaps = efficacy(before, column_order(before, 2, 4, pairs=0, escapes=0))
    groups = efficacy(before, column_order(before, 2, 4, escapes=0))
    draw = torch.Generator().manual_seed(seed)
    at_random = max(efficacy(before, torch.randperm(128, generator=draw).tolist()) for _ in range(200))
    assert at_random < 0.366 < swaps <= groups + 1e-9 < 1


def test_the_published_sums_of_a_random_matrix() -> None:
    """The same paper: unpruned 4083.169, half of every row 3042.332, 2:4 in the given order 2852.376."""
    sums = torch.tensor(
        [[float(one.sum()), best_magnitude(one, 2, 4), kept_magnitude(one, 2, 4)] for one in map(matrix, range(30))]
    )
    mean, spread = sums.mean(0), sums.std(0)
    assert bool(((mean - torch.tensor([4083.169, 3042.332, 2852.376])).abs() < 3 * spread).all())


# --------------------------------------------------------------------------------- the model


@pytest.mark.parametrize("name", sorted(ZOO.keys() - UNFIT))
def test_the_model_computes_the_same(name: str) -> None:
    model, example = ZOO[name].build()
    found = permuted(model, example, granularity.pattern(1, 2), escapes=0)
    assert found.left == {}
    with torch.no_grad():
        before, after = (tree_leaves(call(one, example)) for one in (model, found.model))
    for one, two in zip(before, after, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)
    assert found.efficacy >= 0


@pytest.mark.parametrize("name", sorted(ZOO)[::6])
@given(seed=seeds)
@settings(max_examples=3)
def test_any_order_of_the_units_will_do(name: str, seed: int) -> None:
    """Not only one that gains: whatever units are alike may change places."""
    from secateur.reconstruction.permutation import _alike_units

    model, example = ZOO[name].build()
    with torch.no_grad():
        before = tree_leaves(call(model, example))
    for units in granularity.channel(example, cross_norms=True)(model).values():
        if not units.frozen:
            free = _alike_units(units).nonzero().flatten()
            order = torch.arange(units.n_units)
            order[free] = free[torch.randperm(len(free), generator=torch.Generator().manual_seed(seed))]
            reorder(model, units, order)
    with torch.no_grad():
        after = tree_leaves(call(model, example))
    for one, two in zip(before, after, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


def residual() -> nn.Module:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
            self.conv2, self.conv3 = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
            self.fc = nn.Linear(16, 5)

        def forward(self, x: Tensor) -> Any:
            x = self.bn1(self.conv1(x)).relu()
            x = x + self.conv3(self.conv2(x).relu())
            return self.fc(x.mean((2, 3)))

    torch.manual_seed(0)
    return Residual().eval()


def test_a_pruner_keeps_more_of_the_permuted_model() -> None:
    model, example = residual(), torch.randn(2, 3, 8, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = permuted(model, example, granularity.pattern(2, 4))
    pruner = sc.Pruner(criteria.magnitude(), granularity.pattern(2, 4), allocation.uniform())
    kept = []
    for one in (model, found.model):
        masks = pruner.plan(one).masks()
        kept.append(
            {name: float((one.get_parameter(name).detach().abs() * mask).sum()) for name, mask in masks.items()}
        )
    told = {f"{one.layer}.weight": (one.before, one.after) for one in found.layers}
    assert told.keys() == kept[0].keys()
    for name, (first, second) in told.items():
        assert (first, second) == pytest.approx((kept[0][name], kept[1][name]))
    assert sum(kept[1].values()) > sum(kept[0].values())
    assert 0 < found.efficacy < 1
    assert set(found.orders) == {"conv1", "conv2"}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_report_reads_as_a_table() -> None:
    found = permuted(residual(), torch.randn(2, 3, 8, 8), granularity.pattern(2, 4), escapes=0)
    lines = str(found).splitlines()
    assert [word in lines[0] for word in ("layer", "magnitude kept", "permuted", "efficacy")] == [True] * 4
    assert [one.layer for one in found.layers] == ["conv2", "conv3", "fc"]
    assert any(line.strip().startswith("total") for line in lines)


def test_a_group_that_would_change_the_model_keeps_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group in which the biases were forgotten."""
    net, example = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)), torch.randn(3, 4)
    groups = granularity.channel(example)(net)
    whole = groups["0"]
    some = {axis: index for axis, index in whole.index.items() if axis.parameter != "0.bias"}
    wrong = replace(whole, index=some, role={axis: whole.role[axis] for axis in some})
    monkeypatch.setattr("secateur.reconstruction.permutation.channel", lambda *_, **__: lambda _: {"0": wrong})
    found = permuted(net, example, granularity.pattern(2, 4))
    assert found.left == {"0": "the model computes something else with these channels in another order"}
    assert found.orders == {}
    assert found.efficacy == 0
    assert all(torch.equal(one, two) for one, two in zip(net.parameters(), found.model.parameters(), strict=True))


def test_channels_told_apart_by_plain_numbers_are_not_mixed_up() -> None:

    class Weighing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 4)
            self.factors = [float(number) for number in range(8)]

        def forward(self, x: Tensor) -> Any:
            y = self.one(x)
            for number, factor in enumerate(self.factors):
                y[:, number] *= factor
            return self.two(y)

    model, example = Weighing(), torch.randn(3, 4)
    found = permuted(model, example, granularity.pattern(2, 4))
    torch.testing.assert_close(found.model(example), model(example))


def test_a_granularity_without_a_pattern_is_refused() -> None:
    with pytest.raises(ModelError, match=r"for a fixed pattern: give granularity.pattern\(n, m\)"):
        permuted(residual(), torch.randn(2, 3, 8, 8), granularity.weight())
