"""Chains of layers, what comes between them, and what goes in and out."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.specimen import Specimen, by_name, collector, conv, features, images, several

BASICS: dict[str, Specimen] = {}
add = collector(BASICS)


@add("mlp", features(), "fc1.weight:0 fc1.bias:0 fc2.weight:1", frozen="fc1.weight:1 fc2.weight:0 fc2.bias:0")
class Mlp(nn.Module):
    """A hidden unit leaves with its row and its column."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 16)
        self.fc2 = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Any:
        return self.fc2(F.relu(self.fc1(x)))


@add(
    "conv-bn-relu chain",
    images(),
    "0.weight:0 1.weight:0 1.bias:0 3.weight:1",
    "3.weight:0 4.weight:0 4.bias:0 6.weight:1",
    frozen="0.weight:1 6.weight:0 6.bias:0",
    units={"0.weight:0": 8, "3.weight:0": 12},
)
def chain() -> nn.Module:
    """Each width on its own."""
    first = [nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    second = [nn.Conv2d(8, 12, 3, bias=False), nn.BatchNorm2d(12), nn.ReLU(inplace=True)]
    return nn.Sequential(*first, *second, nn.Conv2d(12, 4, 1))


@add(
    "flatten to linear",
    images(),
    "conv1.weight:0 conv1.bias:0 fc.weight:1",
    frozen="conv1.weight:1 fc.weight:0",
    units={"conv1.weight:0": 8, "fc.weight:1": 8},
)
class Flatten(nn.Module):
    """A channel leaves with its sixteen columns."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.fc = nn.Linear(8 * 4 * 4, 5)

    def forward(self, x: Tensor) -> Any:
        return self.fc(F.max_pool2d(F.relu(self.conv1(x)), 2).flatten(1))


@add(
    "batch norm after flatten",
    images(size=4),
    "conv1.weight:0 norm.weight:0 norm.bias:0 fc.weight:1",
    frozen="fc.weight:0",
    units={"conv1.weight:0": 8, "norm.weight:0": 8},
)
class FlatNorm(nn.Module):
    """A channel leaves with its sixteen statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.norm = nn.BatchNorm1d(8 * 4 * 4)
        self.fc = nn.Linear(8 * 4 * 4, 5)

    def forward(self, x: Tensor) -> Any:
        x = self.conv1(x)
        return self.fc(self.norm(x.view(x.size(0), -1)))


@add(
    "global average pool",
    images(),
    "conv1.weight:0 conv2.weight:1",
    "conv2.weight:0 fc.weight:1",
    frozen="conv1.weight:1 fc.weight:0",
)
class GlobalPool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8, stride=2)
        self.conv2 = conv(8, 12)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Any:
        x = F.hardswish(self.conv2(F.hardswish(self.conv1(x))))
        return self.fc(torch.flatten(self.pool(x), 1))


@add("pool to bins", images(), "conv1.weight:0 fc.weight:1", frozen="fc.weight:0", units={"fc.weight:1": 8})
class Bins(nn.Module):
    """Average and largest over four bins, then flat: a channel leaves with eight columns."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.fc = nn.Linear(2 * 8 * 4, 5)

    def forward(self, x: Tensor) -> Any:
        x = F.leaky_relu(self.conv1(x))
        mean, largest = F.adaptive_avg_pool2d(x, 2), F.adaptive_max_pool2d(x, 2)
        return self.fc(torch.cat([mean.flatten(1), largest.flatten(1)], 1))


@add("prelu", images(), "conv1.weight:0 act.weight:0 conv2.weight:1", frozen="conv2.weight:0")
class Prelu(nn.Module):
    """A channel leaves with its slope."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 12)
        self.act = nn.PReLU(12)
        self.conv2 = conv(12, 4)

    def forward(self, x: Tensor) -> Any:
        return self.conv2(self.act(self.conv1(x)))


@add("maxout", features(), "fc1.weight:0 fc2.weight:1", frozen="fc2.weight:0", units={"fc1.weight:0": 8})
class Maxout(nn.Module):
    """Neighbours, of which the larger goes on, leave in pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 16)
        self.fc2 = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        x = self.fc1(x)
        return self.fc2(x.view(x.size(0), -1, 2).amax(-1))


@add("one and three dimensions", images(2, 4), "flat.weight:0 deep.weight:1")
class OneAndThree(nn.Module):
    """A convolution of rows, then one of volumes."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Conv1d(2, 8, 3, padding=1)
        self.deep = nn.Conv3d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Any:
        rows = F.relu(self.flat(x.flatten(2)))
        return F.avg_pool3d(self.deep(rows.unflatten(2, (4, 2, 2))), 2).flatten(1)


