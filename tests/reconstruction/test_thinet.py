"""ThiNet's greedy choice, against doing it the long way round."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc
from secateur import granularity
from secateur.reconstruction import thinet
from secateur.reconstruction.thinet import greedy
from tests.reconstruction.networks import Plain, batches, built, difference, plan_of


def contributions(units: int, rows: int, seed: int) -> Tensor:
    return torch.randn(rows, units, generator=torch.Generator().manual_seed(seed)).double()


def slow_greedy(Z: Tensor) -> list[int]:
    """Algorithm 1: try each unit that is left, and sum up what would be missing."""
    gone: list[int] = []
    while len(gone) < Z.shape[1]:
        left = [unit for unit in range(Z.shape[1]) if unit not in gone]
        lost = {unit: float(Z[:, [*gone, unit]].sum(1).square().sum()) for unit in left}
        gone.append(min(left, key=lambda unit: lost[unit]))
    return gone


@given(units=st.integers(1, 12), rows=st.integers(1, 20), seed=st.integers(0, 1000))
def test_the_order_is_that_of_the_plain_loop(units: int, rows: int, seed: int) -> None:
    Z = contributions(units, rows, seed)
    assert greedy(Z.T @ Z).tolist() == slow_greedy(Z)


@given(units=st.integers(2, 5), seed=st.integers(0, 1000))
def test_the_first_step_is_the_best_there_is(units: int, seed: int) -> None:
    Z = contributions(units, 10, seed)
    best = min(combinations(range(units), 1), key=lambda gone: float(Z[:, list(gone)].sum(1).square().sum()))
    assert greedy(Z.T @ Z)[0] == best[0]


def test_units_that_cancel_leave_together() -> None:
    """1 and -1 to every output: no single one is small, but both together are nothing."""
    Z = torch.tensor([[1.0, 0.9, -1.0], [2.0, -1.9, -2.0]]).double()
    assert greedy(Z.T @ Z).tolist() == [1, 0, 2]
    Z = torch.tensor([[1.0, 3.0, -1.0], [2.0, 1.0, -2.0]]).double()
    assert sorted(greedy(Z.T @ Z)[:2].tolist()) == [0, 2]


def test_a_unit_that_adds_nothing_goes_first() -> None:
    model = built(Plain)
    with torch.no_grad():
        model[2].weight[:, 4] = 0
    assert plan_of(model, thinet(), 1 / 6, data=batches(4, 64))["0"].keep.tolist() == [True] * 4 + [False, True]


def test_it_is_the_choice_of_the_plain_loop_in_a_model() -> None:
    """A linear layer: contributions are columns of inputs times columns of weights, and the bias is none of them."""
    model = nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 3))
    x = torch.randn(50, 4)
    hidden = model[1](model[0](x)).detach()
    Z = (hidden[:, :, None] * model[2].weight.detach().T).permute(0, 2, 1).reshape(-1, 7).double()
    gone = slow_greedy(Z)[:3]
    plan = plan_of(model, thinet(), 3 / 7, data=[(x, None)])
    assert (~plan["0"].keep).nonzero().flatten().tolist() == sorted(gone)


def test_scales_are_least_squares_of_a_factor_for_each_unit() -> None:
    model = nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 3, bias=False))
    x = torch.randn(50, 4)
    plan = plan_of(model, thinet(fit="scales"), 3 / 7, data=[(x, None)])
    keep = plan["0"].keep
    hidden, weight = model[1](model[0](x)).detach(), model[2].weight.detach()
    Z = (hidden[:, :, None] * weight.T).permute(0, 2, 1).reshape(-1, 7)[:, keep]
    factors = torch.linalg.lstsq(Z, (hidden @ weight.T).reshape(-1, 1)).solution.flatten()
    torch.testing.assert_close(plan.updates["2.weight"][:, keep], weight[:, keep] * factors, rtol=1e-3, atol=1e-5)
    assert bool((plan.updates["2.weight"][:, ~keep] == 0).all())


def test_scales_of_inputs_of_grouped_convolutions() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 6, 3, groups=2, bias=False)).eval()
    how = {"data": batches(), "grain": granularity.input_channel(), "exclude": ("0",)}
    plan = plan_of(model, thinet(points=None, fit="scales"), **how)
    before, after = model[2].weight.detach(), plan.updates["2.weight"]
    ratio = (after / before).flatten(2)
    for group in range(2):
        factors = ratio[3 * group : 3 * group + 3]
        torch.testing.assert_close(factors, factors[:1, :, :1].expand_as(factors), rtol=1e-3, atol=1e-5)
    bare = sc.mask(model, sc.Plan(plan.parts))
    assert difference(model, sc.mask(model, plan), batches()) < difference(model, bare, batches())


def test_weights_fit_better_than_scales() -> None:
    model, data = built(Plain), batches(8)
    scales, weights = (
        difference(model, sc.mask(model, plan_of(model, thinet(points=None, fit=fit), data=data)), data)
        for fit in ("scales", "weights")
    )
    assert weights < scales


def test_another_fit_is_refused() -> None:
    with pytest.raises(sc.SecateurError, match="given: 'bias'"):
        thinet(fit="bias")  # type: ignore[arg-type]
