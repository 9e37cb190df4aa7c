"""Optimizers of smaller models: their steps are those of the masked model, and what cannot be carried is named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

import secateur as sc
from secateur import granularity
from secateur.batches import call
from secateur.dependency import tensors_in
from secateur.plan import Part
from secateur.plan.slices import stays
from secateur.training import KeepZeros
from tests.zoo.table import ZOO

Factory = Callable[[Any], Optimizer]

OPTIMIZERS: dict[str, Factory] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, amsgrad=True),
    "one by one": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=False),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
}
NETWORKS = (
    "mlp",
    "conv-bn-relu chain",
    "flatten to linear",
    "residual block with identity",
    "gru",
    "cells of an lstm",
    "scan of a state space",
    "dense experts",
    "weight norm",
)


def doubled(name: str) -> tuple[nn.Module, Any]:
    """In double precision, so that rounding is far below what Adam divides by."""
    model, example = ZOO[name].build()
    return model.double(), tree_map_only(Tensor, lambda one: one.double() if one.is_floating_point() else one, example)


def half(model: nn.Module, example: Any) -> sc.Plan:
    generator = torch.Generator().manual_seed(0)
    parts = []
    for name, units in granularity.channel(example)(model).items():
        keep = torch.ones(units.n_units, dtype=torch.bool)
        if not units.frozen:
            keep[torch.randperm(units.n_units, generator=generator)[: (units.n_units + 1) // 2]] = units.n_units < 2
        parts.append(Part(name, units, keep))
    return sc.Plan(tuple(parts))


def step(model: nn.Module, optimizer: Optimizer, example: Any, held: KeepZeros | None = None) -> None:
    optimizer.zero_grad()
    outputs = [one for one in tensors_in(call(model, example)) if one.is_floating_point()]
    sum((one.square().mean() for one in outputs), torch.zeros(())).backward()
    if held is not None:
        held.observe()
    optimizer.step()
    if held is not None:
        held.step()


def kept(name: str, value: Tensor, plan: sc.Plan) -> Tensor:
    for (parameter, dim), stay in stays(plan.parts).items():
        if parameter == name:
            value = value.index_select(dim or 0, stay.nonzero().flatten())
    return value


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_steps_are_those_of_the_masked_model(name: str, kind: str) -> None:
    model, example = doubled(name)
    optimizer = OPTIMIZERS[kind](model.parameters())
    for _ in range(3):
        step(model, optimizer, example)
    plan = half(model, example)
    small, carried = sc.shrink(model, plan, optimizer)
    assert type(carried) is type(optimizer)
    held = KeepZeros(model, plan)
    for _ in range(3):
        step(model, optimizer, example, held)
        step(small, carried, example)
    for key, value in small.named_parameters():
        torch.testing.assert_close(value, kept(key, model.get_parameter(key), plan), rtol=1e-8, atol=1e-10)


def test_groups_settings_and_state_are_carried_and_nothing_is_shared() -> None:
    model, example = doubled("mlp")
    norm, other = [model.get_parameter("fc1.weight")], nn.Parameter(torch.ones(2))
    rest = [one for one in model.parameters() if one is not norm[0]]
    groups: list[dict[str, Any]] = [
        {"params": norm, "lr": 0.3, "note": ["mine"]},
        {"params": rest},
        {"params": [other]},
    ]
    optimizer = torch.optim.AdamW(groups, lr=torch.tensor(0.01), weight_decay=0.2)
    step(model, optimizer, example)
    before = copy.deepcopy(optimizer.state_dict())
    plan = half(model, example)
    small, carried = sc.shrink(model, plan, optimizer)
    assert [one is small.get_parameter("fc1.weight") for one in carried.param_groups[0]["params"]] == [True]
    assert carried.param_groups[0]["note"] == ["mine"]
    assert carried.param_groups[0]["note"] is not optimizer.param_groups[0]["note"]
    assert carried.param_groups[2]["params"][0] is other  # of no model: both have it
    assert carried.defaults == optimizer.defaults
    state = carried.state[small.get_parameter("fc1.weight")]
    for key in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(state[key], kept("fc1.weight", optimizer.state[norm[0]][key], plan))
    for _ in range(2):
        step(small, carried, example)
    after = optimizer.state_dict()
    for index, values in before["state"].items():
        assert all(torch.equal(value, after["state"][index][key]) for key, value in values.items())
    carried.load_state_dict(copy.deepcopy(carried.state_dict()))


def test_a_tied_weight_has_one_state() -> None:
    model = nn.Sequential(
        nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 2)
    )
    model[2].weight = model[0].weight
    optimizer = torch.optim.Adam(model.parameters())
    step(model, optimizer, torch.randn(3, 4))
    small, carried = sc.shrink(model, half(model, torch.randn(3, 4)), optimizer)
    assert len(carried.state) == len(optimizer.state) == len(list(small.parameters()))


def test_an_optimizer_that_has_not_stepped() -> None:
    model, example = doubled("mlp")
    small, carried = sc.shrink(model, half(model, example), torch.optim.Adam(model.parameters()))
    assert not carried.state
    step(small, carried, example)


def test_factors_of_moments_lose_what_their_parameter_loses() -> None:
    model, example = doubled("mlp")
    optimizer = torch.optim.Adafactor(model.parameters())
    step(model, optimizer, example)
    small, carried = sc.shrink(model, half(model, example), optimizer)
    state = carried.state[small.get_parameter("fc2.weight")]
    assert state["row_var"].shape == (4, 1)
    assert state["col_var"].shape == (1, 8)
    step(small, carried, example)


def test_a_scheduler_goes_on() -> None:
    model, example = doubled("mlp")
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    step(model, optimizer, example)
    scheduler.step()
    small, carried = sc.shrink(model, half(model, example), optimizer)
    scheduler.optimizer = carried
    step(small, carried, example)
    scheduler.step()
    assert carried.param_groups[0]["lr"] == 0.25
    assert optimizer.param_groups[0]["lr"] == 0.5


class Flat(torch.optim.SGD):
    """Keeps what lies along no parameter."""

    def keep(self, where: Any, value: Any) -> Flat:
        self.state[where] = {"direction": value}
        return self


class Holding(torch.optim.SGD):
    """Keeps parameters beside its state."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        super().__init__(parameters, lr=0.1)
        self.slow = [one.detach().clone() for one in parameters]


def test_what_cannot_be_carried_is_named() -> None:
    model, example = doubled("mlp")
    weight, plan = model.get_parameter("fc1.weight"), half(model, example)

    def closure() -> Tensor:
        model.zero_grad()
        loss: Tensor = model(example).square().mean()
        loss.backward()
        return loss

    stepped = torch.optim.LBFGS(model.parameters(), max_iter=2)
    stepped.step(closure)
    for optimizer, words in (
        (stepped, "LBFGS cannot be carried"),
        (torch.optim.LBFGS(model.parameters()), "its attributes .*_params"),
        (Holding(list(model.parameters())), "its attributes .*slow"),
        (Flat(model.parameters(), lr=1).keep(weight, torch.ones(3)), r"'direction' of shape \(3,\)"),
        (Flat(model.parameters(), lr=1).keep(weight, [torch.ones(3)]), "the tensors within 'direction'"),
        (Flat(model.parameters(), lr=1).keep("all", torch.ones(3)), "what it keeps under 'all'"),
    ):
        with pytest.raises(sc.PlanError, match=f"{words}.*make a new optimizer"):
            sc.shrink(model, plan, optimizer)
