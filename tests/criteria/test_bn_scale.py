"""Scales of norms as scores of the channels they scale."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, granularity
from secateur.criteria import Group, bn_scale
from secateur.errors import ModelError
from secateur.testing import ExampleNet, check_criterion

IMAGE = torch.zeros(1, 1, 6, 6)


def scores(model: nn.Module, build: granularity.Granularity, name: str) -> Tensor:
    units = build(model)[name]
    return bn_scale().score(
        Group(name, units, {axis: model.get_parameter(axis.parameter).detach() for axis in units.index})
    )


def normed() -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 1)
    )
    net[1].weight.data = torch.tensor([0.5, -0.1, 0.0, 2.0])
    return net


def test_scores_are_magnitudes_of_scales() -> None:
    found = scores(normed(), granularity.channel(IMAGE), "0")
    assert torch.equal(found, torch.tensor([0.5, 0.1, 0.0, 2.0]))


class TwoNorms(nn.Module):
    """A sum of two convolutions, each with its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 1)
        self.one, self.other, self.out = nn.BatchNorm2d(2), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1)
        self.one.weight.data, self.other.weight.data = torch.tensor([1.0, -3.0]), torch.tensor([0.5, 0.25])

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.out((self.one(self.a(x)) + self.other(self.b(x))).relu()))


def test_of_several_norms_the_mean_counts() -> None:
    assert scores(TwoNorms(), granularity.channel(IMAGE), "a").tolist() == [0.75, 1.625]


class Flattened(nn.Module):
    """Each channel becomes four columns, which are normed one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(1, 2, 5), nn.BatchNorm1d(8), nn.Linear(8, 2)
        self.norm.weight.data = torch.tensor([1.0, 2.0, -3.0, 2.0, 0.0, 0.0, 0.0, -1.0])

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.fc(self.norm(self.conv(x).flatten(1))))


def test_several_scales_of_one_unit_are_averaged() -> None:
    assert scores(Flattened(), granularity.channel(IMAGE), "conv").tolist() == [2, 0.25]


def test_layer_norms_count_where_channels_leave_across_them() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2))
    model[1].weight.data = torch.tensor([1.0, -2.0, 0.5, 4.0])
    found = scores(model, granularity.channel(torch.zeros(2, 3), cross_norms=True), "0")
    assert found.tolist() == [1, 2, 0.5, 4]


def test_all_groups_without_a_norm_are_named_at_once_and_can_be_excluded() -> None:
    model = nn.Sequential(*list(normed())[:5], nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 1))
    channels = granularity.channel(IMAGE)
    pruner = sc.Pruner(bn_scale(), channels, allocation.global_())
    with pytest.raises(
        ModelError, match=r"none scales the units of group '3'\. Exclude .*exclude=\('3', \.\.\.\).*; likewise '5'$"
    ):
        pruner.plan(model, sc.Budget(sparsity=0.2))
    some = sc.Pruner(bn_scale(), channels, allocation.global_(), exclude=("3", "5"))
    assert some.plan(model, sc.Budget(per_group={"0": 0.5}))["0"].keep.tolist() == [True, False, False, True]


def test_norms_without_scales_are_none() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, affine=False), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with pytest.raises(ModelError, match="none scales the units of group '0'"):
        scores(model, granularity.channel(IMAGE), "0")


def test_layers_by_themselves_have_no_norms() -> None:
    with pytest.raises(ModelError, match=r"group '0'.*take granularity\.channel\(example\)"):
        scores(normed(), granularity.filter(), "0")


def test_scores_go_with_the_channels_however_these_are_ordered() -> None:
    model, order = normed(), [2, 0, 3, 1]
    before = scores(model, granularity.channel(IMAGE), "0")
    for tensor in (*model[0].parameters(), *model[1].parameters()):
        tensor.data = tensor.data[order]
    assert torch.equal(scores(model, granularity.channel(IMAGE), "0"), before[order])


def test_it_conforms() -> None:
    images = torch.zeros(2, 4, 8, 8)
    check_criterion(bn_scale(), ExampleNet(), granularities=[granularity.channel(images)])
    check_criterion(bn_scale(), TwoNorms(), granularities=[granularity.channel(IMAGE)])
