"""Zeros behind rectifiers, counted by hooks and by definition for every way in which a layer can be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import secateur as sc
from secateur.errors import DataError, ModelError
from secateur.statistics import zeros as counting
from tests.nets import layer


def found(model: nn.Module, *batches: Tensor) -> dict[str, Tensor]:
    return dict(sc.calibrate(model, [(batch, None) for batch in batches], ["zeros"]).values["zeros"])


def share(outputs: Tensor, dim: int = 1) -> Tensor:
    """The definition: zeros over values, of each position along a dimension."""
    flat = outputs.detach().movedim(dim, 0).flatten(1)
    return flat.eq(0).sum(1) / flat.shape[1]


def hooked(model: nn.Module, batches: list[Tensor]) -> dict[str, Tensor]:
    """What each `nn.ReLU` puts out in each of its calls, by plain hooks: shares of channels along dimension 1."""
    seen: dict[str, list[Tensor]] = {}
    handles = [
        module.register_forward_hook(
            lambda _, __, output, name=name: seen.setdefault(name, []).append(output.detach().clone())
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.ReLU)
    ]
    with torch.no_grad():
        for batch in batches:
            model.eval()(batch)
    for handle in handles:
        handle.remove()
    return {name: share(torch.cat(outputs)) for name, outputs in seen.items()}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plain(inplace: bool = False) -> nn.Sequential:
    """Convolution, norm, rectifier, pooling, convolution, rectifier, flattening, linear, rectifier, linear."""
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 2),
        nn.ReLU(inplace),
        nn.Flatten(),
        nn.Linear(24, 5),
        nn.ReLU(inplace),
        nn.Linear(5, 2),
    )
    net[1].running_mean.uniform_(-0.5, 0.5)
    return net


@pytest.mark.parametrize("inplace", [False, True])
def test_every_layer_is_read_by_its_rectifier(inplace: bool) -> None:
    model, batches = plain(inplace), [random(3, 1, 8, 8), random(2, 1, 8, 8, seed=1)]
    shares = found(model, *batches)
    wanted = hooked(model, batches)
    assert set(shares) == {"0.weight", "4.weight", "7.weight"}
    for name, reader in (("0", "2"), ("4", "5"), ("7", "8")):
        weight = model.get_parameter(f"{name}.weight")
        assert shares[f"{name}.weight"].shape == (len(weight), *(1,) * (weight.ndim - 1))
        assert torch.equal(shares[f"{name}.weight"].flatten(), wanted[reader])


class Functional(nn.Module):
    """The same net without modules for what has no parameters, or with one rectifier for all."""

    def __init__(self, net: nn.Sequential, rectifier: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.rectifier = net, rectifier

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.rectifier(self.net[1](self.net[0](x))), 2)
        x = self.rectifier(self.net[4](x)).reshape(len(x), -1)
        return torch.as_tensor(self.net[9](self.rectifier(self.net[7](x))))


@pytest.mark.parametrize("rectifier", [F.relu, torch.relu_, Tensor.relu, lambda x: x.clamp(min=0), nn.ReLU()])
def test_functions_and_a_module_used_thrice_count_like_modules(rectifier: Any) -> None:
    net, batch = plain(), random(4, 1, 8, 8)
    other = found(Functional(net, rectifier), batch)
    assert other.keys() == {f"net.{name}" for name in found(net, batch)}
    assert all(torch.equal(other[f"net.{name}"], value) for name, value in found(net, batch).items())


RECTIFIERS = {
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "hardtanh": lambda x: F.hardtanh(x, 0.0, 0.3),
    "threshold": lambda x: F.threshold(x, 0.2, 0.0),
    "clamp": lambda x: x.clamp(0, 1),
    "clamp_min": lambda x: x.clamp_min(0),
    "clamp_max": lambda x: x.clamp_max(0),
    "clamp_": lambda x: x.clamp_(max=0),
}


@pytest.mark.parametrize("name", RECTIFIERS)
def test_whatever_is_zero_on_a_half_line_is_a_rectifier(name: str) -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(RECTIFIERS[name](8 * self.fc(x)))

    model, batch = One(), random(50, 3)
    (shares,) = found(model, batch).values()
    wanted = share(model(batch))
    assert torch.equal(shares.flatten(), wanted)
    assert 0 < float(wanted.mean()) < 1


@pytest.mark.parametrize(
    "function", [F.gelu, F.silu, F.leaky_relu, F.hardtanh, lambda x: F.threshold(x, 0.1, 20.0), lambda x: x.clamp(-1)]
)
def test_what_is_not_zero_on_a_half_line_is_none(function: Any) -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(function(self.fc(x)))

    with pytest.raises(ModelError, match="none reads a layer of One"):
        found(One(), random(2, 3))


@pytest.mark.parametrize("kind", ["conv1d", "conv2d", "conv3d", "grouped", "linear"])
def test_layers_of_every_kind(kind: str) -> None:
    module = layer(kind)
    channels = module.in_features if kind == "linear" else module.in_channels
    batch = random(3, channels, *([] if kind == "linear" else [6, 5, 7][: len(module.kernel_size)]))
    (shares,) = found(nn.Sequential(module, nn.ReLU()), batch).values()
    assert torch.equal(shares.flatten(), share(module(batch).relu()))


@pytest.mark.parametrize("kind", ["transposed1d", "transposed2d", "transposed3d", "transposed grouped"])
def test_the_output_channels_of_a_transposed_convolution_lie_along_its_second_axis(kind: str) -> None:
    module = layer(kind)
    batch = random(3, module.in_channels, *[4, 5, 3][: len(module.kernel_size)])
    (shares,) = found(nn.Sequential(module, nn.ReLU()), batch).values()
    wanted = share(module(batch).relu())
    beside, (ins, outs) = shares.expand_as(module.weight), module.weight.shape[:2]
    for i in range(ins):
        group = i // (ins // module.groups)
        assert torch.equal(beside[i].flatten(1)[:, 0], wanted[group * outs : (group + 1) * outs])


def test_positions_before_the_channels_of_a_linear_layer_count_like_samples() -> None:
    model, tokens = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), random(2, 5, 3)
    (shares,) = found(model, tokens).values()
    assert torch.equal(shares.flatten(), share(model[:2](tokens), 2))


class Net(nn.Module):
    """Two convolutions of three to three channels, put together in some way; a linear layer on top."""

    def __init__(self, together: Callable[[Any, Tensor], Tensor], features: int) -> None:
        super().__init__()
        self.a, self.b, self.together = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1), together
        self.fc = nn.Linear(features, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.fc(self.together(self, x).flatten(1)))


IMAGES = random(4, 3, 4, 4)


def test_a_residual_sum_is_read_once_for_both_sides() -> None:
    model = Net(lambda net, x: (net.a(x) + net.b(x)).relu(), 48)
    shares = found(model, IMAGES)
    wanted = share((model.a(IMAGES) + model.b(IMAGES)).relu())
    assert set(shares) == {"a.weight", "b.weight"}
    assert all(torch.equal(value.flatten(), wanted) for value in shares.values())


def test_along_a_stream_all_that_read_it_are_added_up() -> None:
    """Before activation: what the first layer makes is read by the block, and after the block with its sum."""
    model = Net(_preactivated, 48)
    shares = found(model, IMAGES)
    first = model.a(IMAGES)
    last = first + model.b(first.relu())
    assert torch.equal(shares["b.weight"].flatten(), share(last.relu()))
    assert torch.allclose(shares["a.weight"].flatten(), (share(first.relu()) + share(last.relu())) / 2)


def _preactivated(net: Any, x: Tensor) -> Tensor:
    stream = net.a(x)
    return torch.as_tensor((stream + net.b(stream.relu())).relu())


def test_what_a_rectifier_has_read_is_not_read_again() -> None:
    model = Net(lambda net, x: net.b(net.a(x).relu().relu()).relu(), 48)
    shares = found(model, IMAGES)
    assert torch.equal(shares["a.weight"].flatten(), share(model.a(IMAGES).relu()))


def test_a_concatenation_is_read_part_by_part() -> None:
    model = Net(lambda net, x: torch.cat([net.b(x), x, net.a(x)], 1).relu(), 144)
    shares = found(model, IMAGES)
    assert torch.equal(shares["a.weight"].flatten(), share(model.a(IMAGES).relu()))
    assert torch.equal(shares["b.weight"].flatten(), share(model.b(IMAGES).relu()))


def test_a_rectifier_behind_flattening_reads_all_positions_of_a_channel() -> None:
    model = Net(lambda net, x: net.b(net.a(x)).flatten(1).relu(), 48)
    shares = found(model, IMAGES)
    assert set(shares) == {"b.weight"}  # of a, the channels are summed over before a rectifier comes
    assert torch.equal(shares["b.weight"].flatten(), share(model.b(model.a(IMAGES)).relu()))


def test_channels_that_cannot_leave_are_counted_too() -> None:
    """Meeting the image itself, they keep no labels; and the model's output is no reason not to count."""
    model = nn.Sequential(Net(lambda net, x: (net.a(x) + x).relu(), 48), nn.ReLU())
    shares = found(model, IMAGES)
    net: Any = model[0]
    assert torch.equal(shares["0.a.weight"].flatten(), share((net.a(IMAGES) + IMAGES).relu()))
    assert torch.equal(shares["0.fc.weight"].flatten(), share(model(IMAGES)))


