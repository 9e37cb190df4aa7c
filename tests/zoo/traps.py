"""Sums, means, moves and operations that nobody knows: where a guess would be wrong."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.specimen import Specimen, collector, conv, features, images

TRAPS: dict[str, Specimen] = {}
add = collector(TRAPS)


class Between(nn.Module):
    """Two convolutions; `change` says what happens to the twelve channels between them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 12)
        self.conv2 = conv(12, 4)

    def change(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Any:
        return self.conv2(self.change(F.relu(self.conv1(x))))


class Reduced(nn.Module):
    """Two convolutions; `reduce` says what becomes of the twelve channels of the second."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.conv2 = conv(8, 12)

    def reduce(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Any:
        return self.reduce(self.conv2(F.relu(self.conv1(x))))


STUCK = "conv1.weight:0 conv1.bias:0 conv2.weight:1"
INSIDE = "conv1.weight:0 conv2.weight:1"
LAST = "conv2.weight:0 conv2.bias:0"


@add("sum over channels", images(), INSIDE, LAST)
class Sum(Reduced):
    """A masked channel adds nothing, so it can leave."""

    def reduce(self, x: Tensor) -> Tensor:
        return F.relu(x).sum(dim=1)


@add("mean over channels", images(), INSIDE, frozen=LAST)
class Mean(Reduced):
    """A masked channel counts, so it cannot leave."""

    def reduce(self, x: Tensor) -> Tensor:
        return F.relu(x).mean(dim=1)


@add("gate, then sum over channels", images(), INSIDE, frozen=LAST)
class GateSum(Reduced):
    """A masked channel adds a half."""

    def reduce(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x).sum(dim=1)


@add("constant, then sum over channels", images(), INSIDE, frozen=LAST)
class ConstantSum(Reduced):
    """A masked channel adds the constant."""

    def reduce(self, x: Tensor) -> Tensor:
        return (x.abs() + 0.25).sum(dim=1, keepdim=True)


@add("gated sum over channels", images(), INSIDE, LAST)
class GatedSum(Reduced):
    """A masked channel adds a half of nothing."""

    def reduce(self, x: Tensor) -> Tensor:
        return (x * torch.sigmoid(x)).sum(dim=1)


@add("maximum over channels", images(), INSIDE, frozen=LAST)
class Largest(Reduced):
    """A masked channel may be the largest."""

    def reduce(self, x: Tensor) -> Tensor:
        return x.amax(dim=1)


@add("softmax of the output", images(), INSIDE, frozen=LAST)
class OutputSoftmax(Reduced):
    """Outputs stay."""

    def reduce(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)).log_softmax(dim=-1)


@add("running sum over channels", images(), frozen=STUCK)
class Running(Between):
    """No rule: frozen. (A masked channel goes on giving the sum of those before it, into zeros: it could leave.)"""

    def change(self, x: Tensor) -> Tensor:
        return x.cumsum(dim=1)


@add("sorted channels", images(), frozen=STUCK)
class Sorted(Between):
    """A channel's place depends on the picture."""

    def change(self, x: Tensor) -> Tensor:
        return x.sort(dim=1)[0]


@add("what the code drops", images(), "conv1.weight:0 conv2.weight:1", frozen="conv2.weight:0")
class Dropped(Between):
    """A mean over channels that nobody reads, and a last channel of which only the shape counts."""

    def change(self, x: Tensor) -> Tensor:
        x.mean(dim=1)
        batch, height, _ = x[:, -1].shape
        return x.reshape(batch, -1, height, x.shape[3])


@add("orthogonal factor", features(12), "fc1.weight:0 fc2.weight:1", frozen="fc2.weight:0 fc3.weight:1 fc3.weight:0")
class Orthogonal(nn.Module):
    """QR of all features together: no rule, and none would do."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(12, 16), nn.Linear(16, 3), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Any:
        q, r = torch.linalg.qr(self.fc2(F.relu(self.fc1(x))))
        return self.fc3(q @ r.abs())


@torch.library.custom_op("secateur_zoo::stir", mutates_args=())
def stir(x: Tensor) -> Tensor:
    """Each channel with a little of the first: an operation of which nothing is known but its shape."""
    return x + 0.5 * x[:, :1].tanh()


@stir.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@add("operation of a library", images(), frozen=STUCK)
class Unknown(Between):
    """What has no rule freezes what it touches."""

    def change(self, x: Tensor) -> Any:
        return stir(x)


class Steps(torch.autograd.Function):
    """Rounded to quarters, with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x * 4) / 4

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0]


@add("function with its own gradient", images(), INSIDE, frozen="conv2.weight:0")
class Stepped(Between):
    """Its operations are seen, and each goes channel by channel."""

    def change(self, x: Tensor) -> Any:
        return Steps.apply(x)


@add("channels rolled", images(), frozen="conv1.weight:1 conv2.weight:0")
class Rolled(Between):
    """May freeze. (By hand: all but the last could leave; the new last would be rolled in the place of the old.)"""

    def change(self, x: Tensor) -> Tensor:
        return torch.roll(x, shifts=1, dims=1)


@add("channels flipped", images(), frozen="conv1.weight:1 conv2.weight:0")
class Flipped(Between):
    """May freeze. (By hand: j could leave with column 11 - j.)"""

    def change(self, x: Tensor) -> Tensor:
        return x.flip(1)


@add("channels picked by number", images(), frozen=STUCK)
class Picked(Between):
    """A table of places, which would be wrong once a channel has left."""

    order: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 11, 7, 10, 8]))

    def change(self, x: Tensor) -> Tensor:
        return x[:, self.order]


@add("thirds in turns", images(), frozen="conv1.weight:1 conv2.weight:0")
class Strided(Between):
    """May freeze. (By hand: 3 j, 3 j + 1 and 3 j + 2 could leave together.)"""

    def change(self, x: Tensor) -> Tensor:
        return torch.cat((x[:, ::3], x[:, 1::3], x[:, 1::3] * x[:, 2::3]), dim=1)


@add("one channel read alone", images(), INSIDE, frozen="conv2.weight:0", units={"conv1.weight:0": 11})
class Alone(Between):
    """The first channel scales all others, and stays where it is; the others can leave."""

    def change(self, x: Tensor) -> Tensor:
        return x * (1 + x[:, :1])


@add("table fixed for all channels", images(), frozen=STUCK)
class FixedTable(Between):
    """A number for each channel, made in the pass: nothing says that it could leave with it."""

    def change(self, x: Tensor) -> Tensor:
        return x * torch.linspace(0.5, 1.5, 12, device=x.device).view(1, -1, 1, 1)


@add("written in place", images(), INSIDE, frozen="conv2.weight:0", units={"conv1.weight:0": 12})
class InPlace(Between):
    """Views written to, a copy, and a reset: all channel by channel."""

    def change(self, x: Tensor) -> Tensor:
        kept = torch.empty_like(x).copy_(x)
        kept[:, :, 0].mul_(2)
        kept[:, :, :, -1] = x[:, :, :, 0]
        kept.clamp_(max=3.0).add_(x, alpha=0.5)
        return kept


@add("as long as it is wide", images(3, 12), INSIDE, frozen="conv2.weight:0", units={"conv1.weight:0": 12})
class Square(Between):
    """Twelve channels of twelve rows: what is scaled by row is not scaled by channel."""

    def change(self, x: Tensor) -> Tensor:
        share = x.amax(3).softmax(dim=2)
        return x * share.unsqueeze(-1) * torch.arange(12, device=x.device).view(1, 1, 12, 1) / 12
