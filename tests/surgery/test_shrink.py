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


def test_a_plan_that_masks_needs_an_example() -> None:
    model, _ = ZOO["mlp"].build()
    pruner = sc.Pruner(criteria.magnitude(), granularity.weight(), allocation.uniform())
    with pytest.raises(sc.PlanError, match=r"pass example=inputs"):
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


class Caching(nn.Module):
    """Keeps, in eval mode, what it computes from its weights; drops it in `train`, or computes it anew in `eval`."""

    def __init__(self, eager: bool) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(3, 8), nn.Linear(8, 6), nn.Linear(6, 2)
        self.eager = eager
        self.cache: dict[str, Tensor] = {}
        self.eval()

    def train(self, mode: bool = True) -> Caching:
        super().train(mode)
        self.cache = {"rows": self.fc1.weight.detach() * 2} if self.eager and not mode else {}
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return torch.as_tensor(self.fc3(self.fc2(x @ (self.fc1.weight * 2).t())))
        if "rows" not in self.cache:
            self.cache["rows"] = self.fc1.weight * 2
        return torch.as_tensor(self.fc3(self.fc2(x @ self.cache["rows"].t())))


@torch.no_grad()
@pytest.mark.parametrize("eager", [False, True])
def test_what_a_module_caches_does_not_outlive_its_weights(eager: bool) -> None:
    model, example = Caching(eager), torch.ones(1, 3)
    before = model(example)
    plan = plan_of(model, example)
    assert torch.equal(model(example), before)  # nothing without values is left in the cache
    masked, small = sc.mask(model, plan), sc.shrink(model, plan)
    assert not any(module.training for module in (*masked.modules(), *small.modules()))
    assert torch.equal(masked.train()(example), masked.eval()(example))
    torch.testing.assert_close(small(example), masked(example))
    assert small.fc1.weight.shape[0] == 4


class FromTheEnd(nn.Module):
    """Reads the last channels, counted from the end by an integer below zero."""

    def __init__(self) -> None:
        super().__init__()
        self.start = -4
        self.enter, self.last, self.all = nn.Linear(8, 12), nn.Linear(4, 2), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Any:
        x = torch.relu(self.enter(x))
        return self.last(x[:, self.start :]), self.all(x)


def test_an_integer_that_counts_from_the_end_comes_nearer_to_zero() -> None:
    model, x = FromTheEnd(), torch.randn(3, 8)
    plan = plan_of(model, x)
    small = sc.shrink(model, plan, prove=False)
    assert small.start == -2
    for one, other in zip(small(x), sc.mask(model, plan)(x), strict=True):
        torch.testing.assert_close(one, other)


class Helped(nn.Module):
    """A second head, from the middle, which only trains."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(3, 8), nn.Linear(8, 6), nn.Linear(6, 2)
        self.helper = nn.Linear(8, 2)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Any:
        x = self.drop(self.fc1(x).relu())
        y = self.fc3(self.fc2(x).relu())
        return (y, self.helper(x)) if self.training else y


def test_heads_that_only_train_lose_what_they_read() -> None:
    model, example = Helped().eval(), torch.ones(1, 3)
    groups = granularity.channel(example)(model)
    assert {f"{axis.parameter}:{axis.axis}" for axis in groups["fc1"].index} == {
        *("fc1.weight:0", "fc1.bias:0", "fc2.weight:1", "helper.weight:1")
    }
    assert groups["helper"].frozen.startswith("it is the model's output")
    assert not model.training
    small = sc.shrink(model, plan_of(model, example))
    assert small.helper.in_features == 4
    pruner = sc.Pruner(criteria.magnitude(), granularity.channel(example), allocation.uniform())
    whole = sc.workload.workload(model, example)
    assert pruner.workload(model).macs == whole.macs == 3 * 8 + 8 * 6 + 6 * 2  # what runs without the helper
    half = sc.shrink(model, pruner.plan(model, sc.Budget(macs=0.5)))
    assert sc.workload.workload(half, example).macs <= whole.macs / 2
    crossing = sc.Pruner(criteria.magnitude(), granularity.channel(example, cross_norms=True), allocation.uniform())
    assert sc.shrink(model, crossing.plan(model, sc.Budget(sparsity=0.5))).helper.in_features == 4
    assert len(small.train()(torch.ones(2, 3))) == 2
