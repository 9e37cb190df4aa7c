"""Input norms against their definition, for every kind of layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur.errors import DataError
from tests.nets import LAYERS, Tied, layer


def inputs_for(module: Any, samples: int, seed: int) -> Tensor:
    linear = isinstance(module, nn.Linear)
    channels = module.in_features if linear else module.in_channels
    space = [] if linear else [6 + place for place in range(len(module.kernel_size))]
    return torch.randn(samples, channels, *space, generator=torch.Generator().manual_seed(seed))


def norms(batches: list[Tensor]) -> Tensor:
    """The definition: the root of the squares of everything each input channel has seen."""
    everything = torch.cat([batch.transpose(0, 1).flatten(1) for batch in batches], 1)
    return torch.as_tensor(torch.linalg.vector_norm(everything, dim=1))


def channel_of(module: Any, place: tuple[int, ...]) -> int:
    """Which input channel the weight at a place multiplies, from the meaning of the layer."""
    if isinstance(module, nn.Linear):
        return place[1]
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return place[0]
    group = place[0] // (module.out_channels // module.groups)
    return int(group * (module.in_channels // module.groups) + place[1])


@pytest.mark.parametrize("kind", LAYERS)
def test_every_weight_sees_the_norm_of_its_input_channel(kind: str) -> None:
    module = layer(kind)
    batches = [inputs_for(module, samples, seed) for seed, samples in enumerate((3, 1, 4))]
    found = sc.calibrate(module, [(batch, None) for batch in batches], ["input_norm"])
    assert found.samples == 8
    beside = found.of("input_norm", "weight").expand_as(module.weight)
    wanted = norms(batches)
    for place in torch.cartesian_prod(*(torch.arange(size) for size in module.weight.shape)).tolist():
        assert float(beside[tuple(place)]) == pytest.approx(float(wanted[channel_of(module, tuple(place))]), rel=1e-5)


def test_positions_before_the_channels_of_a_linear_layer_count_like_samples() -> None:
    tokens = torch.tensor([[[1.0, 0.0], [2.0, 0.0]], [[2.0, 3.0], [0.0, 4.0]]])
    found = sc.calibrate(nn.Linear(2, 3), [(tokens, None)], ["input_norm"])
    assert found.of("input_norm", "weight").tolist() == [[3, 5]]
    assert found.samples == 2


def test_an_image_without_a_batch_dimension() -> None:
    image = torch.tensor([[[3.0, 4.0]], [[0.0, 1.0]]])
    found = sc.calibrate(nn.Conv2d(2, 1, 1), [(image, None)], ["input_norm"])
    assert found.of("input_norm", "weight").flatten().tolist() == [5, 1]


def test_half_precision_is_summed_in_single() -> None:
    module = nn.Linear(1, 1).to(torch.bfloat16)
    found = sc.calibrate(module, [(torch.ones(1, 1, dtype=torch.bfloat16), None)] * 400, ["input_norm"])
    norm = found.of("input_norm", "weight")
    assert norm.dtype == torch.float32
    assert norm.tolist() == [[20]]


def test_a_weight_used_twice_has_seen_both_inputs() -> None:
    model, x = Tied(), torch.rand(5, 4)
    found = sc.calibrate(model, [(x, None)], ["input_norm"]).of("input_norm", "first.weight")
    with torch.no_grad():
        wanted = norms([x, model.first(x)])
    assert torch.allclose(found.flatten(), wanted)


def test_a_module_used_twice_has_seen_both_inputs() -> None:
    shared = nn.Linear(3, 3)
    x = torch.rand(5, 3)
    found = sc.calibrate(nn.Sequential(shared, shared), [(x, None)], ["input_norm"]).of("input_norm", "0.weight")
    with torch.no_grad():
        wanted = norms([x, shared(x)])
    assert torch.allclose(found.flatten(), wanted)


def test_a_decoder_tied_to_an_embedding_sees_its_own_input() -> None:
    """The embedding has the same weight, and reads integers."""

    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens: Tensor) -> Tensor:
            return torch.as_tensor(self.head(self.embed(tokens)))

    model = Language()
    tokens = torch.tensor([[0, 1, 2], [3, 3, 6]])
    found = sc.calibrate(model, [(tokens, None)], ["input_norm"]).of("input_norm", "embed.weight")
    with torch.no_grad():
        wanted = torch.linalg.vector_norm(model.embed(tokens).reshape(-1, 4), dim=0)
    assert torch.allclose(found, wanted[None])


def test_an_input_passed_by_name_is_seen() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.fc(input=x))

    found = sc.calibrate(Named(), [(torch.tensor([[3.0, 4.0], [4.0, 3.0]]), None)], ["input_norm"])
    assert found.of("input_norm", "fc.weight").tolist() == [[5, 5]]


def test_layers_that_did_not_run_are_named() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.used(x))

    found = sc.calibrate(Half(), [(torch.ones(1, 2), None)], ["input_norm"])
    with pytest.raises(DataError, match=r"'input_norm' was not seen for 'idle\.weight'"):
        found.of("input_norm", "idle.weight")


class Shared(nn.Module):
    """Two layers that read one input, and a third that reads it changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        y = self.one(x) + self.two(x)
        return torch.as_tensor(y + self.three(x.mul_(2)))


@pytest.mark.parametrize("inference", [False, True])
def test_an_input_that_several_layers_read_counts_for_each_as_it_was_then(inference: bool) -> None:
    batches = [inputs_for(nn.Linear(3, 2), 4, seed) for seed in range(3)]
    with torch.inference_mode(inference):
        given = [(batch.clone(), None) for batch in batches]
        found = sc.calibrate(Shared(), given, ["input_norm"])
    wanted = norms(batches)
    for name, factor in (("one", 1), ("two", 1), ("three", 2)):
        assert torch.allclose(found.of("input_norm", f"{name}.weight")[0], factor * wanted)
