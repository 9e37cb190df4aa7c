"""Channels that weigh channels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.specimen import Specimen, collector, conv, features, images, sequences, several

GATES: dict[str, Specimen] = {}
add = collector(GATES)


@add(
    "gated mlp",
    sequences(),
    "gate.weight:0 up.weight:0 down.weight:1",
    frozen="gate.weight:1 up.weight:1 down.weight:0",
    units={"gate.weight:0": 16},
)
class GatedMlp(nn.Module):
    """A gate leaves with what it lets through."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 16, bias=False)
        self.up = nn.Linear(8, 16, bias=False)
        self.down = nn.Linear(16, 8, bias=False)

    def forward(self, x: Tensor) -> Any:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Spatial(nn.Module):
    """Half of the channels, mixed over the six places, gates the other half."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 24)
        self.norm = nn.LayerNorm(12) if norm else nn.Identity()
        self.spatial = nn.Linear(6, 6)
        self.fc2 = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Any:
        u, v = F.gelu(self.fc1(x)).chunk(2, dim=-1)
        v = self.spatial(self.norm(v).transpose(-1, -2))
        return self.fc2(u * v.transpose(-1, -2))


PLACES = "spatial.weight:0 spatial.weight:1 spatial.bias:0"


@add("spatial gating with norm", sequences(), frozen=f"fc1.weight:0 norm.weight:0 fc2.weight:1 {PLACES}")
def spatial_with_norm() -> nn.Module:
    """The norm keeps the gates, and the gates what they let through."""
    return Spatial(norm=True)


@add("spatial gating", sequences(), "fc1.weight:0 fc2.weight:1", frozen=PLACES, units={"fc1.weight:0": 12})
def spatial() -> nn.Module:
    """A channel leaves with its gate: j with 12 + j. Places stay."""
    return Spatial(norm=False)


@add("softmax over channels", images(), frozen="conv1.weight:0 fc.weight:0 fc.weight:1 conv2.weight:1")
class ChannelSoftmax(nn.Module):
    """Shares of one whole: none can leave."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 12)
        self.fc = nn.Linear(12, 12)
        self.conv2 = conv(12, 4)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.conv1(x))
        share = self.fc(x.mean((2, 3))).softmax(dim=1)
        return self.conv2(x * share[:, :, None, None])


@add(
    "attention over branches",
    images(),
    "stem.weight:0 narrow.weight:1 wide.weight:1",
    "narrow.weight:0 wide.weight:0 squeeze.weight:1 excite.0.weight:0 excite.1.weight:0 head.weight:1",
    "squeeze.weight:0 excite.0.weight:1 excite.1.weight:1",
    frozen="head.weight:0",
    units={"narrow.weight:0": 12, "excite.0.weight:0": 12},
)
class BranchSoftmax(nn.Module):
    """SKNet: shares of the branches, for every channel its own; a channel leaves from both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.narrow = conv(8, 12)
        self.wide = conv(8, 12, 5)
        self.squeeze = nn.Linear(12, 4)
        self.excite = nn.ModuleList(nn.Linear(4, 12) for _ in range(2))
        self.head = conv(12, 4, 1)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.stem(x))
        branches = torch.stack([F.relu(self.narrow(x)), F.relu(self.wide(x))], dim=1)
        z = F.relu(self.squeeze(branches.sum(1).mean((2, 3))))
        share = torch.stack([layer(z) for layer in self.excite], dim=1).softmax(dim=1)
        return self.head((branches * share[..., None, None]).sum(1))


@add(
    "attention over split channels",
    images(),
    "conv1.weight:0 squeeze.weight:1 excite.weight:0 head.weight:1",
    "squeeze.weight:0 excite.weight:1",
    units={"conv1.weight:0": 8, "excite.weight:0": 8, "head.weight:1": 8},
)
class SplitSoftmax(nn.Module):
    """ResNeSt: both branches in one layer; j leaves with 8 + j."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = 2
        self.conv1 = conv(3, 16)
        self.squeeze = nn.Linear(8, 4)
        self.excite = nn.Linear(4, 16)
        self.head = conv(8, 4, 1)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.conv1(x))
        n, _, h, w = x.shape
        x = x.view(n, self.branches, -1, h, w)
        z = F.relu(self.squeeze(x.sum(1).mean((2, 3))))
        share = F.softmax(self.excite(z).view(n, self.branches, -1), dim=1)
        return self.head((x * share.view(n, self.branches, -1, 1, 1)).sum(1))


