"""Concatenation and its opposite."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.specimen import Specimen, collector, conv, features, images

JOINS: dict[str, Specimen] = {}
add = collector(JOINS)


@add(
    "dense concatenation",
    images(),
    "stem.weight:0 norm1.weight:0 conv1.weight:1 norm2.weight:0 conv2.weight:1 norm3.weight:0 head.weight:1",
    "conv1.weight:0 norm2.weight:0 conv2.weight:1 norm3.weight:0 head.weight:1",
    "conv2.weight:0 norm3.weight:0 head.weight:1",
    frozen="stem.weight:1 head.weight:0",
    units={"stem.weight:0": 8, "conv1.weight:0": 4, "norm3.weight:0": 16},
)
class Dense(nn.Module):
    """Every later norm and convolution loses what an earlier one no longer gives."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv1 = conv(8, 4)
        self.norm2 = nn.BatchNorm2d(12)
        self.conv2 = conv(12, 4)
        self.norm3 = nn.BatchNorm2d(16)
        self.head = conv(16, 4, 1)

    def forward(self, x: Tensor) -> Any:
        kept = [self.stem(x)]
        kept.append(self.conv1(F.relu(self.norm1(torch.cat(kept, 1)))))
        kept.append(self.conv2(F.relu(self.norm2(torch.cat(kept, 1)))))
        return self.head(F.relu(self.norm3(torch.cat(kept, 1))))


@add(
    "inception branches",
    images(),
    "stem.weight:0 one.weight:1 reduce.weight:1 pooled.weight:1",
    "one.weight:0 head.weight:1",
    "reduce.weight:0 three.weight:1",
    "three.weight:0 head.weight:1",
    "pooled.weight:0 head.weight:1",
    units={"head.weight:1": 16},
)
class Inception(nn.Module):
    """All branches read the stem; each gives its own part of the head's columns."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.one = conv(8, 4, 1)
        self.reduce = conv(8, 4, 1)
        self.three = conv(4, 8)
        self.pooled = conv(8, 4, 1)
        self.head = conv(16, 4, 1)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.stem(x))
        wide = self.three(F.relu(self.reduce(x)))
        pooled = self.pooled(F.max_pool2d(x, 3, stride=1, padding=1))
        return self.head(F.relu(torch.cat([self.one(x), wide, pooled], dim=1)))


@add(
    "u-net",
    images(),
    "enter.weight:0 norm.weight:0 deeper.weight:1 leave.weight:1",
    "deeper.weight:0 bottom.weight:1",
    "bottom.weight:0 leave.weight:1",
    "leave.weight:0 head.weight:1",
    frozen="enter.weight:1 head.weight:0",
)
class UNet(nn.Module):
    """The skip's channels are the last columns of the convolution after the join."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = conv(3, 8)
        self.norm = nn.BatchNorm2d(8)
        self.deeper = conv(8, 16)
        self.bottom = conv(16, 12)
        self.leave = conv(20, 8)
        self.head = conv(8, 2, 1)

    def forward(self, x: Tensor) -> Any:
        skip = F.relu(self.norm(self.enter(x)))
        x = F.relu(self.deeper(F.max_pool2d(skip, 2)))
        x = F.interpolate(self.bottom(x), scale_factor=2, mode="bilinear", align_corners=False)
        x = F.relu(self.leave(torch.cat([x, skip], dim=1)))
        return F.interpolate(self.head(x), size=(16, 16), mode="nearest")


@add(
    "cheap features beside real ones",
    images(),
    "primary.weight:0 cheap.weight:0 head.weight:1",
    units={"primary.weight:0": 8, "cheap.weight:0": 8, "head.weight:1": 8},
)
class Ghost(nn.Module):
    """A channel leaves with the one that is made of it, twice in the head."""

    def __init__(self) -> None:
        super().__init__()
        self.primary = conv(3, 8)
        self.cheap = conv(8, 8, groups=8)
        self.head = conv(16, 4, 1)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.primary(x))
        return self.head(torch.cat([x, F.relu(self.cheap(x))], 1))


