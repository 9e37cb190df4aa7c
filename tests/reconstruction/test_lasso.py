"""LASSO selection: the sparse regression, the search for its strength, and what comes of it in a model."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc
from secateur import criteria, granularity
from secateur.batches import call
from secateur.dependency.recorder import tensors_in
from secateur.reconstruction import errors, lasso, least_squares, thinet
from secateur.reconstruction.lasso import _Lasso, sparse_coefficients
from secateur.reconstruction.moments import measured
from secateur.reconstruction.observe import Reading
from secateur.reconstruction.responses import Responses, responses
from secateur.reconstruction.sites import Site
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
from tests.zoo.table import ZOO

METHODS: dict[str, Any] = {"lasso": lasso, "thinet": thinet}


def ista(Z: Tensor, y: Tensor, strength: float, steps: int = 1_000) -> Tensor:
    """Minimise `1/2 |y - Z b|^2 + strength |b|_1` by gradient steps, each followed by soft thresholding."""
    step = 1 / float(torch.linalg.matrix_norm(Z, 2)) ** 2
    beta = torch.zeros(Z.shape[1], dtype=Z.dtype)
    for _ in range(steps):
        moved = beta - step * (Z.T @ (Z @ beta - y))
        beta = moved.sign() * (moved.abs() - step * strength).clamp(min=0)
    return beta


def problem(units: int = 8, rows: int = 60, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Contributions of which three matter, on top of each other a little."""
    draw = torch.Generator().manual_seed(seed)
    Z = torch.randn(rows, units, generator=draw).double()
    Z = Z + 0.5 * Z.roll(1, 1)
    y = Z[:, :3] @ torch.tensor([3.0, -2.0, 1.0]).double() + 0.1 * torch.randn(rows, generator=draw).double()
    return Z / math.sqrt(rows), y / math.sqrt(rows)


@pytest.mark.parametrize("strength", [0.01, 0.1, 0.5, 1.5])
def test_coordinate_descent_finds_what_ista_finds(strength: float) -> None:
    Z, y = problem()
    found = _Lasso(Responses(Z.T @ Z, Z.T @ y), torch.ones(8, dtype=torch.bool), seed=0)(strength)
    torch.testing.assert_close(found, ista(Z, y, strength), rtol=1e-3, atol=1e-4)


@settings(max_examples=30)
@given(wanted=st.integers(1, 29), seed=st.integers(0, 50), start=st.sampled_from([1e-6, 1e-3, 10.0]))
def test_from_the_wanted_number_to_a_tenth_more_have_a_coefficient(wanted: int, seed: int, start: float) -> None:
    """Or the number jumps across: a little stronger, and there are fewer than wanted."""
    Z, y = problem(30, 200, seed)
    found = Responses(Z.T @ Z, Z.T @ y)
    beta, strength = sparse_coefficients(found, wanted, start)
    count = int(beta.count_nonzero())
    assert count >= wanted
    if count > 1.1 * wanted:
        stronger = _Lasso(found, torch.ones(30, dtype=torch.bool), seed=0)(strength * (1 + 1e-4))
        assert int(stronger.count_nonzero()) < wanted


@pytest.mark.parametrize("seed", range(5))
def test_planted_units_are_found(seed: int) -> None:
    Z = torch.randn(200, 30, generator=torch.Generator().manual_seed(seed)).double()
    y = Z[:, [3, 11, 20]] @ torch.tensor([3.0, -2.0, 1.0]).double()
    beta, _ = sparse_coefficients(Responses(Z.T @ Z / 200, Z.T @ y / 200), 3, 1e-3)
    assert beta.abs().argsort(descending=True)[:3].sort().values.tolist() == [3, 11, 20]


