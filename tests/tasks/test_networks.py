"""The networks of the literature: their sizes by hand, what of them can be pruned, and that they learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur.granularity.layers import weight_layers
from secateur.tasks import networks
from secateur.tasks.fashion import NETWORKS
from secateur.training import finetune

pytestmark = pytest.mark.usefixtures("seeded")

EVERY = sorted(networks.__all__)
ANY_SIZE = ["mobilenet_v1", "resnet_20", "resnet_20_bottleneck", "vgg_small"]


def made(name: str, **more: Any) -> nn.Module:
    factory: Callable[..., nn.Module] = getattr(networks, name)
    return factory(**more)


def images(samples: int, size: int = 28) -> Tensor:
    return torch.randn(samples, 1, size, size, generator=torch.Generator().manual_seed(1))


# Weights and biases of every layer, written out.
STAGES = (
    # 16 filters: 6 convolutions; 32 and 64 filters: a first one from half as many, 5 more, a 1 x 1 shortcut.
    (6 * 9 * 16 * 16, 0),
    (9 * (16 * 32 + 5 * 32 * 32), 16 * 32),
    (9 * (32 * 64 + 5 * 64 * 64), 32 * 64),
)
BOTTLENECKS = [
    # From `wide` channels down to f, 3 x 3, up to 4 f; the shortcut of the first block; the same again from 4 f.
    (wide * f + 9 * f * f + f * 4 * f) + wide * 4 * f + (4 * f * f + 9 * f * f + f * 4 * f)
    for wide, f in ((16, 16), (64, 32), (128, 64))
]
PAIRS = [(32, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
COUNTS = {
    "lenet_300_100": 784 * 300 + 300 * 100 + 100 * 10 + (300 + 100 + 10),
    "lenet_5": 25 * 20 + 25 * 20 * 50 + 800 * 500 + 500 * 10 + (20 + 50 + 500 + 10),
    "vgg_small": 9 * (32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128)
    + 2 * 2 * (32 + 64 + 128)
    + 128 * 10
    + 10,
    "resnet_20": 9 * 16
    + sum(map(sum, STAGES))
    + 2 * (16 + 6 * 16 + 6 * 32 + 6 * 64 + 32 + 64)  # batch norm, those of the shortcuts last
    + (64 * 10 + 10),
    "resnet_20_bottleneck": 9 * 16
    + sum(BOTTLENECKS)
    + 2 * (16 + sum(2 * (f + f + 4 * f) + 4 * f for f in (16, 32, 64)))
    + (256 * 10 + 10),
    "mobilenet_v1": 9 * 32
    + sum(9 * c + c * f for c, f in PAIRS)
    + 2 * (32 + sum(c + f for c, f in PAIRS))
    + (256 * 10 + 10),
}
DESCRIBED = {  # what the examples in the docstrings print
    "lenet_300_100": 266_610,
    "lenet_5": 431_080,
    "vgg_small": 288_170,
    "resnet_20": 272_186,
    "resnet_20_bottleneck": 220_090,
    "mobilenet_v1": 205_066,
}


@pytest.mark.parametrize("name", EVERY)
def test_the_number_of_parameters_is_that_of_the_layers_written_out(name: str) -> None:
    assert sum(parameter.numel() for parameter in made(name).parameters()) == COUNTS[name] == DESCRIBED[name]


def test_every_network_is_one_of_the_task_under_its_own_name() -> None:
    assert sorted(name.replace("-", "_") for name in NETWORKS) == EVERY
    for name, recipe in NETWORKS.items():
        of_task, plain = recipe.network(), made(name.replace("-", "_"))
        assert [value.shape for value in of_task.parameters()] == [value.shape for value in plain.parameters()]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("classes", [10, 3])
def test_a_network_answers_with_a_number_for_each_class(name: str, classes: int) -> None:
    model = made(name, classes=classes).eval()
    found = model(images(2))
    assert found.shape == (2, classes)
    assert bool(found.isfinite().all())
    assert torch.equal(found, model(images(2)))


@pytest.mark.parametrize("name", ANY_SIZE)
@pytest.mark.parametrize("size", [4, 32])
def test_networks_with_average_pooling_take_images_of_other_sizes(name: str, size: int) -> None:
    assert made(name).eval()(images(2, size)).shape == (2, 10)


# What each convolution makes of a side of 28, in the order in which they are run.
SIDES = {
    "lenet_5": [24, 8],
    "vgg_small": [28, 28, 14, 14, 7, 7],
    "mobilenet_v1": [28, 28, 28, *[14] * 4, *[7] * 6],
    # In the first block of a stage with a shortcut it comes last.
    "resnet_20": [*[28] * 7, *[14] * 7, *[7] * 7],
    "resnet_20_bottleneck": [*[28] * 8, 28, *[14] * 6, 14, *[7] * 6],
}


@pytest.mark.parametrize("name", SIDES)
def test_the_resolution_is_halved_where_the_network_says(name: str) -> None:
    model, sides = made(name).eval(), []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, __, out: sides.append(tuple(out.shape[2:])))
    model(images(1))
    assert sides == [(side, side) for side in SIDES[name]]


LAYERS = {
    "lenet_300_100": ["fc1", "fc2", "fc3"],
    "lenet_5": ["conv1", "conv2", "fc1", "fc2"],
    "vgg_small": [*(f"conv{number}" for number in range(1, 7)), "fc"],
    "mobilenet_v1": [
        "conv",
        *(f"{kind}{number}" for number in range(1, 7) for kind in ("depthwise", "pointwise")),
        "fc",
    ],
    "resnet_20": [
        "conv",
        *(
            f"stages.{stage}.{block}.{layer}"
            for stage in range(3)
            for block in range(3)
            for layer in ("conv1", "conv2", *(["shortcut.0"] if stage and not block else []))
        ),
        "fc",
    ],
    "resnet_20_bottleneck": [
        "conv",
        *(
            f"stages.{stage}.{block}.{layer}"
            for stage in range(3)
            for block in range(2)
            for layer in ("conv1", "conv2", "conv3", *([] if block else ["shortcut.0"]))
        ),
        "fc",
    ],
}


@pytest.mark.parametrize("name", EVERY)
def test_every_layer_with_weights_can_be_pruned(name: str) -> None:
    layers = list(weight_layers(made(name)))
    assert [layer.name for layer in layers] == LAYERS[name]
    assert not any(layer.unsuited for layer in layers)


def test_twenty_layers_lie_between_an_image_and_its_class() -> None:
    """He et al. (2016), section 4.2: 6 n + 2 layers, with n = 3; shortcuts do not count."""
    for name in ("resnet_20", "resnet_20_bottleneck"):
        assert len([layer for layer in LAYERS[name] if "shortcut" not in layer]) == 20


def test_depthwise_convolutions_have_a_group_for_each_channel() -> None:
    groups = {layer.name: layer.groups for layer in weight_layers(made("mobilenet_v1")) if layer.groups > 1}
    assert groups == {f"depthwise{number}": channels for number, (channels, _) in enumerate(PAIRS, 1)}


@pytest.mark.parametrize("name", EVERY)
def test_a_step_of_training_reaches_every_parameter(name: str) -> None:
    model = made(name)
    before = {key: value.clone() for key, value in model.named_parameters()}
    batch = images(16), torch.arange(16) % 10
    history = finetune(
        model, [batch], nn.functional.cross_entropy, learning_rate=0.1, divide_by=1, epochs=1, progress=False
    )
    assert len(history.losses) == 1
    assert [key for key, value in model.named_parameters() if torch.equal(value, before[key])] == []


@pytest.mark.parametrize("name", EVERY)
def test_a_pruned_network_keeps_its_zeros_through_a_step(name: str) -> None:
    model = made(name)
    plan = sc.Pruner(sc.criteria.magnitude(), sc.granularity.weight(), sc.allocation.global_()).plan(
        model, sc.Budget(sparsity=0.5)
    )
    batch = images(8), torch.arange(8)
    finetune(model, [batch], nn.functional.cross_entropy, learning_rate=0.1, epochs=1, plan=plan, progress=False)
    zeros = sum(int((model.get_parameter(f"{layer}.weight") == 0).sum()) for layer in LAYERS[name])
    assert zeros == plan.weights_removed > 0


@pytest.mark.parametrize("name", ["lenet_300_100", "lenet_5"])
def test_dropout_is_there_where_it_is_asked_for_and_only_while_training(name: str) -> None:
    plain, dropping = made(name), made(name, dropout=0.5)
    dropping.load_state_dict(plain.state_dict())
    assert torch.equal(plain(images(4)), plain(images(4)))
    assert not torch.equal(dropping(images(4)), dropping(images(4)))
    assert torch.equal(plain.eval()(images(4)), dropping.eval()(images(4)))


def test_the_widths_of_a_vgg_can_be_chosen() -> None:
    model = made("vgg_small", widths=(4, 6))
    assert [tuple(layer.shape) for layer in weight_layers(model)] == [(4, 1, 3, 3), (6, 4, 3, 3), (10, 6)]
    assert model.eval()(images(2)).shape == (2, 10)
