"""Norms of what flows, and of weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from tests.zoo.specimen import Specimen, collector, conv, features, images, sequences, words

NORMS: dict[str, Specimen] = {}
add = collector(NORMS)

CHAIN = "0.weight:0 3.weight:1"


def between(norm: nn.Module) -> nn.Module:
    """Two convolutions with a norm of sixteen channels between them."""
    return nn.Sequential(conv(3, 16), norm, nn.ReLU(), conv(16, 4))


@add("batch norm without weights", images(), CHAIN, frozen="3.weight:0", units={"0.weight:0": 16})
def bare_batch_norm() -> nn.Module:
    """What a masked channel still gives, minus its mean, meets a column of zeros."""
    return between(nn.BatchNorm2d(16, affine=False))


@add("instance norm", images(), f"{CHAIN} 1.weight:0 1.bias:0", units={"0.weight:0": 16})
def instance_norm() -> nn.Module:
    """A statistic over places alone."""
    return between(nn.InstanceNorm2d(16, affine=True))


@add("group norm", images(), "0.weight:0 1.weight:0 1.bias:0 3.weight:1", units={"0.weight:0": 4, "3.weight:1": 4})
def group_norm() -> nn.Module:
    """A statistic over four channels: they leave together."""
    return between(nn.GroupNorm(4, 16))


@add("group norm of one group", images(), frozen="0.weight:0 0.bias:0 1.weight:0 1.bias:0 3.weight:1")
def one_group_norm() -> nn.Module:
    """A statistic over all channels: none can leave."""
    return between(nn.GroupNorm(1, 16))


@add("local response norm", images(), frozen="0.weight:0 0.bias:0 3.weight:1")
def local_response_norm() -> nn.Module:
    """A statistic over neighbours, which change when one leaves."""
    return between(nn.LocalResponseNorm(3))


@add(
    "layer norm",
    features(),
    "fc3.weight:1 fc2.weight:0",
    frozen="fc1.weight:0 norm.weight:0 norm.bias:0 fc2.weight:1 fc3.weight:0",
)
class LayerNorm(nn.Module):
    """A statistic over all features: what goes in stays; the width after it is free."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 12)
        self.norm = nn.LayerNorm(12)
        self.fc2 = nn.Linear(12, 16)
        self.fc3 = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Any:
        return self.fc3(F.gelu(self.fc2(self.norm(self.fc1(x)))))


