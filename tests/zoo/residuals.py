"""Sums over a skip: what is added to one another leaves together."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.specimen import Specimen, collector, conv, features, images

RESIDUALS: dict[str, Specimen] = {}
add = collector(RESIDUALS)


@add(
    "residual block with identity",
    images(),
    "stem.weight:0 conv1.weight:1 conv2.weight:0 norm2.weight:0 head.weight:1",
    "conv1.weight:0 norm1.weight:0 conv2.weight:1",
    frozen="stem.weight:1 head.weight:0",
)
class Residual(nn.Module):
    """The width is the stem's and the block's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.conv1 = conv(8, 12, bias=False)
        self.norm1 = nn.BatchNorm2d(12)
        self.conv2 = conv(12, 8, bias=False)
        self.norm2 = nn.BatchNorm2d(8)
        self.head = conv(8, 4, 1)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.stem(x))
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        y += x
        return self.head(F.relu(y))


@add(
    "residual block with projection",
    images(),
    "stem.weight:0 conv1.weight:1 shortcut.weight:1",
    "conv2.weight:0 shortcut.weight:0 head.weight:1",
    "conv1.weight:0 conv2.weight:1",
    frozen="stem.weight:1 head.weight:0",
)
class Projection(nn.Module):
    """The projection parts the width before from the width after."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.conv1 = conv(8, 12, stride=2)
        self.conv2 = conv(12, 16)
        self.shortcut = nn.Conv2d(8, 16, 1, stride=2)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.stem(x))
        x = F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))
        return self.head(x.mean([2, 3]))


@add(
    "bottleneck",
    images(),
    "stem.weight:0 blocks.0.reduce.weight:1 blocks.0.expand.weight:0 "
    "blocks.1.reduce.weight:1 blocks.1.expand.weight:0 head.weight:1",
    "blocks.0.reduce.weight:0 blocks.0.middle.weight:1",
    "blocks.0.middle.weight:0 blocks.0.norm.weight:0 blocks.0.expand.weight:1",
    "blocks.1.reduce.weight:0 blocks.1.middle.weight:1",
)
class Bottlenecks(nn.Module):
    """Two blocks share their width; each has two of its own inside."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.reduce = conv(16, 8, 1)
            self.middle = conv(8, 8)
            self.norm = nn.BatchNorm2d(8)
            self.expand = conv(8, 16, 1)

        def forward(self, x: Tensor) -> Any:
            return F.relu(x + self.expand(F.relu(self.norm(self.middle(F.relu(self.reduce(x)))))))

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16, stride=2)
        self.blocks = nn.Sequential(self.Block(), self.Block())
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.blocks(self.stem(x)).mean((-2, -1)))


@add(
    "inverted residual with squeeze and excite",
    images(),
    "stem.weight:0 expand.weight:1 project.weight:0 head.weight:1",
    "expand.weight:0 norm1.weight:0 depth.weight:0 norm2.weight:0 squeeze.weight:1 excite.weight:0 project.weight:1",
    "squeeze.weight:0 excite.weight:1",
    frozen="depth.weight:1 head.weight:0",
    units={"depth.weight:0": 16},
)
class Inverted(nn.Module):
    """Three widths: of the residual, inside the block, and inside the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8, stride=2)
        self.expand = conv(8, 16, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.depth = conv(16, 16, groups=16, bias=False)
        self.norm2 = nn.BatchNorm2d(16)
        self.squeeze = conv(16, 4, 1)
        self.excite = conv(4, 16, 1)
        self.project = conv(16, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        x = F.relu6(self.stem(x))
        y = F.hardswish(self.norm1(self.expand(x)))
        y = F.hardswish(self.norm2(self.depth(y)))
        gate = self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1))))
        x = x + self.project(y * F.hardsigmoid(gate))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


@add(
    "parallel kernels and an identity",
    images(),
    "stem.weight:0 wide.weight:0 wide.weight:1 wide_norm.weight:0 "
    "narrow.weight:0 narrow.weight:1 narrow_norm.weight:0 norm.weight:0 head.weight:1",
)
class Parallel(nn.Module):
    """A norm in the place of a skip: what the block takes and what it gives are the same units."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 12)
        self.wide = conv(12, 12, bias=False)
        self.wide_norm = nn.BatchNorm2d(12)
        self.narrow = conv(12, 12, 1, bias=False)
        self.narrow_norm = nn.BatchNorm2d(12)
        self.norm = nn.BatchNorm2d(12)
        self.head = conv(12, 4, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        x = self.wide_norm(self.wide(x)) + self.narrow_norm(self.narrow(x)) + self.norm(x)
        return self.head(F.relu(x))


@add(
    "residual from the input", features(), "fc1.weight:0 fc2.weight:1", frozen="fc1.weight:1 fc2.weight:0 head.weight:1"
)
class FromInput(nn.Module):
    """What is added to the input stays, and so does what reads the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 12)
        self.fc2 = nn.Linear(12, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        return self.head(x + self.fc2(F.relu(self.fc1(x))))


@add("highway", features(), "stem.weight:0 change.weight:0 change.weight:1 gate.weight:0 gate.weight:1 head.weight:1")
class Highway(nn.Module):
    """Gate, change and what they change are one width."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 12)
        self.change = nn.Linear(12, 12)
        self.gate = nn.Linear(12, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        gate = torch.sigmoid(self.gate(x))
        return self.head(gate * torch.tanh(self.change(x)) + (1 - gate) * x)


@add(
    "low rank beside a layer",
    features(),
    "base.weight:0 up.weight:0 head.weight:1",
    "down.weight:0 up.weight:1",
    frozen="base.weight:1 down.weight:1",
)
class LowRank(nn.Module):
    """The rank is a width of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(8, 12)
        self.down = nn.Linear(8, 4, bias=False)
        self.up = nn.Linear(4, 12, bias=False)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Any:
        return self.head(F.relu(self.base(x) + 0.5 * self.up(self.down(x))))


@add("shortcut padded with channels", images(), "stem.weight:0 conv1.weight:1 conv2.weight:0 head.weight:1")
class Padded(nn.Module):
    """The stem's channels leave with those of the block that they are added to; its others meet zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.conv1 = conv(8, 12, stride=2)
        self.conv2 = conv(12, 16)
        self.head = conv(16, 4, 1)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.stem(x))
        y = self.conv2(F.relu(self.conv1(x)))
        return self.head(F.relu(y + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))))
