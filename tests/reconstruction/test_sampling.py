"""Sampled points: patches times weights are the outputs, for every kind of layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc
from secateur.granularity.layers import weight_layers
from secateur.reconstruction.sampling import Sampling, outputs_at, patches_at, shape_of
from secateur.reconstruction.sites import from_matrix, survey, weight_matrix
from tests.reconstruction.networks import Residual, batches, built


def check_patches(module: Any, inputs: Tensor, points: int | None) -> None:
    """Patches times weights plus bias are the outputs, at the points and nowhere else."""
    layer = next(weight_layers(module))
    output = module(inputs)
    samples, positions = shape_of(module, output)
    at = Sampling(points).places("layer", batch=0, samples=samples, positions=positions)
    matrix = weight_matrix(layer, module.weight)
    found = torch.einsum("mgp,gpn->mgn", patches_at(module, inputs, at), matrix)
    if module.bias is not None:
        found = found + module.bias.reshape(found.shape[1:])
    torch.testing.assert_close(found, outputs_at(module, output, at), rtol=1e-4, atol=1e-4)
    assert torch.equal(from_matrix(layer, matrix), module.weight)
    assert len(found) == samples * min(points or positions, positions)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # torch says how it pads
@settings(max_examples=50)
@given(data=st.data())
def test_convolutions_of_every_kind(data: st.DataObject) -> None:
    dims = data.draw(st.integers(1, 3))
    few = st.integers(1, 3)
    kernel, stride, dilation = (tuple(data.draw(st.lists(few, min_size=dims, max_size=dims))) for _ in range(3))
    padding: Any = data.draw(st.sampled_from(["number", "same", "valid"]))
    if padding == "number":
        padding = tuple(data.draw(st.lists(st.integers(0, 2), min_size=dims, max_size=dims)))
    mode = data.draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    groups = data.draw(st.sampled_from([1, 2, 4]))
    make: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    module = make(
        4,
        8,
        kernel,
        stride=(1,) * dims if padding == "same" else stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=mode,
        bias=data.draw(st.booleans()),
    )
    space = [data.draw(st.integers(7, 9)) for _ in range(dims)]
    check_patches(module, torch.randn(2, 4, *space), data.draw(st.sampled_from([None, 1, 5])))


@pytest.mark.parametrize("shape", [(6, 5), (3, 7, 5), (2, 3, 4, 5), (5,)])
def test_linear_layers_over_positions(shape: tuple[int, ...]) -> None:
    check_patches(nn.Linear(5, 3), torch.randn(shape), 4)


def test_an_image_without_a_batch() -> None:
    check_patches(nn.Conv2d(2, 3, 3), torch.randn(2, 6, 6), 4)


@given(samples=st.integers(1, 5), positions=st.integers(1, 30), points=st.integers(1, 12), batch=st.integers(0, 3))
def test_points_are_fixed_and_none_comes_twice(samples: int, positions: int, points: int, batch: int) -> None:
    how = Sampling(points, seed=3)
    first, again = (how.places("conv", batch=batch, samples=samples, positions=positions) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (samples, min(points, positions))
    assert all(len(set(row)) == len(row) and min(row) >= 0 and max(row) < positions for row in first.tolist())


def test_points_depend_on_batch_layer_and_seed() -> None:
    places = [
        Sampling(5, seed).places(name, batch=batch, samples=4, positions=100)
        for seed, name, batch in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]
    ]
    assert all(not torch.equal(places[0], other) for other in places[1:])


def test_no_points_are_refused() -> None:
    with pytest.raises(sc.SecateurError, match=r"at least 1.*given: 0"):
        Sampling(0)


def test_the_survey_finds_norms_and_branches() -> None:
    sites = {site.name: site for site in survey(built(Residual), batches())}
    assert list(sites) == ["stem", "conv1", "conv2", "conv3", "conv4", "short", "fc"]
    assert {name: site.norm for name, site in sites.items()} == {
        "stem": "bn",
        "conv1": "bn1",
        "conv2": "bn2",
        "conv3": "bn3",
        "conv4": "bn4",
        "short": "bns",
        "fc": "",
    }
    # of the two that are added at the end the later one makes up for both
    assert {name for name, site in sites.items() if site.added} == {"conv2", "short"}


class Odd(nn.Module):
    """A sum after an activation in place, a layer that runs twice, and a weight that is changed before it is used."""

    class Standardised(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002  as in torch
            return torch.as_tensor(self._conv_forward(input, self.weight - self.weight.mean(), self.bias))

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.last = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.special = self.Standardised(3, 3, 1)
        self.mirror = nn.Conv2d(3, 3, 1)
        self.mirror.weight = self.last.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y.relu_()
        y = self.twice(y + x)
        return torch.as_tensor(self.mirror(self.last(self.special(self.twice(y)))))


def test_the_survey_leaves_out_what_it_cannot_mend() -> None:
    sites = {site.name: site for site in survey(Odd().eval(), batches())}
    assert list(sites) == ["first", "twice"]
    assert sites["twice"].calls == 2
    assert not sites["first"].added


class OneNorm(nn.Module):
    """A norm behind two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.norm = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(x + self.norm(self.two(self.norm(self.one(x)))))


def test_a_norm_behind_two_layers_takes_no_intercept() -> None:
    sites = survey(OneNorm().eval(), batches())
    assert [(site.name, site.norm, site.added) for site in sites] == [("one", "", False), ("two", "", False)]
