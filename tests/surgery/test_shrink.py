"""The smaller model: what is rewritten, what is kept, what is refused."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.surgery.shrink import rewrite
from secateur.units import Attribute
from tests.zoo.table import ZOO


def plan_of(model: nn.Module, example: Any, sparsity: float = 0.5) -> sc.Plan:
    pruner = sc.Pruner(criteria.magnitude(), granularity.channel(example), allocation.uniform())
    return pruner.plan(model, sc.Budget(sparsity=sparsity))


def test_the_largest_stay() -> None:
    """By hand: rows of the first layer have norms 1, 2, 3, 4."""
    model = nn.Sequential(nn.Linear(1, 4, bias=False), nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
        model[1].weight.copy_(torch.tensor([[1.0, 1.0, 1.0, 1.0]]))
    small = sc.shrink(model, plan_of(model, torch.ones(1, 1)))
    assert small[0].weight.tolist() == [[3.0], [4.0]]
    assert small(torch.ones(1, 1)).item() == 7.0


def test_modules_of_torch_say_their_new_sizes() -> None:
    model, example = ZOO["depthwise separable"].build()
    small = sc.shrink(model, plan_of(model, example))
    for module in small.modules():
        if isinstance(module, nn.Conv2d):
            assert module.out_channels == module.weight.shape[0]
            assert module.in_channels == module.weight.shape[1] * module.groups
        if isinstance(module, nn.BatchNorm2d):
            assert module.num_features == len(module.weight)


@pytest.mark.parametrize("name", ["tied embedding and head", "shared convolution over levels"])
def test_tied_tensors_stay_one_tensor(name: str) -> None:
    model, example = ZOO[name].build()
    small = sc.shrink(model, plan_of(model, example))

    def ties(one: nn.Module) -> int:
        return len(list(one.named_parameters(remove_duplicate=False))) - len(list(one.parameters()))

    assert ties(small) == ties(model)


def test_what_is_not_trained_stays_so() -> None:
    model, example = ZOO["mlp"].build()
    first, *_ = model.parameters()
    first.requires_grad_(False)
    small, *others = sc.shrink(model, plan_of(model, example)).parameters()
    assert not small.requires_grad
    assert all(one.requires_grad for one in others)


def test_the_smaller_model_trains() -> None:
    model, example = ZOO["residual block with projection"].build()
    small = sc.shrink(model, plan_of(model, example)).train()
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    before = [value.clone() for value in small.parameters()]
    small(example).square().sum().backward()
    optimizer.step()
    assert any(not torch.equal(one, other) for one, other in zip(before, small.parameters(), strict=True))


def test_single_weights_leave_no_smaller_tensor() -> None:
    model, _ = ZOO["mlp"].build()
    pruner = sc.Pruner(criteria.magnitude(), granularity.weight(), allocation.uniform())
    with pytest.raises(sc.PlanError, match=r"granularity\.channel"):
        sc.shrink(model, pruner.plan(model, sc.Budget(sparsity=0.5)))


def test_a_plan_for_another_model_is_refused() -> None:
    plan = plan_of(*ZOO["mlp"].build())
    with pytest.raises(sc.PlanError, match="another model"):
        sc.shrink(nn.Linear(2, 2), plan)


class Pair(NamedTuple):
    first: int
    second: int


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.plain = 8
        self.pair = Pair(3, 4)
        self.several: Any = [5, {"inner": 6}]
        self.config = type("Config", (), {})()
        self.config.width = 7

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("path", "read", "left"),
    [
        (("plain",), lambda model: model.plain, 6),
        (("pair", 1), lambda model: model.pair.second, 2),
        (("several", 0), lambda model: model.several[0], 3),
        (("several", 1, "inner"), lambda model: model.several[1]["inner"], 4),
        (("config", "width"), lambda model: model.config.width, 5),
    ],
)
def test_integers_are_rewritten_where_they_are_held(path: tuple[str | int, ...], read: Any, left: int) -> None:
    model = Holder()
    rewrite(model, Attribute("", path), 2)
    assert read(model) == left
    assert type(read(model)) is int
    assert isinstance(model.pair, Pair)


def test_an_integer_that_is_not_there_is_refused() -> None:
    with pytest.raises(sc.PlanError, match="does not have"):
        rewrite(Holder(), Attribute("", ("nothing",)), 2)