@add("convolution over channels", images(), frozen="conv1.weight:0 conv2.weight:1 eca.weight:0 eca.weight:1")
class Neighbours(nn.Module):
    """ECA: the gate looks at neighbours, which change when one leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 12)
        self.eca = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.conv2 = conv(12, 4)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.conv1(x))
        gate = self.eca(F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2))
        return self.conv2(x * torch.sigmoid(gate.transpose(-1, -2).unsqueeze(-1)))


@add("gate from mean and maximum", images(), "conv1.weight:0 conv2.weight:1", frozen="conv2.weight:0 conv3.weight:1")
class SpatialGate(nn.Module):
    """CBAM: a mean over channels keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.conv2 = conv(8, 12)
        self.gate = conv(2, 1, 5)
        self.conv3 = conv(12, 4)

    def forward(self, x: Tensor) -> Any:
        x = self.conv2(F.relu(self.conv1(x)))
        seen = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], dim=1)
        return self.conv3(x * torch.sigmoid(self.gate(seen)))


@add("gate of one channel", images(), "conv1.weight:0 gate.weight:1 conv2.weight:1", frozen="gate.weight:0 gate.bias:0")
class OneGate(nn.Module):
    """The gate is the same for all channels and has nothing to lose."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 12)
        self.gate = conv(12, 1, 1)
        self.conv2 = conv(12, 4)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.conv1(x))
        return self.conv2(x * self.gate(x).sigmoid())


@add(
    "gates along height and width",
    images(),
    "conv1.weight:0 squeeze.weight:1 high.weight:0 wide.weight:0 conv2.weight:1",
    "squeeze.weight:0 norm.weight:0 high.weight:1 wide.weight:1",
)
class Coordinates(nn.Module):
    """Means of rows and of columns, joined in space, split again: channels go through."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 12)
        self.squeeze = conv(12, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.high = conv(4, 12, 1)
        self.wide = conv(4, 12, 1)
        self.conv2 = conv(12, 4)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.conv1(x))
        h, w = x.shape[2:]
        means = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], dim=2)
        high, wide = F.hardswish(self.norm(self.squeeze(means))).split([h, w], dim=2)
        return self.conv2(x * self.high(high).sigmoid() * self.wide(wide.transpose(2, 3)).sigmoid())


@add("product of branches", features(), "left.weight:0 right.weight:0 head.weight:1", units={"left.weight:0": 12})
class Product(nn.Module):
    """Factors leave together."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(8, 12)
        self.right = nn.Linear(8, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Any:
        return self.head(F.relu6(self.left(x)) * self.right(x))


@add("maximum of branches", features(), "left.weight:0 right.weight:0 head.weight:1", units={"left.weight:0": 12})
class Maximum(nn.Module):
    """What is compared leaves together."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(8, 12)
        self.right = nn.Linear(8, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Any:
        left, right = self.left(x), self.right(x)
        return self.head(torch.where(left > right, torch.maximum(left, right), right.clamp(max=1)))


@add(
    "scale and shift from a second input",
    several(images(), features(5, 2)),
    "conv1.weight:0 film.weight:0 conv2.weight:1",
    frozen="film.weight:1 conv2.weight:0",
    units={"conv1.weight:0": 8, "film.weight:0": 8},
)
class Film(nn.Module):
    """A channel leaves with its scale and its shift: j with 8 + j."""

    def __init__(self) -> None:
        super().__init__()
        self.film = nn.Linear(5, 16)
        self.conv1 = conv(3, 8)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor, condition: Tensor) -> Any:
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        return self.conv2(F.relu(self.conv1(x) * (1 + scale) + shift))