def test_responses_are_those_of_the_definition() -> None:
    """Two layers side by side, one without intercept, each in parts of its own energy; some columns are of no unit."""
    layer = next(iter(granularity.weight_layers(nn.Linear(6, 3))))
    gram, target = torch.zeros(2, 2).double(), torch.zeros(2).double()
    readings, owners = [], [torch.tensor([[0, 1, 1, -1, 0, -1]]), torch.tensor([[1, 0, -1, 0, 1, 0]])]
    for number, owner in enumerate(owners):
        X, Y, W = (torch.randn(size).double() for size in [(40, 1, 6), (40, 1, 3), (1, 6, 3)])
        constant = torch.zeros(1, 3) if number == 0 else None
        readings.append(Reading(Site(layer), measured(X, Y), W, torch.ones(1, 3).double(), constant))
        if number == 0:
            X, Y = X - X.mean(0), Y - Y.mean(0)
        parts = X[:, 0, :, None] * W[0]  # points, columns, outputs
        units = [parts[:, owner[0] == unit].sum(1).flatten() for unit in (0, 1, -1)]
        Z, energy = torch.stack(units[:2], 1), Y.square().sum()
        gram, target = gram + Z.T @ Z / energy, target + Z.T @ (Y[:, 0].flatten() - units[2]) / energy
    found = responses(readings, owners, 2)
    torch.testing.assert_close(found.gram, gram)
    torch.testing.assert_close(found.target, target)


class Copies(nn.Sequential):
    """Hidden channels 0 and 1 are copies of 2 and 3, which are read with multiples of their weights."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3))
        with torch.no_grad():
            for parameter in (self[0].weight, self[0].bias):
                parameter[2:4] = parameter[:2]
            self[2].weight[:, 2:4] = 0.5 * self[2].weight[:, :2]


@pytest.mark.parametrize("seed", range(4))
def test_a_copy_is_dropped_and_nothing_is_lost(seed: int) -> None:
    model, data = built(Copies, seed), batches(8)
    plan = plan_of(model, lasso(), data=data, sparsity=2 / 6)
    keep = plan["0"].keep
    assert [int(keep[[0, 2]].sum()), int(keep[[1, 3]].sum()), int(keep[4:].sum())] == [1, 1, 2]
    fresh = batches(1, seed=9)
    torch.testing.assert_close(outputs(sc.mask(model, plan), fresh), outputs(model, fresh), rtol=1e-3, atol=1e-3)
    with pytest.warns(UserWarning, match="inputs of 2 depend linearly"):  # the first units keep both copies
        first = plan_of(model, first_units(), data=data, sparsity=2 / 6, refit=least_squares())
    lost, more = (difference(model, sc.mask(model, one), data) for one in (plan, first))
    assert lost < 1e-3 * more


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [Plain, Residual, Stack])
def test_it_is_better_than_the_first_units(kind: Any, method: str) -> None:
    """Both mended; the network's first units are as good as any, so what is chosen on data has to be better."""
    model, data = built(kind), batches(8)
    chosen, first = (
        difference(model, sc.mask(model, plan_of(model, how, data=data, refit=refit)), data)
        for how, refit in ((METHODS[method](points=None), None), (first_units(), least_squares(points=None)))
    )
    assert chosen < first


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [Plain, Residual])
@settings(max_examples=2)
@given(seed=st.integers(0, 1000))
def test_shrunk_and_masked_agree(kind: Any, method: str, seed: int) -> None:
    model = built(kind, seed)
    plan = plan_of(model, METHODS[method](seed=seed), data=batches(4, 64))
    masked, small, fresh = sc.mask(model, plan), sc.shrink(model, plan), batches(1, seed=seed + 7)
    scale = float(outputs(masked, fresh).abs().max())
    torch.testing.assert_close(outputs(small, fresh), outputs(masked, fresh), rtol=1e-4, atol=1e-4 * scale)
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    assert plan.updates
    assert all(value.shape == state[name].shape for name, value in plan.updates.items())


@pytest.mark.parametrize("method", METHODS)
def test_units_of_several_columns(method: str) -> None:
    """Behind the flatten a channel is four columns of the linear layer; they leave together, in one coefficient."""
    model = built(Plain)
    plan = plan_of(model, METHODS[method](), 0.4, data=batches(4, 64))
    gone = ~plan["2"].keep
    columns = plan.updates["6.weight"].reshape(4, 5, 4)
    assert int(gone.sum()) == 2
    assert bool((columns[:, gone] == 0).all())
    assert bool((columns[:, ~gone] != 0).all())