@add(
    "input beside features",
    images(),
    "conv1.weight:0 conv2.weight:1",
    "conv2.weight:0 head.weight:1",
    frozen="conv1.weight:1 head.weight:0",
)
class InputBeside(nn.Module):
    """The first three columns of what follows belong to the input and stay."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 12)
        self.conv2 = conv(15, 8)
        self.head = conv(8, 4, 1)

    def forward(self, x: Tensor) -> Any:
        return self.head(F.relu(self.conv2(torch.cat([x, F.relu(self.conv1(x))], 1))))


@add(
    "chunk in halves",
    features(),
    "fc1.weight:0 left.weight:1 right.weight:1",
    "left.weight:0 right.weight:0 head.weight:1",
    units={"fc1.weight:0": 8},
)
class Halves(nn.Module):
    """The halves go by count, so they lose alike: j with 8 + j."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 16)
        self.left = nn.Linear(8, 12)
        self.right = nn.Linear(8, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Any:
        one, two = torch.chunk(F.relu(self.fc1(x)), 2, dim=-1)
        return self.head(F.relu(self.left(one) + self.right(two)))


@add(
    "uneven split",
    images(),
    "conv1.weight:0",
    "small.weight:0 large.weight:0 head.weight:1",
    prunable="small.weight:1 large.weight:1",
    frozen="head.weight:0",
    units={"conv1.weight:0": 12, "small.weight:1": 4, "large.weight:1": 8},
)
class Uneven(nn.Module):
    """Each part loses what it loses; the sizes that the module holds follow."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = [4, 8]
        self.conv1 = conv(3, 12)
        self.small = conv(4, 8)
        self.large = conv(8, 8)
        self.head = conv(8, 4, 1)

    def forward(self, x: Tensor) -> Any:
        small, large = F.relu(self.conv1(x)).split(self.sizes, dim=1)
        return self.head(F.relu(self.small(small) + self.large(large)))


@add(
    "part of the channels convolved",
    images(),
    "mix.weight:0 expand.weight:1",
    "expand.weight:0 head.weight:1",
    prunable="stem.weight:0 mix.weight:1",
    frozen="head.weight:0",
    units={"stem.weight:0": 16, "mix.weight:1": 4, "expand.weight:1": 16},
)
class Partial(nn.Module):
    """The stem's first four leave with what `mix` reads, its other twelve with the last columns of `expand`."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.rest = 4, 12
        self.stem = conv(3, 16)
        self.mix = conv(4, 4)
        self.expand = conv(16, 24, 1)
        self.head = conv(24, 4, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        part, rest = torch.split(x, [self.part, self.rest], dim=1)
        x = torch.cat((self.mix(part), rest), 1)
        return self.head(F.relu(self.expand(x)))


@add(
    "hierarchy inside a block",
    images(),
    "reduce.weight:0 convs.0.weight:0 convs.0.weight:1 convs.1.weight:1 expand.weight:1",
    "convs.1.weight:0 expand.weight:1",
    frozen="head.weight:0",
    units={"reduce.weight:0": 4, "expand.weight:1": 8},
)
class Hierarchy(nn.Module):
    """Res2Net: split in equal parts, each convolved with the one before added, and joined: j of every part leaves.

    Nothing is added to what the last convolution makes, so its channels leave by themselves.
    """

    def __init__(self) -> None:
        super().__init__()
        self.width = 4
        self.reduce = conv(3, 12, 1)
        self.convs = nn.ModuleList(conv(4, 4) for _ in range(2))
        self.expand = conv(12, 16, 1)
        self.head = conv(16, 4, 1)

    def forward(self, x: Tensor) -> Any:
        parts = torch.split(F.relu(self.reduce(x)), self.width, dim=1)
        y = parts[0]
        made = [y]
        for part, layer in zip(parts[1:], self.convs, strict=True):
            y = F.relu(layer(y + part))
            made.append(y)
        return self.head(F.relu(self.expand(torch.cat(made, 1))))


@add(
    "cross stage partial",
    images(),
    "stem.weight:0 left.weight:1 right.weight:1",
    "left.weight:0 inside.weight:1 back.weight:0 join.weight:1",
    "inside.weight:0 back.weight:1",
    "right.weight:0 join.weight:1",
    "join.weight:0 head.weight:1",
)
class CrossStage(nn.Module):
    """One path with a residual block, one without, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 12, stride=2)
        self.left = conv(12, 8, 1)
        self.inside = conv(8, 8, 1)
        self.back = conv(8, 8)
        self.right = conv(12, 8, 1)
        self.join = conv(16, 12, 1)
        self.head = conv(12, 4, 1)

    def forward(self, x: Tensor) -> Any:
        x = F.silu(self.stem(x))
        left = self.left(x)
        left = left + self.back(F.silu(self.inside(left)))
        return self.head(F.silu(self.join(torch.cat((left, self.right(x)), 1))))


@add(
    "gated linear unit by chunk",
    features(),
    "fc1.weight:0 fc2.weight:1",
    frozen="fc1.weight:1 fc2.weight:0",
    units={"fc1.weight:0": 12, "fc2.weight:1": 12},
)
class GluByChunk(nn.Module):
    """A value leaves with its gate: j with 12 + j."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 24)
        self.fc2 = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Any:
        value, gate = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(value * torch.sigmoid(gate))


@add(
    "gated linear unit",
    images(),
    "conv1.weight:0 conv2.weight:1",
    frozen="conv2.weight:0",
    units={"conv1.weight:0": 8, "conv2.weight:1": 8},
)
class Glu(nn.Module):
    """A value leaves with its gate: j with 8 + j."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 16)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Any:
        return self.conv2(F.glu(self.conv1(x), dim=1))


@add(
    "gate of every other channel",
    features(),
    "fc1.weight:0 fc2.weight:1",
    frozen="fc2.weight:0",
    units={"fc1.weight:0": 8, "fc2.weight:1": 8},
)
class Interleaved(nn.Module):
    """Neighbours leave together: 2 j with 2 j + 1."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 16)
        self.fc2 = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        x = self.fc1(x)
        return self.fc2((x[..., ::2] + 1) * torch.sigmoid(x[..., 1::2]))


@add(
    "buffer filled by slices",
    images(),
    "left.weight:0 head.weight:1",
    "right.weight:0 head.weight:1",
    frozen="head.weight:0",
    units={"left.weight:0": 4, "right.weight:0": 8, "head.weight:1": 12},
)
class Filled(nn.Module):
    """As if joined; the sizes that the module holds follow."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.all = 4, 12
        self.left = conv(3, 4)
        self.right = conv(3, 8)
        self.head = conv(12, 4, 1)

    def forward(self, x: Tensor) -> Any:
        n, _, h, w = x.shape
        out = torch.zeros(n, self.all, h, w, device=x.device, dtype=x.dtype)
        out[:, : self.first] = self.left(x)
        out[:, self.first :] = self.right(x)
        return self.head(F.relu(out))
