"""Dead channels by hand: which leave, which stay, and what goes into biases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur import granularity
from secateur.plan import Part
from secateur.surgery import restore, save


def plan_of_zeros(model: nn.Module) -> sc.Plan:
    """Masks what is zero already."""
    parts = []
    for name, units in granularity.weight()(model).items():
        (axis,) = units.index
        parts.append(Part(name, units, (model.get_parameter(axis.parameter) != 0).flatten()))
    return sc.Plan(tuple(parts))


def masked_filters(model: nn.Module, **rows: list[int]) -> sc.Plan:
    """Filters of layers, by their names with `_` for a dot."""
    parts = []
    for name, units in granularity.filter()(model).items():
        keep = torch.ones(units.n_units, dtype=torch.bool)
        keep[rows.get(f"layer{name}".replace(".", "_"), [])] = False
        parts.append(Part(name, units, keep))
    return sc.Plan(tuple(parts))


def fill(layer: Any, weight: Any, bias: Any = None) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias))


def assert_same(model: nn.Module, plan: sc.Plan, small: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(small(x), sc.mask(model, plan)(x))


def perceptron(*, bias: bool = True) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1, bias=bias))
    fill(model[0], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [-1.0, 2.0, -3.0])
    fill(model[2], [[10.0, 20.0, 30.0]], [0.5] if bias else None)
    return model


def test_a_constant_goes_into_the_bias() -> None:
    """The second unit is relu(2) whatever comes, and adds 20 * 2."""
    model, x = perceptron(), torch.randn(5, 2)
    plan = masked_filters(model, layer0=[1])
    small = sc.shrink(model, plan, example=x)
    assert small[0].weight.tolist() == [[1.0, 2.0], [5.0, 6.0]]
    assert small[2].weight.tolist() == [[10.0, 30.0]]
    assert small[2].bias.tolist() == [40.5]
    assert_same(model, plan, small, x)


def test_what_is_cut_off_by_the_activation_adds_nothing() -> None:
    """The third is relu(-3)."""
    model = perceptron()
    small = sc.shrink(model, masked_filters(model, layer0=[2]), example=torch.randn(5, 2))
    assert small[0].out_features == 2
    assert small[2].bias.tolist() == [0.5]


def test_a_layer_without_bias_is_given_one(tmp_path: Path) -> None:
    model, x = perceptron(bias=False), torch.randn(5, 2)
    plan = masked_filters(model, layer0=[1])
    optimizer = torch.optim.SGD(model.parameters(), lr=1)
    small, again = sc.shrink(model, plan, optimizer, example=x)
    assert small[2].bias.tolist() == [40.0]
    assert any(one is small[2].bias for one in again.param_groups[0]["params"])
    assert_same(model, plan, small, x)
    save(small, tmp_path / "small.safetensors")
    assert torch.equal(restore(tmp_path / "small.safetensors", perceptron(bias=False))(x), small(x))


def test_a_live_unit_that_is_never_positive_here_stays() -> None:
    """Another input may wake it."""
    model = perceptron()
    fill(model[0], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [0.0, 0.0, -1e6])
    plan = masked_filters(model, layer0=[0])
    assert sc.shrink(model, plan, example=torch.randn(5, 2))[0].out_features == 2


def deep() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 4) for _ in range(4)]
    return nn.Sequential(*[one for layer in layers for one in (layer, nn.Tanh())][:-1])


def test_death_spreads_backwards() -> None:
    """Unit 0 of the last hidden layer is read by nothing, and alone reads unit 1 before it, and so on."""
    model, x = deep(), torch.randn(3, 4)
    with torch.no_grad():
        model[6].weight[:, 0] = 0
        for layer in (model[2], model[4]):
            layer.weight[1:, 0] = 0
    small = sc.shrink(model, plan_of_zeros(model), example=x)
    assert [small[at].out_features for at in (0, 2, 4)] == [3, 3, 3]
    assert_same(model, plan_of_zeros(model), small, x)


def test_death_spreads_forwards() -> None:
    """Unit 0 has its bias alone, and is all that unit 0 of the next layer reads."""
    model, x = deep(), torch.randn(3, 4)
    with torch.no_grad():
        model[0].weight[0] = 0
        for layer in (model[2], model[4]):
            layer.weight[0, 1:] = 0
    small = sc.shrink(model, plan_of_zeros(model), example=x)
    assert [small[at].out_features for at in (0, 2, 4)] == [3, 3, 3]
    assert_same(model, plan_of_zeros(model), small, x)


def test_one_unit_stays_of_a_dead_layer() -> None:
    model, x = deep(), torch.randn(3, 4)
    plan = masked_filters(model, layer4=[0, 1, 2, 3])
    small = sc.shrink(model, plan, example=x)
    assert [small[at].out_features for at in (0, 2, 4, 6)] == [1, 1, 1, 4]
    assert_same(model, plan, small, x)


def convolutions(padding: int) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Conv2d(3, 2, 3, padding=padding, bias=False),
    ).eval()
    fill(model[0], model[0].weight.tolist(), [1.0, 1.0, 1.0])
    fill(model[1], [2.0, 2.0, 2.0], [0.5, 0.5, -9.0])
    model[1].running_mean.copy_(torch.tensor([0.0, 0.25, 0.0]))
    model[1].running_var.copy_(torch.tensor([1.0, 1.0, 1.0]) - model[1].eps)
    return model


def test_the_constant_of_a_batch_norm_is_folded() -> None:
    """Channel 1 is relu((1 - 0.25) * 2 + 0.5) = 2 after its norm, and adds 2 times the sum of its kernels."""
    model, x = convolutions(padding=0), torch.randn(2, 1, 6, 6)
    plan = masked_filters(model, layer0=[1])
    small = sc.shrink(model, plan, example=x)
    assert small[1].num_features == 2
    torch.testing.assert_close(small[3].bias, 2 * model[3].weight[:, 1].sum((1, 2)))
    assert_same(model, plan, small, x)


def test_padding_is_not_the_constant() -> None:
    """At the edge fewer positions are read: channel 1 stays. Channel 2 is relu((1 - 0) * 2 - 9) = 0 and leaves."""
    model, x = convolutions(padding=1), torch.randn(2, 1, 6, 6)
    plan = masked_filters(model, layer0=[1, 2])
    small = sc.shrink(model, plan, example=x)
    assert small[1].num_features == 2
    assert small[1].running_mean.tolist() == [0.0, 0.25]
    assert [name for name, _ in small[3].named_parameters()] == ["weight"]
    assert_same(model, plan, small, x)


class Stream(nn.Module):
    """A residual stream with two producers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return torch.as_tensor(self.head(x + self.inner(x).tanh()))