class ConvNeXt(nn.Module):
    """Channels last, a layer norm over them, and a bare scale; with a response norm in the middle if asked."""

    def __init__(self, respond: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 2, stride=2)
        self.depth = conv(12, 12, 5, groups=12)
        self.norm = nn.LayerNorm(12, eps=1e-6)
        self.up = nn.Linear(12, 24)
        self.response = Response(24) if respond else nn.Identity()
        self.down = nn.Linear(24, 12)
        self.gamma = nn.Parameter(1e-6 * torch.ones(12))
        self.head = conv(12, 4, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        y = self.norm(self.depth(x).permute(0, 2, 3, 1))
        y = self.gamma * self.down(self.response(F.gelu(self.up(y))))
        return self.head(x + y.permute(0, 3, 1, 2))


class Response(nn.Module):
    """Every channel by its size among all channels (global response norm)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Any:
        size = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        share = size / (size.mean(dim=-1, keepdim=True) + 1e-6)
        return x + self.weight * (x * share) + self.bias


WIDTH = "stem.weight:0 depth.weight:0 norm.weight:0 up.weight:1 down.weight:0 gamma:0 head.weight:1"


@add("channels last with layer scale", images(), "up.weight:0 up.bias:0 down.weight:1", frozen=WIDTH)
def conv_next() -> nn.Module:
    """The layer norm keeps the width; the width inside is free."""
    return ConvNeXt(respond=False)


@add("global response norm", images(), frozen=f"{WIDTH} up.weight:0 up.bias:0 response.weight:0 down.weight:1")
def global_response_norm() -> nn.Module:
    """A mean over the channels inside keeps those too."""
    return ConvNeXt(respond=True)


@add(
    "root mean square norm",
    sequences(),
    "enter.weight:0 weight:0 up.weight:1",
    "up.weight:0 down.weight:1",
    frozen="down.weight:0",
)
class Rms(nn.Module):
    """A mean over all features, which weight and eps can make up for."""

    def __init__(self) -> None:
        super().__init__()
        self.eps = 1e-6
        self.enter = nn.Linear(8, 12)
        self.weight = nn.Parameter(torch.ones(12))
        self.up = nn.Linear(12, 24)
        self.down = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Any:
        x = self.enter(x)
        x = x.to(torch.float32)
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.down(F.silu(self.up(self.weight * x)))


class Decoder(nn.Module):
    """A residual stream with norms before every layer, written as language models write them."""

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 12)
        self.before, self.after = norm(12), norm(12)
        self.up, self.gate, self.down = nn.Linear(12, 16), nn.Linear(12, 16), nn.Linear(16, 12)
        self.head = nn.Linear(12, 10, bias=False)

    def forward(self, words: Tensor) -> Any:
        x = self.table(words)
        y = self.before(x)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return self.head(self.after(x))


class Scale(nn.Module):
    """Divided by the root mean square in single precision; `how` to write it, and what is added to the weight."""

    def __init__(self, width: int, how: str = "rsqrt", offset: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.variance_epsilon, self.how, self.offset = 0.05, how, offset

    def forward(self, x: Tensor) -> Any:
        squares = x.float().square().mean(-1, keepdim=True) + self.variance_epsilon
        match self.how:
            case "rsqrt":
                y = x * squares.rsqrt()
            case "power":
                y = x * squares**-0.5
            case "root":
                y = x / squares.sqrt()
            case _:
                y = x * squares.sqrt().reciprocal()
        weight = self.weight if not self.offset else self.weight + self.offset
        return y.to(x.dtype) * weight


STREAM = "table.weight:1 before.weight:0 after.weight:0 up.weight:1 gate.weight:1 down.weight:0 head.weight:1"
for _how in ("rsqrt", "power", "root", "reciprocal"):
    add(f"root mean square by {_how}", words(), STREAM, units={"table.weight:1": 12})(
        partial(Decoder, partial(Scale, how=_how))
    )
add("root mean square of torch", words(), STREAM)(partial(Decoder, partial(nn.RMSNorm, eps=0.05)))
add("root mean square of torch with its own eps", words(), STREAM)(partial(Decoder, nn.RMSNorm))
add("root mean square with one added to the weight", words(), STREAM, units={"table.weight:1": 12})(
    partial(Decoder, partial(Scale, offset=1.0))
)


@add("root mean square twice by one module", words(), STREAM.replace(" after.weight:0", ""))
class Once(Decoder):
    """One norm for two places: it is rescaled once."""

    def __init__(self) -> None:
        super().__init__(Scale)
        del self.after

    def forward(self, words: Tensor) -> Any:
        x = self.table(words)
        y = self.before(x)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return self.head(self.before(x))


@add("root mean square of what is shifted", words(), "up.weight:0 down.weight:1", frozen=STREAM)
class Shifted(Decoder):
    """Where channels are masked the mean meets the shift, so that they have to stay."""

    def __init__(self) -> None:
        super().__init__(Scale)

    def forward(self, words: Tensor) -> Any:
        x = self.table(words) + 0.3
        y = self.before(x)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return self.head(self.after(x))


@add("root mean square whose weight is read again", words(), "up.weight:0 down.weight:1", frozen=STREAM)
class ReadAgain(Decoder):
    """A weight that counts elsewhere cannot be rescaled."""

    def __init__(self) -> None:
        super().__init__(Scale)

    def forward(self, words: Tensor) -> Any:
        return super().forward(words) * self.before.weight.square().sum()


class Standardised(nn.Conv2d):
    """A convolution whose kernels have mean zero and deviation one."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002  the name in torch
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6).reshape_as(self.weight)
        return F.conv2d(input, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


@add(
    "standardised weights",
    images(),
    "conv.weight:0 conv.bias:0 head.weight:1",
    frozen="stem.weight:0 conv.weight:1 head.weight:0",
)
class Standard(nn.Module):
    """A statistic over what a kernel reads: that stays; what it gives is free."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.conv = Standardised(8, 12, 3, padding=1)
        self.head = conv(12, 4, 1)

    def forward(self, x: Tensor) -> Any:
        return self.head(F.relu(self.conv(F.relu(self.stem(x)))))


@add(
    "weight norm",
    features(),
    "0.parametrizations.weight.original0:0 0.parametrizations.weight.original1:0 0.bias:0 2.weight:1",
    frozen="0.parametrizations.weight.original1:1 2.weight:0",
)
def weight_normed() -> nn.Module:
    """A length leaves with its direction. (With both at zero there is no direction, so masks are for the length.)"""
    return nn.Sequential(weight_norm(nn.Linear(8, 12)), nn.ReLU(), nn.Linear(12, 4))


@add(
    "weight norm over what comes in",
    images(),
    "0.weight:0 2.parametrizations.weight.original1:1",
    frozen="2.parametrizations.weight.original0:0",
)
def weight_normed_input() -> nn.Module:
    """A length does not change where zeros leave."""
    return nn.Sequential(conv(3, 12), nn.ReLU(), weight_norm(conv(12, 4)))


@add("spectral norm", features(), frozen="0.parametrizations.weight.original:1 2.weight:0")
def spectral_normed() -> nn.Module:
    """In eval mode weight / (u W v): rows could leave with their entries of u, a buffer."""
    return nn.Sequential(spectral_norm(nn.Linear(8, 12), n_power_iterations=8), nn.ReLU(), nn.Linear(12, 4))


@add("cosine of features", features(), "fc1.weight:0 fc2.weight:1", frozen="fc1.weight:1 classes:0")
class Cosine(nn.Module):
    """Both made of length one: that changes nothing where zeros leave, so the features could leave too."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 16)
        self.fc2 = nn.Linear(16, 12)
        self.classes = nn.Parameter(torch.ones(4, 12))

    def forward(self, x: Tensor) -> Any:
        x = self.fc2(F.relu(self.fc1(x)))
        return 8 * F.linear(F.normalize(x), F.normalize(self.classes))
