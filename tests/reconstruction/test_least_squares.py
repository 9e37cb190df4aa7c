"""Least squares: what stays takes over from what leaves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.reconstruction import errors, lasso, least_squares, thinet
from secateur.reconstruction.moments import measured
from secateur.reconstruction.sites import weight_matrix
from secateur.reconstruction.solve import fitted
from tests.reconstruction.networks import (
    Plain,
    Residual,
    Stack,
    batches,
    built,
    difference,
    first_units,
    outputs,
    plan_of,
)

KINDS = [Plain, Residual]
GRAINS: dict[str, Any] = {
    "weight": granularity.weight(),
    "filter": granularity.filter(),
    "input_channel": granularity.input_channel(),
    "kernel": granularity.kernel(),
}


def regression(draw: Any, groups: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs, outputs, weights and what is kept of them; seldom as many points as columns."""
    points, columns, outs = (draw(st.integers(1, most)) for most in (12, 6, 4))
    made = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    X = torch.randn(points, groups, columns, generator=made).double()
    Y = torch.randn(points, groups, outs, generator=made).double()
    keep = torch.rand(groups, columns, outs, generator=made) > draw(st.sampled_from([0.0, 0.3, 0.6]))
    return X, Y, torch.randn(groups, columns, outs, generator=made).double() * keep, keep


def squared_error(X: Tensor, Y: Tensor, W: Tensor) -> float:
    return float((Y - torch.einsum("mgp,gpn->mgn", X, W)).square().sum())


@given(data=st.data(), damping=st.sampled_from([0.0, 0.01, 1.0]))
def test_the_error_never_grows(data: st.DataObject, damping: float) -> None:
    X, Y, W, keep = regression(data.draw)
    new, _ = fitted(measured(X, Y), W, keep, damping=damping)
    before, after = squared_error(X, Y, W), squared_error(X, Y, new)
    assert after <= before * (1 + 1e-9) + 1e-9
    assert bool((new[~keep] == 0).all())


@given(data=st.data())
def test_moments_know_the_error(data: st.DataObject) -> None:
    X, Y, W, _ = regression(data.draw)
    moments = measured(X, Y)
    torch.testing.assert_close(float(moments.error(W).sum()), squared_error(X, Y, W), rtol=1e-9, atol=1e-9)
    wanted = squared_error(X - X.mean(0), Y - Y.mean(0), W)
    torch.testing.assert_close(float(moments.centred().error(W).sum()), wanted, rtol=1e-9, atol=1e-9)
    halves = measured(X[:1], Y[:1]) + measured(X[1:], Y[1:])
    torch.testing.assert_close(halves.xx, moments.xx)


def test_it_is_what_lstsq_finds() -> None:
    X, Y = torch.randn(50, 1, 6).double(), torch.randn(50, 1, 3).double()
    keep = torch.tensor([1, 0, 1, 1, 0, 1]).bool()[None, :, None].expand(1, 6, 3)
    W = torch.randn(1, 6, 3).double() * keep
    found, singular = fitted(measured(X, Y), W, keep)
    left = keep[0, :, 0]
    torch.testing.assert_close(found[0][left], torch.linalg.lstsq(X[:, 0, left], Y[:, 0]).solution)
    assert not singular


def test_without_loss_weights_come_back() -> None:
    X, W = torch.randn(50, 2, 6), torch.randn(2, 6, 3)
    Y = torch.einsum("mgp,gpn->mgn", X, W)
    found, _ = fitted(measured(X, Y), W, torch.ones_like(W, dtype=torch.bool))
    torch.testing.assert_close(found.float(), W, rtol=1e-5, atol=1e-5)


def test_a_direction_that_the_data_never_take_stays() -> None:
    """Two points in four columns of which one is always 0."""
    X = torch.tensor([[[1.0, 1.0, 2.0, 0.0]], [[2.0, 2.0, 1.0, 0.0]]]).double()
    W = torch.tensor([[[1.0], [3.0], [5.0], [7.0]]]).double()
    Y = torch.einsum("mgp,gpn->mgn", X, W + torch.tensor([[[1.0], [1.0], [0.0], [0.0]]]))
    found, singular = fitted(measured(X, Y), W, torch.ones_like(W, dtype=torch.bool))
    assert singular
    torch.testing.assert_close(found.flatten(), torch.tensor([2.0, 4.0, 5.0, 7.0]).double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=2)
@given(seed=st.integers(0, 1000))
def test_channels_plain_shrunk_and_masked_agree(kind: Any, seed: int) -> None:
    model = built(kind, seed)
    plan = plan_of(model, criteria.magnitude(), data=batches(4, 64), refit=least_squares(seed=seed))
    masked, small = sc.mask(model, plan), sc.shrink(model, plan)
    fresh = batches(1, seed=seed + 7)
    scale = float(outputs(masked, fresh).abs().max())
    torch.testing.assert_close(outputs(small, fresh), outputs(masked, fresh), rtol=1e-4, atol=1e-4 * scale)
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    assert plan.updates
    assert all(value.shape == state[name].shape for name, value in plan.updates.items())


