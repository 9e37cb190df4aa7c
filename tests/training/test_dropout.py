"""Dropout for pruned networks: rates from counted connections, fed by the layer that ran last, put back afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc
from secateur import granularity
from secateur.index_maps import Arange
from secateur.plan import Part, Plan
from secateur.training import adjusted_dropout
from secateur.units import ParameterAxis, Units
from tests.small import pruner

pytestmark = pytest.mark.usefixtures("seeded")  # which leaves the global generator as it was


def part(model: nn.Module, layer: str, gone: int) -> Part:
    """A layer that loses its first few weights."""
    units = granularity.weight()(model)[layer]
    return Part(layer, units, torch.arange(units.n_units) >= gone)


def rates_of(model: nn.Module, plan: Plan, example: Tensor) -> dict[str, float]:
    with adjusted_dropout(model, plan, example) as rates:
        assert {name: model.get_submodule(name).p for name in rates} == rates
        return dict(rates)


# ------------------------------------------------------------------------------------- formula


def stack(first: float = 0.5, second: float = 0.8) -> nn.Sequential:
    """Dropouts before the first layer, after it, and after an activation behind the second."""
    return nn.Sequential(
        nn.Dropout(0.2),
        nn.Linear(4, 4),
        nn.Dropout(first),
        nn.Linear(4, 2),
        nn.ReLU(),
        nn.Dropout(second),
        nn.Linear(2, 1),
    )


def test_each_dropout_goes_by_the_layer_that_feeds_it() -> None:
    """4 of 16 connections stay: the root of 1/4; then 2 of 8: the same; that before any layer stays."""
    model = stack()
    plan = Plan((part(model, "1", 12), part(model, "3", 6), part(model, "6", 1)))
    assert rates_of(model, plan, torch.zeros(1, 4)) == {"2": 0.25, "5": 0.4}
    assert [model[place].p for place in (0, 2, 5)] == [0.2, 0.5, 0.8]


@given(p=st.floats(0, 1), gone=st.tuples(st.integers(0, 16), st.integers(0, 8)))
def test_the_rate_falls_with_the_root_of_the_connections_left(p: float, gone: tuple[int, int]) -> None:
    model = stack(p, p)
    plan = Plan((part(model, "1", gone[0]), part(model, "3", gone[1])))
    kept = [
        int((plan.masks().get(f"{layer}.weight", torch.ones(16 if layer == 1 else 8)) != 0).sum()) for layer in (1, 3)
    ]
    assert kept == [16 - gone[0], 8 - gone[1]]
    found = rates_of(model, plan, torch.zeros(1, 4))
    assert found == {"2": p * math.sqrt(kept[0] / 16), "5": p * math.sqrt(kept[1] / 8)}
    assert all(0 <= rate <= p for rate in found.values())


@pytest.mark.parametrize("kind", [nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout])
def test_every_kind_of_dropout_is_adjusted(kind: Callable[[float], nn.Module]) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), kind(0.6), nn.ReLU())
    units = granularity.filter()(model)
    plan = Plan((Part("0", units["0"], torch.tensor([True, False, False, False])),))
    assert rates_of(model, plan, torch.zeros(1, 1, 6, 6)) == {"1": 0.3}


def test_a_layer_that_keeps_everything_leaves_the_rate_behind_it() -> None:
    model = stack()
    excluded = pruner(exclude=("3",)).plan(model, sc.Budget(sparsity=0.5))
    assert "3.weight" not in excluded.masks()
    kept = int(excluded.masks()["1.weight"].sum())
    assert kept < 16
    assert rates_of(model, excluded, torch.zeros(1, 4)) == {"2": 0.5 * math.sqrt(kept / 16), "5": 0.8}


def test_connections_are_weights_of_layers_and_not_the_scales_of_a_norm() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Dropout(0.5))
    scale = ParameterAxis("1.weight")
    scales = Units({scale: Arange((4,))}, Arange((4,), repeat=(4,)), {scale: "norm_scale"})
    plan = Plan((part(model, "0", 9), Part("scales", scales, torch.ones(4, dtype=torch.bool))))
    assert rates_of(model, plan, torch.zeros(1, 3)) == {"2": 0.25}


# --------------------------------------------------------------------------- which layer feeds it


class Backwards(nn.Module):
    """Modules in an order that is not the one in which they run; one layer and one dropout run twice."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Dropout(0.5)
        self.second = nn.Linear(4, 4)
        self.early = nn.Dropout(0.5)
        self.first = nn.Linear(4, 4)
        self.twice = nn.Dropout(0.5)
        self.unused = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.early(self.first(x)))
        x = self.twice(self.late(self.second(x)))
        return torch.as_tensor(self.first(x))