def test_channels_that_nothing_rectifies_beside_others_are_never_zero() -> None:
    model = Net(lambda net, x: torch.cat([net.a(x)[:, :2].relu(), net.a(x)[:, 2:]], 1), 48)
    shares = found(model, IMAGES)["a.weight"].flatten()
    assert torch.equal(shares[:2], share(model.a(IMAGES).relu())[:2])
    assert shares[2] == 0


def test_the_rectifiers_of_an_attention_layer_are_counted_though_torch_can_fuse_it() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    before: list[Tensor] = []
    tokens = random(3, 5, 8)
    shares = found(model, tokens)
    handle = model.linear1.register_forward_hook(lambda _, __, output: before.append(output))
    model.eval()(tokens)
    handle.remove()
    assert set(shares) == {"linear1.weight"}
    assert torch.equal(shares["linear1.weight"].flatten(), share(before[0].relu(), 2))
    assert torch.backends.mha.get_fastpath_enabled()


# ---------------------------------------------------------------------------------------------------------------- laws


@given(st.integers(1, 6), st.integers(1, 6), st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 99))
def test_shares_are_those_of_the_definition_however_the_data_is_cut(
    ins: int, outs: int, sizes: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    model, data = nn.Sequential(nn.Linear(ins, outs), nn.ReLU(), nn.Linear(outs, 2)), torch.randn(sum(sizes), ins)
    (shares,) = found(model, *data.split(sizes)).values()
    per_batch = torch.cat([model[:2](one) for one in data.split(sizes)])
    assert torch.equal(shares, share(per_batch)[:, None])


@given(st.permutations(range(4)), st.integers(0, 99))
def test_permuted_channels_have_permuted_shares(order: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    model, data = nn.Sequential(nn.Conv2d(2, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1)), IMAGES[:, :2]
    (before,) = found(model, data).values()
    for tensor in (*model[0].parameters(), *model[1].parameters()):
        tensor.data = tensor.data[list(order)]
    (after,) = found(model, data).values()
    assert torch.equal(after, before[list(order)])


@given(st.integers(-10, 10), st.integers(0, 99))
def test_weights_scaled_by_a_positive_number_leave_shares_as_they_are(power: int, seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 4, bias=False), nn.ReLU())
    before = found(model, IMAGES)
    model[0].weight.data.mul_(2.0**power)  # powers of two scale without rounding
    model[2].weight.data.mul_(2.0**-power)
    after = found(model, IMAGES)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_images_may_be_of_several_sizes() -> None:
    model, batches = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU()), [random(1, 1, 4, 4), random(2, 1, 7, 5)]
    (shares,) = found(model, *batches).values()
    values = torch.cat([model(batch).movedim(1, 0).flatten(1) for batch in batches], 1)
    assert torch.equal(shares.flatten(), share(values, 0))