@pytest.mark.parametrize("kind", KINDS)
def test_it_lowers_the_error_of_every_layer_and_of_the_output(kind: Any) -> None:
    model, data = built(kind), batches(8)
    bare = sc.mask(model, plan_of(model, criteria.magnitude(), data=data))
    plan = plan_of(model, criteria.magnitude(), data=data, refit=least_squares(points=None))
    mended = sc.mask(model, plan)
    before, after = (errors(model, one, data, points=None) for one in (bare, mended))
    assert all(after[name] <= before[name] + 1e-9 for name in before)
    assert difference(model, mended, data) < 0.5 * difference(model, bare, data)


@pytest.mark.parametrize("grain", GRAINS)
def test_other_granularities(grain: str) -> None:
    model, data = built(Plain), batches(8)
    plans = [
        plan_of(model, criteria.magnitude(), data=data, grain=GRAINS[grain], refit=refit)
        for refit in (None, least_squares(points=None))
    ]
    bare, mended = (sc.mask(model, plan) for plan in plans)
    assert all(torch.equal(one.keep, two.keep) for one, two in zip(plans[0].parts, plans[1].parts, strict=True))
    assert difference(model, mended, data) < difference(model, bare, data)


def test_each_output_of_single_weights_has_its_own_system() -> None:
    fc = nn.Linear(6, 3)
    x = torch.randn(40, 6)
    plan = plan_of(fc, criteria.magnitude(), data=[(x, None)], grain=granularity.weight(), refit=least_squares())
    mask, wanted = plan.masks()["weight"], fc(x)
    for row in range(3):
        columns = torch.cat([x[:, mask[row]], torch.ones(40, 1)], dim=1)
        solution = torch.linalg.lstsq(columns, wanted[:, row].detach()).solution
        torch.testing.assert_close(plan.updates["weight"][row][mask[row]], solution[:-1], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(plan.updates["bias"][row], solution[-1], rtol=1e-3, atol=1e-4)


def test_the_intercept_of_a_layer_without_bias_goes_into_the_norm() -> None:
    """What leaves is constant: only the mean that the norm subtracts has to change, and nothing is lost."""
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 4, 1, bias=False), nn.BatchNorm2d(4)).eval()
    first, norm = model[0], model[2]
    assert isinstance(norm.running_mean, Tensor)
    norm.running_mean.normal_()
    norm.running_var.uniform_(1, 2)
    nn.init.zeros_(first.weight[0])
    nn.init.constant_(first.bias[0], 5.0)
    keep = sc.Criterion("second", lambda group: torch.arange(float(group.units.n_units)))
    plan = plan_of(model, keep, exclude=("1",), refit=least_squares())
    assert plan["0"].keep.tolist() == [False, True]
    assert set(plan.updates) == {"1.weight", "2.running_mean"}
    data = batches(1, seed=5)
    for small in (sc.mask(model, plan), sc.shrink(model, plan)):
        torch.testing.assert_close(outputs(small, data), outputs(model, data), rtol=1e-4, atol=1e-4)


