"""Pictures as tokens: patches, windows, class tokens, and layers that mix places."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.heads import OUTSIDE, WHOLE, Separate, each, weights
from tests.zoo.specimen import Specimen, collector, conv, images, sequences

WINDOWS: dict[str, Specimen] = {}
add = collector(WINDOWS)


@add(
    "patches, class token, positions",
    images(),
    "patch.weight:0 patch.bias:0 token:2 position:2 fc1.weight:1 fc2.weight:0 head.weight:1",
    "fc1.weight:0 fc2.weight:1",
    frozen="patch.weight:1 token:0 token:1 position:1 head.weight:0",
    units={"token:2": 12},
)
class ClassToken(nn.Module):
    """Patches are in a row after the convolution; the token in front has the same width; places stay."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 12))
        self.position = nn.Parameter(torch.zeros(1, 5, 12))
        self.fc1, self.fc2 = nn.Linear(12, 16), nn.Linear(16, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Any:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), dim=1) + self.position
        x = x + self.fc2(F.gelu(self.fc1(x)))
        return self.head(x[:, 0])


def partition(x: Tensor, size: int) -> Tensor:
    """Windows one after the other, each as a row of places."""
    n, h, w, c = x.shape
    x = x.view(n, h // size, size, w // size, size, c)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, size * size, c)


def reverse(windows: Tensor, size: int, h: int, w: int) -> Tensor:
    """The picture that was cut into windows."""
    x = windows.view(-1, h // size, w // size, size, size, windows.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, h, w, windows.shape[-1])


def distances(size: int) -> Tensor:
    """Number of the distance between any two places of a window."""
    grid = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")).flatten(1)
    apart = grid[:, :, None] - grid[:, None, :] + size - 1
    return apart[0] * (2 * size - 1) + apart[1]


@add(
    "shifted windows",
    images(8, 4),
    f"{WHOLE} table:1",
    "fc1.weight:0 fc2.weight:1",
    frozen=f"{OUTSIDE} table:0 norm1.weight:0 norm2.weight:0 fc1.weight:1 fc2.weight:0",
    units={**each(4), "table:1": 4},
)
class Shifted(Separate):
    """Swin: the norms keep the width; a head leaves with its column of the table; places are free to move."""

    index: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.window, self.shift = 2, 1
        self.table = nn.Parameter(torch.zeros(9, 4))
        self.register_buffer("index", distances(2))
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 8)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        places = self.window * self.window
        bias = self.table[self.index.view(-1)].view(places, places, -1).permute(2, 0, 1)
        return (weights(q, k) + bias.contiguous().unsqueeze(0)).softmax(dim=-1) @ v

    def forward(self, x: Tensor) -> Any:
        x = x.permute(0, 2, 3, 1)
        h, w = x.shape[1:3]
        y = torch.roll(self.norm1(x), shifts=(-self.shift, -self.shift), dims=(1, 2))
        y = reverse(super().forward(partition(y, self.window)), self.window, h, w)
        x = x + torch.roll(y, shifts=(self.shift, self.shift), dims=(1, 2))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


@add(
    "patch merging",
    images(),
    "embed.weight:0 reduce.weight:1",
    frozen="embed.weight:1 reduce.weight:0 norm.weight:0 head.weight:1",
    units={"embed.weight:0": 6, "reduce.weight:1": 6},
)
class Merging(nn.Module):
    """A channel leaves with four columns, one for each of the four places that are joined."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 2, stride=2)
        self.reduce = nn.Linear(24, 12, bias=False)
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Any:
        x = self.embed(x).permute(0, 2, 3, 1)
        corners = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        return self.head(self.norm(self.reduce(torch.cat(corners, -1))).mean((1, 2)))


@add(
    "patches unfolded",
    images(size=4),
    "conv1.weight:0 fc.weight:1",
    frozen="fc.weight:0",
    units={"conv1.weight:0": 8, "fc.weight:1": 8},
)
class Unfolded(nn.Module):
    """A channel leaves with the nine columns of its places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.fc = nn.Linear(72, 4)

    def forward(self, x: Tensor) -> Any:
        patches = F.unfold(F.relu(self.conv1(x)), kernel_size=3, padding=1)
        return self.fc(patches.transpose(1, 2))


@add(
    "mixing places as numerous as channels",
    sequences(8, 3),
    "embed.weight:0 alpha:0 beta:0 inside.weight:1 outside.weight:0 head.weight:1",
    "spread.weight:0 gather.weight:1",
    "inside.weight:0 outside.weight:1",
    frozen="embed.weight:1 spread.weight:1 gather.weight:0 gather.bias:0 head.weight:0",
    units={"embed.weight:0": 8},
)
class Mixer(nn.Module):
    """Eight places and eight channels: the channels can leave, the places cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.alpha, self.beta = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))
        self.spread, self.gather = nn.Linear(8, 16), nn.Linear(16, 8)
        self.inside, self.outside = nn.Linear(8, 12), nn.Linear(12, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        x = self.embed(x)
        y = torch.addcmul(self.beta, self.alpha, x).transpose(1, 2)
        x = x + self.gather(F.gelu(self.spread(y))).transpose(1, 2)
        x = x + self.outside(F.gelu(self.inside(x)))
        return self.head(x.mean(dim=1))


@add("mixer with layer norms", sequences(8, 8), "spread.weight:0 gather.weight:1", frozen="norm.weight:0 head.weight:1")
class NormedMixer(nn.Module):
    """The norm keeps the channels; what is inside the mixing of places is free."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.spread, self.gather = nn.Linear(8, 16), nn.Linear(16, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        y = self.norm(x).transpose(1, 2)
        x = x + self.gather(F.gelu(self.spread(y))).transpose(1, 2)
        return self.head(x)


@add(
    "every place looks at every other",
    images(size=4),
    "stem.weight:0 theta.weight:1 phi.weight:1 value.weight:1 back.weight:0 head.weight:1",
    "theta.weight:0 phi.weight:0",
    "value.weight:0 back.weight:1",
    frozen="head.weight:0",
    units={"theta.weight:0": 4, "value.weight:0": 6},
)
class NonLocal(nn.Module):
    """Attention of one head without scale: what is compared, and what is passed on, are widths of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 12)
        self.theta, self.phi = conv(12, 4, 1), conv(12, 4, 1)
        self.value, self.back = conv(12, 6, 1), conv(6, 12, 1)
        self.head = conv(12, 4, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        theta, phi, value = (layer(x).flatten(2) for layer in (self.theta, self.phi, self.value))
        share = torch.bmm(theta.transpose(1, 2), phi).softmax(dim=-1)
        y = torch.bmm(value, share.transpose(1, 2)).unflatten(2, x.shape[2:])
        return self.head(x + self.back(y))