def test_more_positions_than_single_precision_can_count(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = plain(), random(4, 1, 8, 8)
    before = found(model, batch)
    monkeypatch.setattr(counting, "EXACT", 1)
    after = found(model, batch)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_half_precision_counts_exactly() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU()).to(torch.bfloat16)
    model[0].weight.data.fill_(1)
    data = torch.ones(1003, 1, dtype=torch.bfloat16)
    data[:2] = -1
    (shares,) = found(model, data).values()
    assert shares.item() == pytest.approx(2 / 1003, rel=1e-6)  # bfloat16 knows no 1001


def test_together_with_gradients_and_input_norms_all_are_as_alone() -> None:
    model, data = plain(), [(random(3, 1, 8, 8), None)]
    needs = ["zeros", "gradient", "input_norm"]
    every = sc.calibrate(model, data, needs, loss=lambda outputs, _: outputs.square().mean())
    for need in needs:
        alone = sc.calibrate(model, data, [need], loss=lambda outputs, _: outputs.square().mean()).values[need]
        assert alone.keys() == every.values[need].keys()
        assert all(torch.equal(value, every.values[need][name]) for name, value in alone.items())


# -------------------------------------------------------------------------------------------------------------- errors


def test_activations_that_were_seen_are_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Linear(2, 2), nn.PReLU(), nn.Linear(2, 2))
    with pytest.raises(ModelError, match=r"none reads a layer of Sequential; activations seen: gelu, prelu\. Use"):
        found(model, random(1, 2))
    with pytest.raises(ModelError, match="activations seen: none"):
        found(nn.Linear(2, 2), random(1, 2))


def test_a_weight_that_no_rectifier_reads_is_told_why() -> None:
    statistics = sc.calibrate(plain(), [(random(1, 1, 8, 8), None)], ["zeros"])
    with pytest.raises(DataError, match=r"'zeros' was not seen for '9\.weight': no rectifier .* Exclude its group"):
        statistics.of("zeros", "9.weight")
