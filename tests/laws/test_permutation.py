"""Laws of renaming: what units are numbered, and where they lie, does not matter to scores and choices without ties."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.index_maps import Stored
from secateur.units import select
from tests.nets import one_scope

seeds = st.integers(0, 1000)


def shuffled(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 5), st.lists(st.integers(0, 4), min_size=1, max_size=30), st.floats(0, 1), seeds)
def test_units_can_be_numbered_in_any_order(scopes: int, numbers: list[int], sparsity: float, seed: int) -> None:
    scope = torch.cat([torch.arange(scopes), torch.tensor(numbers) % scopes])
    n = len(scope)
    scores, order = shuffled(n, seed).double(), shuffled(n, seed + 1)
    keep = select(one_scope(n, Stored((n,), scope, scopes)), scores, sparsity)
    renamed = select(one_scope(n, Stored((n,), scope[order], scopes)), scores[order], sparsity)
    assert torch.equal(renamed, keep[order])


def network(seed: int) -> nn.Sequential:
    """Weights without ties."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3, groups=2), nn.Linear(5, 7))
    draw = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draw)
    return model


def with_filters_moved(model: nn.Sequential, order: Tensor) -> nn.Sequential:
    """The output channels of the first layer in another order."""
    moved = copy.deepcopy(model)
    moved[0].get_parameter("weight").data = model[0].get_parameter("weight").detach()[order]
    return moved


@pytest.mark.parametrize(
    "criterion",
    [
        criteria.magnitude(1),
        criteria.magnitude(2),
        criteria.normalized(criteria.magnitude()),
        criteria.elementwise(torch.abs, within="max"),
    ],
    ids=str,
)
@settings(max_examples=20)
@given(seed=seeds)
def test_scores_move_with_their_filters(criterion: sc.Criterion, seed: int) -> None:
    model, order = network(seed), shuffled(8, seed)
    moved = with_filters_moved(model, order)
    units = granularity.filter()(model)["0"]
    (axis,) = units.index
    before, after = (
        criterion.score(sc.Group("0", units, {axis: its.get_parameter("0.weight").detach()})) for its in (model, moved)
    )
    assert torch.allclose(after, before[order], rtol=1e-6, atol=0)


@pytest.mark.parametrize("share", [allocation.uniform(), allocation.global_(), allocation.lamp()], ids=str)
@pytest.mark.parametrize(
    "units", [granularity.weight(), granularity.kernel(), granularity.vector("column"), granularity.kernel_pattern()]
)
@settings(max_examples=10)
@given(seed=seeds, sparsity=st.sampled_from([0.3, 0.5, 0.8]))
def test_masks_move_with_their_filters(
    units: granularity.Granularity, share: allocation.Allocation, seed: int, sparsity: float
) -> None:
    model, order = network(seed), shuffled(8, seed)
    made = sc.Pruner(criteria.magnitude(1), units, share)
    budget = None if "pattern" in str(units) else sc.Budget(sparsity=sparsity)
    before, after = (made.plan(its, budget).masks() for its in (model, with_filters_moved(model, order)))
    assert torch.equal(after["0.weight"], before["0.weight"][order])
    others = before.keys() - {"0.weight"}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in others)
