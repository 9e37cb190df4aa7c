"""Which layers there are to prune, and what is said of those that are left alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from secateur import granularity
from secateur.errors import BudgetError, ModelError
from secateur.granularity import weight_layers
from tests.nets import LAYERS, Tied, layer


def test_tied_weights_come_once_and_say_so() -> None:
    groups = granularity.weight()(Tied())
    assert list(groups) == ["first"]
    assert groups["first"].note == "shared with second.weight"
    assert not groups["first"].frozen


def test_a_layer_used_twice_comes_once() -> None:
    shared = nn.Linear(2, 2)
    groups = granularity.weight()(nn.Sequential(shared, nn.ReLU(), shared))
    assert list(groups) == ["0"]
    assert groups["0"].note == "shared with 2.weight"


def test_a_weight_tied_to_an_embedding() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5))
    model[1].weight = model[0].weight
    groups = granularity.weight()(model)
    assert list(groups) == ["1"]
    (axis,) = groups["1"].index
    assert axis.parameter == "0.weight"
    assert groups["1"].note == "shared with 1.weight"


@pytest.mark.parametrize("norm", [weight_norm, spectral_norm])
def test_parametrized_weights_are_frozen_and_say_why(norm: object) -> None:
    assert callable(norm)
    model = nn.Sequential(norm(nn.Linear(3, 2)), nn.Linear(2, 2))
    groups = granularity.filter()(model)
    assert list(groups) == ["0", "1"]
    assert groups["0"].frozen.startswith("computed from parametrizations.weight.original")
    assert groups["0"].frozen.endswith("make it a plain weight first")
    assert groups["0"].n_units == 1
    (axis,) = groups["0"].index
    assert groups["0"].shape == tuple(model.get_parameter(axis.parameter).shape)
    assert not groups["1"].frozen


def test_only_parametrized_weights() -> None:
    with pytest.raises(ModelError, match=r"filter fits no layer of ParametrizedLinear .*computed from"):
        granularity.filter()(weight_norm(nn.Linear(3, 2)))


def test_lazy_layers_need_a_run_first() -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2))
    with pytest.raises(ModelError, match="'0' is a lazy layer without a shape yet: run the model once"):
        granularity.weight()(model)
    model(torch.zeros(1, 4))
    assert list(granularity.weight()(model)) == ["0", "1"]


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Sequential(), nn.BatchNorm2d(3), nn.Embedding(3, 3)])
def test_no_prunable_weights(model: nn.Module) -> None:
    with pytest.raises(ModelError, match=f"{type(model).__name__} has no Linear.*so no prunable weights"):
        granularity.weight()(model)


def test_no_layer_that_m_divides() -> None:
    model = nn.Sequential(nn.Linear(3, 6), nn.Linear(6, 2))
    with pytest.raises(
        ModelError, match=r"pattern\(2, 4\) fits no layer .*0: 3 input channels, not divisible by 4; 1: 6"
    ):
        granularity.pattern(2, 4)(model)


def test_a_layer_that_m_does_not_divide_stays_with_its_reason() -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 3, groups=4))
    groups = granularity.pattern(2, 4)(model)
    assert [units.frozen for units in groups.values()] == [
        "1 input channel, not divisible by 4",
        "",
        "2 input channels per group, not divisible by 4",
    ]


def test_more_to_keep_than_there_are() -> None:
    with pytest.raises(BudgetError, match="given: 4:2"):
        granularity.pattern(4, 2)


@pytest.mark.parametrize("build", [granularity.kernel(), granularity.vector("row"), granularity.kernel_pattern()])
def test_linear_layers_have_no_kernel(build: granularity.Granularity) -> None:
    groups = build(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Linear(2, 2)))
    assert [units.frozen for units in groups.values()] == ["", "a linear layer has no kernel"]


def test_another_kernel_than_the_patterns_are_for() -> None:
    groups = granularity.kernel_pattern()(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, (1, 5))))
    assert groups["1"].frozen == "its kernel is 1x5, the patterns are for 3x3"


@pytest.mark.parametrize("kind", LAYERS)
def test_five_parts_of_every_weight(kind: str) -> None:
    module = layer(kind)
    (found,) = weight_layers(module)
    groups, out, in_, kernel = found.sizes
    inputs = module.in_features if isinstance(module, nn.Linear) else module.in_channels
    outputs = module.out_features if isinstance(module, nn.Linear) else module.out_channels
    assert (groups * out, groups * in_) == (outputs, inputs)
    assert kernel == tuple(getattr(module, "kernel_size", ()))
    assert found.shape == tuple(module.weight.shape)


def test_layers_come_in_the_models_order_under_its_names() -> None:
    model = nn.ModuleDict({"b": nn.Linear(1, 1), "a": nn.ModuleList([nn.Conv1d(1, 1, 1)]), "n": nn.BatchNorm1d(1)})
    assert list(granularity.weight()(model)) == ["b", "a.0"]
    assert list(granularity.weight()(nn.Linear(1, 1))) == ["weight"]


def test_a_layer_of_no_channels_has_no_weights() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = nn.Parameter(torch.zeros(0, 2))
    assert list(granularity.weight()(model)) == ["0"]