@pytest.mark.parametrize("method", METHODS)
def test_every_layer_samples_its_inputs(method: str) -> None:
    """The sampler of the paper's residual blocks: the stream keeps its channels, each layer reads some of them."""
    model, data = built(Residual), batches(8)
    grain, how = granularity.input_channel(), {"data": data, "exclude": ("stem",)}
    plan = plan_of(model, METHODS[method](points=None), grain=grain, **how)
    first = plan_of(model, first_units(), grain=grain, refit=least_squares(points=None), **how)
    assert {name: int(plan[name].kept) for name in ("conv1", "conv2", "short")} == {"conv1": 3, "conv2": 4, "short": 3}
    assert bool((plan.updates["conv1.weight"][:, ~plan["conv1"].keep] == 0).all())
    assert difference(model, sc.mask(model, plan), data) < difference(model, sc.mask(model, first), data)


@pytest.mark.parametrize("method", METHODS)
def test_the_plan_says_how_far_each_layer_is_off(method: str) -> None:
    """Measured again on the same points it is the same, where no outputs have left since."""
    model, data = built(Plain), batches(8)
    plan = plan_of(model, METHODS[method](points=None), data=data)
    again = errors(model, sc.mask(model, plan), data, points=None)
    assert list(plan.made_by["error"]) == ["2", "6"]
    assert plan.made_by["error"]["6"] == pytest.approx(again["6"], rel=1e-3)


def test_more_steps_are_another_choice() -> None:
    model, data = built(Stack), batches(8)
    once, thrice = (plan_of(model, lasso(points=None, steps=steps), data=data) for steps in (1, 3))
    first = plan_of(model, first_units(), data=data, refit=least_squares(points=None))
    assert any(not torch.equal(one.keep, two.keep) for one, two in zip(once.parts, thrice.parts, strict=True))
    assert [part.kept for part in thrice.parts] == [part.kept for part in once.parts]
    lost = [difference(model, sc.mask(model, plan), data) for plan in (thrice, first)]
    assert lost[0] < lost[1]


@pytest.mark.parametrize("method", METHODS)
def test_twice_is_the_same(method: str) -> None:
    model = built(Residual)
    one, two = (plan_of(model, METHODS[method](), data=batches(4, 32)) for _ in range(2))
    assert all(torch.equal(a.keep, b.keep) for a, b in zip(one.parts, two.parts, strict=True))
    assert one.updates.keys() == two.updates.keys()
    assert all(torch.equal(value, two.updates[name]) for name, value in one.updates.items())


@pytest.mark.parametrize("method", METHODS)
def test_nothing_allocated(method: str) -> None:
    plan = plan_of(built(Plain), METHODS[method](), 0.0)
    assert plan.updates == {}
    assert plan.weights_removed == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_group_that_no_layer_reads(method: str) -> None:
    with pytest.raises(sc.ModelError, match=f"{method} has nothing to say about '0'"):
        plan_of(built(Plain), METHODS[method](), grain=granularity.filter())


@pytest.mark.parametrize("method", METHODS)
def test_a_dead_channel_goes_first(method: str) -> None:
    model = built(Plain)
    with torch.no_grad():
        model[0].weight[3], model[0].bias[3] = 0, -1.0
    plan = plan_of(model, METHODS[method](), 1 / 6, data=batches(4, 64))
    assert plan["0"].keep.tolist() == [True, True, True, False, True, True]