@add("two inputs", several(features(6), features(4)), "left.weight:0 right.weight:0 head.weight:1")
class TwoInputs(nn.Module):
    """What is added leaves together."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(6, 12)
        self.right = nn.Linear(4, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, one: Tensor, two: Tensor) -> Any:
        return self.head(torch.tanh(self.left(one) + self.right(two)))


@add(
    "inputs by name, dict output",
    by_name(image=images(), scale=features(1, 2)),
    "conv1.weight:0 conv2.weight:1",
    frozen="conv2.weight:0 conv2.bias:0 head.weight:1 head.weight:0",
)
class DictOutput(nn.Module):
    """Features that are given out stay."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.conv2 = conv(8, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, image: Tensor, scale: Tensor) -> dict[str, Any]:
        x = self.conv2(F.relu(self.conv1(image * scale[:, :, None, None])))
        return {"features": x, "scores": [self.head(x.mean((2, 3)))]}


@add(
    "shared module used twice",
    features(),
    "stem.weight:0 block.weight:0 block.weight:1 block.bias:0 head.weight:1",
    units={"block.weight:0": 12, "block.weight:1": 12},
)
class Twice(nn.Module):
    """What the block takes and what it gives are the same units."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 12)
        self.block = nn.Linear(12, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.stem(x))
        for _ in range(2):
            x = F.relu(self.block(x))
        return self.head(x)


@add(
    "shared convolution over levels",
    images(),
    "low.weight:0 high.weight:0 tower.weight:1",
    "down.weight:0 high.weight:1",
    "tower.weight:0 head.weight:1",
    frozen="head.weight:0",
)
class Levels(nn.Module):
    """Both levels lose what the shared convolution loses."""

    def __init__(self) -> None:
        super().__init__()
        self.low = conv(3, 8, 1)
        self.down = conv(3, 16, stride=2)
        self.high = conv(16, 8, 1)
        self.tower = conv(8, 12)
        self.head = conv(12, 4, 1)

    def forward(self, x: Tensor) -> list[Any]:
        levels = [self.low(x), self.high(F.relu(self.down(x)))]
        return [self.head(F.relu(self.tower(level))) for level in levels]


@add("list of heads", features(), "trunk.weight:0 heads.0.weight:1 heads.1.weight:1 heads.2.weight:1")
class Heads(nn.Module):
    """All heads lose what the trunk loses; what they give out stays."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(8, 16)
        self.heads = nn.ModuleList(nn.Linear(16, size) for size in (2, 3, 4))

    def forward(self, x: Tensor) -> Any:
        x = F.gelu(self.trunk(x))
        return torch.cat([head(x) for head in self.heads], dim=1)


@add("constants for the input", images(), "conv1.weight:0 conv2.weight:1", frozen="conv1.weight:1 conv2.weight:0")
class Constants(nn.Module):
    """Mean and deviation of the input belong to its channels and stay."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.2, 0.3, 0.25]).view(1, 3, 1, 1))
        self.conv1 = conv(3, 8)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Any:
        return self.conv2(F.relu(self.conv1((x - self.mean) / self.deviation)))


@add("batch norm of the input", images(), "conv1.weight:0 conv2.weight:1", frozen="norm.weight:0 conv1.weight:1")
class InputNorm(nn.Module):
    """The first norm belongs to the input and stays."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.conv1 = conv(3, 8)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Any:
        return self.conv2(F.elu(self.conv1(self.norm(x))))


@add("temperature", features(), "fc1.weight:0 fc2.weight:1", frozen="fc2.weight:0")
class Temperature(nn.Module):
    """A number that all classes are divided by has nothing to lose."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 12)
        self.fc2 = nn.Linear(12, 4)
        self.temperature = nn.Parameter(torch.tensor(2.0))
        self.offset = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Any:
        return self.fc2(F.relu(self.fc1(x) + self.offset)) / self.temperature


@add("unused layer", features(), "fc1.weight:0 fc2.weight:1", frozen="spare.weight:0 spare.weight:1 spare.bias:0")
class Unused(nn.Module):
    """What no operation reads stays."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 12)
        self.spare = nn.Linear(12, 12)
        self.fc2 = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Any:
        return self.fc2(F.relu(self.fc1(x)))
