"""Grouped and transposed convolutions, and channels that change places."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.specimen import Specimen, collector, conv, images

GROUPS: dict[str, Specimen] = {}
add = collector(GROUPS)


@add(
    "depthwise separable",
    images(),
    "0.weight:0 2.weight:0 2.bias:0 3.weight:1",
    "3.weight:0 5.weight:1",
    frozen="2.weight:1 5.weight:0",
    units={"0.weight:0": 8, "2.weight:0": 8},
)
def depthwise() -> nn.Module:
    """A channel leaves with its own kernel."""
    first = [conv(3, 8), nn.ReLU6(), conv(8, 8, groups=8)]
    return nn.Sequential(*first, conv(8, 16, 1), nn.ReLU6(), conv(16, 4, 1))


@add(
    "few groups",
    images(),
    "0.weight:0 2.weight:1",
    "2.weight:0 4.weight:1",
    frozen="0.weight:1 4.weight:0",
    units={"0.weight:0": 8, "2.weight:1": 8, "2.weight:0": 6},
)
def few_groups() -> nn.Module:
    """Two groups of eight: channel j leaves both groups at once, of what comes in and of what goes out."""
    return nn.Sequential(conv(3, 16), nn.ReLU(), conv(16, 12, groups=2), nn.ReLU(), conv(12, 4))


@add(
    "many groups",
    images(),
    "0.weight:0 2.weight:0 2.bias:0 4.weight:1",
    frozen="0.weight:1 2.weight:1 4.weight:0",
    units={"0.weight:0": 8, "2.weight:0": 8, "4.weight:1": 8},
)
def many_groups() -> nn.Module:
    """Eight groups of two, as in ResNeXt: a group leaves whole, with what comes in and what goes out."""
    return nn.Sequential(conv(3, 16), nn.ReLU(), conv(16, 16, groups=8), nn.ReLU(), conv(16, 4))


@add(
    "depthwise with multiplier",
    images(),
    "0.weight:0 2.weight:0 4.weight:1",
    frozen="2.weight:1 4.weight:0",
    units={"0.weight:0": 8, "2.weight:0": 8, "4.weight:1": 8},
)
def multiplier() -> nn.Module:
    """A channel leaves with the two that are made of it."""
    return nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 16, groups=8), nn.ReLU(), conv(16, 4))


@add(
    "transposed convolution",
    images(size=4),
    "0.weight:0 2.weight:0",
    "2.weight:1 2.bias:0 3.weight:0 5.weight:1",
    frozen="5.weight:0",
)
def transposed() -> nn.Module:
    """The weight has what comes in first, what goes out second."""
    middle = nn.ConvTranspose2d(8, 12, 2, stride=2)
    return nn.Sequential(conv(3, 8), nn.ReLU(), middle, nn.BatchNorm2d(12), nn.ReLU(), conv(12, 4))


@add(
    "grouped transposed convolution",
    images(size=4),
    "0.weight:0 2.weight:0 2.bias:0 4.weight:1",
    frozen="2.weight:1 4.weight:0",
    units={"0.weight:0": 8, "2.weight:0": 8, "2.bias:0": 8, "4.weight:1": 8},
)
def grouped_transposed() -> nn.Module:
    """Eight groups, two channels in and three out: a group leaves whole."""
    middle = nn.ConvTranspose2d(16, 24, 2, stride=2, groups=8)
    return nn.Sequential(conv(3, 16), nn.ReLU(), middle, nn.ReLU(), conv(24, 4))


@add(
    "pixel shuffle",
    images(size=4),
    "0.weight:0 0.bias:0 2.weight:1",
    frozen="2.weight:0",
    units={"0.weight:0": 6, "2.weight:1": 6},
)
def pixel_shuffle() -> nn.Module:
    """Four channels that become one leave together."""
    return nn.Sequential(conv(3, 24), nn.PixelShuffle(2), conv(6, 4))


@add(
    "pixel unshuffle",
    images(size=4),
    "0.weight:0 0.bias:0 2.weight:1",
    frozen="2.weight:0",
    units={"0.weight:0": 6, "2.weight:1": 6},
)
def pixel_unshuffle() -> nn.Module:
    """A channel leaves with the four that become of it."""
    return nn.Sequential(conv(3, 6), nn.PixelUnshuffle(2), conv(24, 4))


@add(
    "space from depth by view",
    images(size=4),
    "conv1.weight:0 conv2.weight:1",
    frozen="conv2.weight:0",
    units={"conv1.weight:0": 6, "conv2.weight:1": 6},
)
class SpaceFromDepth(nn.Module):
    """Pixel shuffle by hand, with the factors before the channels: channels j, 6 + j, 12 + j, 18 + j leave together."""

    def __init__(self) -> None:
        super().__init__()
        self.block = 2
        self.conv1 = conv(3, 24)
        self.conv2 = conv(6, 4)

    def forward(self, x: Tensor) -> Any:
        x = self.conv1(x)
        n, _, h, w = x.shape
        s = self.block
        x = x.view(n, s, s, -1, h, w).permute(0, 3, 4, 1, 5, 2)
        return self.conv2(x.reshape(n, -1, h * s, w * s))


class ShuffleUnit(nn.Module):
    """Half of the channels goes through the branch, then the halves are interleaved."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv(width, 12, 1)
        self.depth = conv(12, 12, groups=12)
        self.last = conv(12, width, 1)

    def forward(self, x: Tensor) -> Any:
        kept, changed = x.chunk(2, dim=1)
        changed = F.relu(self.last(self.depth(F.relu(self.first(changed)))))
        return shuffled(torch.cat((kept, changed), dim=1), groups=2)


def shuffled(x: Tensor, groups: int) -> Tensor:
    """The first channel of every group, then the second of every group, and so on."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


@add(
    "shuffle by view and transpose",
    images(size=4),
    "stem.weight:0 units.0.first.weight:1 units.0.last.weight:0 "
    "units.1.first.weight:1 units.1.last.weight:0 head.weight:1",
    "units.0.first.weight:0 units.0.depth.weight:0 units.0.last.weight:1",
    frozen="head.weight:0",
    units={"stem.weight:0": 4, "head.weight:1": 4},
)
class Shuffles(nn.Module):
    """Two units of ShuffleNet. Halves lose alike: 0 with 8; and the shuffle brings 4 to where 0 has its partner.

    So 0, 4, 8 and 12 of the stem leave together.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.units = nn.Sequential(ShuffleUnit(8), ShuffleUnit(8))
        self.head = conv(16, 4, 1)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.units(self.stem(x)))


@add(
    "channel shuffle",
    images(size=4),
    "0.weight:0 2.weight:1",
    frozen="2.weight:0",
    units={"0.weight:0": 4, "2.weight:1": 4},
)
def channel_shuffle() -> nn.Module:
    """Four groups of four: as many leave every group, or whole groups leave."""
    return nn.Sequential(conv(3, 16), nn.ChannelShuffle(4), conv(16, 4))


@add("channel shuffle between groups", images(size=4), frozen="0.weight:1 6.weight:0")
def shuffle_between_groups() -> nn.Module:
    """Where groups leave whole, each of the first is in each of the second: one unit, which cannot leave."""
    first = [conv(3, 16), nn.ReLU(), conv(16, 16, 1, groups=4)]
    return nn.Sequential(*first, nn.ChannelShuffle(4), conv(16, 16, 1, groups=4), nn.ReLU(), conv(16, 4))