@pytest.mark.parametrize(("rows", "left"), [({"layerstem": [0]}, 4), ({"layerstem": [0], "layerinner": [0]}, 3)])
def test_a_residual_stream_is_dead_where_every_producer_is(rows: dict[str, list[int]], left: int) -> None:
    torch.manual_seed(0)
    model, x = Stream(), torch.randn(3, 3)
    plan = masked_filters(model, **rows)
    small = sc.shrink(model, plan, example=x)
    assert small.head.in_features == left
    assert_same(model, plan, small, x)


class Token(nn.Module):
    """Starts from a parameter: the same for every input, and yet not dead."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.ones(1, 3))
        self.first, self.second, self.last = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.last(self.first(x).relu()) * self.last(self.second(self.token.tanh()).relu()))


def test_what_comes_from_a_parameter_is_not_dead() -> None:
    torch.manual_seed(0)
    model, x = Token(), torch.randn(5, 3)
    plan = masked_filters(model, layerfirst=[0])
    small = sc.shrink(model, plan, example=x)
    assert small.second.in_features == 3
    assert_same(model, plan, small, x)


def test_channels_then_a_pattern() -> None:
    """The channels leave, the zeros stay, and every 2 of 4 inputs still hold."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(3, 4)
    units = granularity.channel(x)(model)
    keep = torch.tensor([True, False] * 4)
    first = sc.Plan(tuple(Part(name, one, keep) for name, one in units.items() if not one.frozen), example=x)
    small = sc.shrink(model, first)
    pruner = sc.Pruner(sc.criteria.magnitude(), granularity.pattern(2, 4), sc.allocation.uniform())
    both = first.then(pruner.plan(small))
    smaller = sc.shrink(model, both)
    assert [smaller[at].in_features for at in (0, 2, 4)] == [4, 4, 4]
    for at in (0, 2, 4):
        assert (smaller[at].weight != 0).reshape(-1, 4).sum(1).le(2).all()
    assert_same(model, both, smaller, x)


def test_moments_lose_what_dead_channels_lose() -> None:
    model, x = perceptron(), torch.randn(5, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(x).sum().backward()
    optimizer.step()
    plan = masked_filters(model, layer0=[1])
    small, carried = sc.shrink(model, plan, optimizer, example=x)
    before, after = optimizer.state[model[0].weight], carried.state[small[0].weight]
    assert torch.equal(after["momentum_buffer"], before["momentum_buffer"][[0, 2]])