def test_the_order_is_that_of_the_forward_pass() -> None:
    model = Backwards()
    plan = Plan((part(model, "second", 15), part(model, "first", 12)))
    assert rates_of(model, plan, torch.zeros(1, 4)) == {"early": 0.25, "late": 0.125, "twice": 0.125}


def test_a_layer_that_runs_again_feeds_what_follows_it() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step, self.other, self.drop = nn.Linear(4, 4), nn.Linear(4, 4), nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.drop(self.step(self.other(self.step(x)))))

    model = Recurrent()
    plan = Plan((part(model, "step", 12), part(model, "other", 15)))
    assert rates_of(model, plan, torch.zeros(1, 4)) == {"drop": 0.25}


def test_a_model_of_several_inputs_is_run_on_them() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.drop = nn.Linear(4, 4), nn.Dropout(0.5)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return torch.as_tensor(self.drop(self.layer(a + b)))

    model = Sum()
    for example in ((torch.zeros(1, 4), torch.zeros(1, 4)), {"b": torch.zeros(1, 4), "a": torch.zeros(1, 4)}):
        with adjusted_dropout(model, Plan((part(model, "layer", 12),)), example) as rates:
            assert rates == {"drop": 0.25}


# --------------------------------------------------------------------------------- in and after


def state(model: nn.Module) -> Any:
    hooks = [len(module._forward_hooks) for module in model.modules()]
    rates = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    return hooks, rates, [module.training for module in model.modules()], torch.get_rng_state().tolist()


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_it_was_afterwards(fails: bool) -> None:
    model = stack()
    model[3].eval()  # a mode of its own
    before, plan = state(model), Plan((part(model, "1", 12),))
    try:
        with adjusted_dropout(model, plan, torch.zeros(1, 4)):
            assert state(model)[0] == before[0]
            assert state(model)[1] == [0.2, 0.25, 0.4]
            assert state(model)[2:] == before[2:]
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert state(model) == before


def test_training_inside_draws_with_the_adjusted_rate() -> None:
    """With no connection left nothing is dropped, however much was dropped before."""
    model = nn.Sequential(nn.Linear(2, 100), nn.Dropout(0.9))
    plan = Plan((part(model, "0", 200),))
    with adjusted_dropout(model, plan, torch.zeros(1, 2)):
        assert bool(model(torch.ones(1, 2)).bool().all())
    # of 100, all stay with a chance of 1e-100
    assert not bool(model(torch.ones(1, 2)).bool().all())


class Unused(nn.Linear):
    """A layer with a dropout that never runs."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.drop = nn.Dropout()


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(4, 4), nn.ReLU()),
        nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4)),
        nn.Sequential(Unused(), nn.ReLU()),
    ],
)
def test_a_model_without_a_dropout_to_adjust_is_refused(model: nn.Sequential) -> None:
    layer = next(name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    before = state(model)
    with (
        pytest.raises(sc.ModelError, match=r"no dropout of Sequential is fed by a layer of the plan; .* Leave"),
        adjusted_dropout(model, Plan((part(model, layer, 1),)), torch.zeros(1, 4)),
    ):
        pytest.fail("it was entered")
    assert state(model) == before


def test_a_plan_of_another_model_is_refused() -> None:
    model, other = stack(), nn.Sequential(nn.Dropout(), nn.Linear(3, 3))
    with (
        pytest.raises(sc.PlanError, match=r"for '1\.weight' of shape \(3, 3\)"),
        adjusted_dropout(model, Plan((part(other, "1", 1),)), torch.zeros(1, 4)),
    ):
        pytest.fail("it was entered")


def test_an_example_that_does_not_fit_leaves_no_hooks() -> None:
    model = stack()
    before = state(model)
    with (
        pytest.raises(RuntimeError, match="shapes"),
        adjusted_dropout(model, Plan((part(model, "1", 1),)), torch.zeros(1, 9)),
    ):
        pytest.fail("it was entered")
    assert state(model) == before