def test_a_layer_with_neither_bias_nor_norm_gets_no_intercept() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, bias=False))
    data = [(torch.randn(30, 3), None)]
    plan = plan_of(model, first_units(), data=data, refit=least_squares())
    assert set(plan.updates) == {"2.weight"}
    hidden = torch.relu(model[0](data[0][0])).detach()
    keep = plan["0"].keep
    solution = torch.linalg.lstsq(hidden[:, keep], model(data[0][0]).detach()).solution
    torch.testing.assert_close(plan.updates["2.weight"][:, keep].T, solution, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", [None, lasso, thinet])
def test_branches_make_up_for_shortcuts(method: Any) -> None:
    """Only hidden channels of the blocks leave; the later a block, the more its shortcut has lost before it."""
    model, data = built(Stack), batches(8)
    lost = {}
    for branches in (True, False):
        if method is None:
            how = {"method": criteria.magnitude(), "refit": least_squares(points=None, branches=branches)}
        else:
            how = {"method": method(points=None, branches=branches)}
        plan = plan_of(model, data=data, exclude=("stem",), **how)
        lost[branches] = difference(model, sc.mask(model, plan), data)
    assert lost[True] < 0.9 * lost[False]


def test_nothing_removed_changes_nothing() -> None:
    assert plan_of(built(Plain), criteria.magnitude(), 0.0, refit=least_squares()).updates == {}


def test_shuffled_and_exhausted_data() -> None:
    """The two models see one batch side by side, so its order is of no matter; a generator is read once."""
    model = built(Plain)
    images = torch.cat([x for x, _ in batches(4)])
    loader = DataLoader(TensorDataset(images, torch.zeros(len(images))), batch_size=16, shuffle=True)
    pruner = sc.Pruner(
        criteria.magnitude(), granularity.channel(images[:1]), allocation.uniform(), refit=least_squares(points=None)
    )
    plans = [
        pruner.plan(model, sc.Budget(sparsity=0.5), data=data)
        for data in (loader, (batch for batch in batches(4)), batches(4))
    ]
    for name, value in plans[2].updates.items():
        for plan in plans[:2]:
            torch.testing.assert_close(plan.updates[name], value, rtol=1e-3, atol=1e-4)


def test_model_hooks_and_generator_are_left_alone() -> None:
    model = built(Residual).train()
    model.bn.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    plan_of(model, criteria.magnitude(), refit=least_squares())
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_hooks_leave_when_the_data_are_bad() -> None:
    model = built(Plain)
    with pytest.raises(
        sc.DataError, match=r"Plain fails on a batch of the calibration data, inputs of shapes \[\(2, 5"
    ):
        least_squares()(model, plan_of(model, criteria.magnitude()), [(torch.zeros(2, 5, 7, 7), None)])
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "least_squares needs data"),
        ([], "there was no batch"),
        ([torch.zeros(4, 3, 7, 7)], "expected a pair"),
        ([(torch.full((4, 3, 7, 7), torch.nan), None)], "'0' are not finite"),
    ],
)
def test_bad_data(data: Any, message: str) -> None:
    model = built(Plain)
    plan = plan_of(model, criteria.magnitude())
    with pytest.raises(sc.DataError, match=message):
        least_squares()(model, plan, data)


def test_negative_damping_is_refused() -> None:
    with pytest.raises(sc.SecateurError, match=r"at least 0.*-1"):
        least_squares(damping=-1)


def test_few_points_are_said() -> None:
    model = built(Plain)
    with pytest.warns(
        UserWarning, match="least_squares: fewer than 2 points.* of 2, 6; inputs of 2, 6 depend linearly"
    ):
        plan_of(model, criteria.magnitude(), 0.3, data=batches(1, 4), refit=least_squares(points=1))


def test_only_layers_that_lose_weights() -> None:
    """Behind zero filters a layer has all its weights; so nothing is to be done there, unless asked for."""
    model, data = built(Stack), batches(8)
    how = {"data": data, "exclude": ("stem",)}
    few, all_ = (plan_of(model, criteria.magnitude(), refit=least_squares(everywhere=some), **how) for some in (0, 1))
    assert {name for name in few.updates if "weight" in name} == {f"outer.{number}.weight" for number in range(4)}
    assert {name for name in all_.updates if "inner" in name}
    lost = [difference(model, sc.mask(model, plan), data) for plan in (few, sc.Plan(few.parts))]
    assert lost[0] < lost[1]


def test_channels_across_norms_are_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3))
    x = torch.randn(20, 4)
    grain = granularity.channel(x, cross_norms=True)
    with pytest.raises(sc.PlanError, match="'0' takes channels out of a mean or variance"):
        plan_of(model, criteria.magnitude(), data=[(x, None)], grain=grain, refit=least_squares())


def test_weights_in_half_precision() -> None:
    model = built(Plain).bfloat16()
    data: Any = [(x.bfloat16(), None) for x, _ in batches()]
    plan = plan_of(model, criteria.magnitude(), data=data, refit=least_squares(points=None))
    bare = sc.mask(model, plan_of(model, criteria.magnitude(), data=data))
    assert plan.updates["2.weight"].dtype == torch.bfloat16
    assert difference(model, sc.mask(model, plan), data) < difference(model, bare, data)


def test_an_update_survives_a_file(tmp_path: Any) -> None:
    model = built(Plain)
    plan = plan_of(model, criteria.magnitude(), refit=least_squares())
    plan.save(tmp_path / "plan")
    again = sc.Plan.load(tmp_path / "plan")
    assert torch.equal(outputs(sc.mask(model, again), batches()), outputs(sc.mask(model, plan), batches()))


def test_matrices_of_grouped_convolutions_are_mended_group_by_group() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 6, 3, groups=2)).eval()
    data = batches()
    grain = granularity.input_channel()
    bare, plan = (
        plan_of(model, criteria.magnitude(), data=data, grain=grain, exclude=("0",), refit=refit)
        for refit in (None, least_squares(points=None))
    )
    mask = plan.masks()["2.weight"]
    assert bool((plan.updates["2.weight"][~mask] == 0).all())
    assert difference(model, sc.mask(model, plan), data) < difference(model, sc.mask(model, bare), data)
    assert weight_matrix(next(iter(granularity.weight_layers(model[2]))), mask).shape == (2, 36, 3)