def test_more_dead_channels_than_may_leave() -> None:
    """Units without a response have no coefficient at any strength; as many of them stay as have to."""
    model = built(Plain)
    with torch.no_grad():
        model[0].weight[1:], model[0].bias[1:] = 0, -1.0
    plan = plan_of(model, lasso(), 0.5, data=batches(4, 64))
    assert plan["0"].kept == 3
    assert bool(plan["0"].keep[0])


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_alone(method: str) -> None:
    model = built(Residual).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    plan_of(model, METHODS[method](), data=batches(4, 32))
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "there was no batch"),
        ([(torch.zeros(2, 5, 7, 7), None)], "fails on a batch"),
        ([(torch.full((4, 3, 7, 7), torch.nan), None)], "are not finite"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_bad_data(method: str, data: Any, message: str) -> None:
    grain = granularity.channel(batches()[0][0])
    pruner = sc.Pruner(METHODS[method](), grain, sc.allocation.uniform())
    with pytest.raises(sc.DataError, match=message):
        pruner.plan(built(Plain), sc.Budget(sparsity=0.5), data=data)


@pytest.mark.parametrize("method", METHODS)
def test_data_are_asked_for(method: str) -> None:
    pruner = sc.Pruner(METHODS[method](), granularity.channel(batches()[0][0]), sc.allocation.uniform())
    with pytest.raises(sc.DataError, match=f"{method}.* needs data"):
        pruner.plan(built(Plain), sc.Budget(sparsity=0.5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lasso(steps=0), "at least one step"),
        (lambda: lasso(points=0), "at least 1"),
        (lambda: thinet(damping=-1), "at least 0"),
    ],
)
def test_numbers_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(sc.SecateurError, match=message):
        make()


def test_methods_are_named_in_the_plan() -> None:
    plan = plan_of(built(Plain), lasso(points=5, steps=2), data=batches(4, 64))
    assert plan.made_by["method"] == "lasso(points=5, steps=2)"
    assert str(least_squares(damping=0.1)) == "least_squares(points=10, damping=0.1)"
    assert str(thinet(fit="scales")) == "thinet(points=10, fit='scales')"


def test_a_refit_after_a_selection_finds_nothing_more() -> None:
    """The weights are the best ones already, but for layers that read no pruned inputs."""
    model, data = built(Plain), batches(8)
    plans = [plan_of(model, lasso(points=None), data=data, refit=refit) for refit in (None, least_squares(points=None))]
    for name, value in plans[0].updates.items():
        torch.testing.assert_close(plans[1].updates[name], value, rtol=1e-3, atol=1e-4)


def test_criteria_and_selections_share_the_budget() -> None:
    """A budget in multiply-accumulates is met by the same numbers of units."""
    model = built(Residual)
    grain = granularity.channel(batches()[0][0][:1])
    plans = [
        sc.Pruner(method, grain, sc.allocation.uniform()).plan(model, sc.Budget(macs=0.5), data=batches(4, 32))
        for method in (criteria.magnitude(), lasso())
    ]
    assert [part.kept for part in plans[0].parts] == [part.kept for part in plans[1].parts]


SPECIMENS = (
    "conv-bn-relu chain",
    "dense concatenation",
    "uneven split",
    "gated linear unit",
    "attention over branches",
    "shortcut padded with channels",
    "depthwise with multiplier",
    "few groups",
    "batch norm without weights",
    "temperature",
    "inputs by name, dict output",
    "patches unfolded",
)


@pytest.mark.filterwarnings("ignore:lasso. (inputs of|fewer than)")  # there are two samples
@pytest.mark.parametrize("name", SPECIMENS)
def test_on_the_zoo(name: str) -> None:
    """Where everything is sampled, mending makes no output worse; and the smaller model is the masked one."""
    model, example = ZOO[name].build()
    data = [(ZOO[name].build(seed)[1], None) for seed in range(3)]
    plan = plan_of(model, lasso(points=None), 0.4, data=data, grain=granularity.channel(example))
    masked, bare, small = sc.mask(model, plan), sc.mask(model, sc.Plan(plan.parts)), sc.shrink(model, plan)

    def lost(one: nn.Module) -> float:
        return sum(float((a - b).square().sum()) for a, b in zip(results(model), results(one), strict=True))

    def results(one: nn.Module) -> list[Tensor]:
        with torch.no_grad():
            return [value for inputs, _ in data for value in tensors_in(call(one, inputs))]

    assert lost(masked) <= lost(bare) * (1 + 1e-6) + 1e-6
    for one, other in zip(results(masked), results(small), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-3 * float(one.abs().max()))
