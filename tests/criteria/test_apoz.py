"""How often units fire, for filters, neurons and channels through a whole model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.criteria import Criterion, Group, apoz
from secateur.errors import DataError, ModelError
from secateur.statistics import Statistics
from secateur.testing import check_criterion
from tests.nets import LAYERS, WEIGHT, layer


def scores(model: nn.Module, build: granularity.Granularity, name: str, data: Tensor) -> Tensor:
    units, statistics = build(model)[name], sc.calibrate(model, [(data, None)], ["zeros"])
    held = {axis: model.get_parameter(axis.parameter).detach() for axis in units.index}
    return apoz().score(Group(name, units, held, statistics))


def images_with_zeros(*counts: tuple[int, ...]) -> Tensor:
    """For each sample and channel an image of 4 x 4 ones, so many of them set to zero."""
    images = torch.ones(len(counts), len(counts[0]), 16)
    for sample, row in enumerate(counts):
        for channel, count in enumerate(row):
            images[sample, channel, :count] = 0
    return images.reshape(len(counts), len(counts[0]), 4, 4)


def passing(channels: int) -> nn.Conv2d:
    """A convolution that passes every channel on."""
    conv = nn.Conv2d(channels, channels, 1, bias=False)
    conv.weight.data = torch.eye(channels).reshape(channels, channels, 1, 1)
    return conv


@pytest.mark.parametrize("build", [granularity.filter(), granularity.channel(torch.zeros(1, 3, 4, 4))], ids=str)
def test_two_samples_of_three_channels(build: granularity.Granularity) -> None:
    """5 + 6, 5 + 7 and 6 + 8 of 32: APoZ .344, .375 and .438."""
    model, data = nn.Sequential(passing(3), nn.ReLU(), nn.Conv2d(3, 2, 1)), images_with_zeros((5, 5, 6), (6, 7, 8))
    assert scores(model, build, "0", data).tolist() == [1 - 11 / 32, 1 - 12 / 32, 1 - 14 / 32]
    pruner = sc.Pruner(apoz(), build, allocation.uniform(), exclude=("2",))
    plan = pruner.plan(model, sc.Budget(sparsity=1 / 3), data=[(data, None)])
    assert plan["0"].keep.tolist() == [True, True, False]


def test_neurons_of_linear_layers() -> None:
    model = nn.Sequential(nn.Linear(1, 3, bias=False), nn.ReLU(), nn.Linear(3, 1))
    model[0].weight.data = torch.tensor([[1.0], [-1.0], [0.0]])
    data = torch.tensor([[1.0], [2.0], [3.0], [-1.0]])
    for build in (granularity.filter(), granularity.channel(data)):
        assert scores(model, build, "0", data).tolist() == [0.75, 0.25, 0]


class Residual(nn.Module):
    """A stream that two layers make; in front of the block it is not rectified."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer, self.fc = (
            nn.Linear(4, 4),
            nn.Linear(4, 6),
            nn.Linear(6, 4),
            nn.Linear(4, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.outer(self.inner(x).relu())
        return torch.as_tensor(self.fc(x.relu()))


def test_layers_that_make_a_channel_together_are_read_together() -> None:
    model, data = Residual(), torch.randn(20, 4)
    build = granularity.channel(data)
    groups = build(model)
    stream = next(name for name, units in groups.items() if "stem.weight" in {one.parameter for one in units.index})
    with torch.no_grad():
        x = model.stem(data)
        zeros = (x + model.outer(model.inner(x).relu())).relu().eq(0).float().mean(0)
    assert torch.allclose(scores(model, build, stream, data), 1 - zeros)


class Gated(nn.Module):
    """What makes the channels of the stream: one layer behind a rectifier, another that nothing rectifies."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.fc = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.fc(self.one(x).relu() * self.other(x)))


def test_layers_of_a_channel_that_nothing_rectifies_do_not_count() -> None:
    model, data = Gated(), torch.randn(20, 4)
    found = scores(model, granularity.channel(data), "one", data)
    assert torch.allclose(found, 1 - model.one(data).relu().eq(0).float().mean(0))


def test_groups_that_nothing_rectifies_are_all_named_and_can_be_excluded() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4))
    data = [(torch.randn(8, 4), None)]
    pruner = sc.Pruner(apoz(), granularity.filter(), allocation.global_())
    with pytest.raises(ModelError, match=r"none reads .* group '2' \(2\.weight\): exclude=\('2', .*; likewise '4'$"):
        pruner.plan(model, sc.Budget(sparsity=0.25), data=data)
    plan = sc.Pruner(apoz(), granularity.filter(), allocation.global_(), exclude=("2", "4")).plan(
        model, sc.Budget(sparsity=0.25), data=data
    )
    assert plan["0"].kept == 3


def test_units_that_make_no_channels_are_refused() -> None:
    model, data = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.randn(2, 4)
    with pytest.raises(ModelError, match=r"group '0' makes none: use granularity\.filter\(\)"):
        scores(model, granularity.input_channel(), "0", data)


def test_without_data_it_says_what_to_pass() -> None:
    model: Any = nn.Linear(2, 2)
    group = Group("weight", granularity.filter()(model)["weight"], {WEIGHT: model.weight.detach()})
    with pytest.raises(DataError, match="needs the statistic 'zeros' and was given none: pass data="):
        apoz().score(group)
    with pytest.raises(DataError, match="needs the statistic 'zeros'"):
        apoz().score(Group(group.name, group.units, group.parameters, Statistics({"gradient": {}})))


@pytest.mark.parametrize("kind", LAYERS)
def test_it_conforms_on_every_layer(kind: str) -> None:
    check_criterion(apoz(), layer(kind), seed=3)


def test_it_can_be_combined() -> None:
    both: Criterion = criteria.weighted((1.0, apoz()), (1.0, criteria.normalized(criteria.magnitude())))
    assert both.needs == {"zeros"}
    check_criterion(both)


def test_its_name() -> None:
    assert str(apoz()) == "apoz"
