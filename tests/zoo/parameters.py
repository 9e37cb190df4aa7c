"""Weights that no layer of torch holds, and experts."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.specimen import Specimen, collector, conv, features, images, sequences

PARAMETERS: dict[str, Specimen] = {}
add = collector(PARAMETERS)


def weight(*shape: int) -> nn.Parameter:
    """A parameter, which is drawn anew when the network is built."""
    return nn.Parameter(torch.empty(*shape).normal_())


@add(
    "bare matrices",
    sequences(),
    "w1:0 b1:0 w2:1",
    "up:0 down:1",
    frozen="w1:1 up:1 down:0 w2:0",
    units={"w1:0": 12, "up:0": 10},
)
class Bare(nn.Module):
    """By F.linear from the right; by @ from the left, where the places are."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.b1 = weight(12, 8), weight(12)
        self.up, self.down = weight(10, 6), weight(6, 10)
        self.w2 = weight(4, 12)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(F.linear(x, self.w1, self.b1))
        x = self.down @ F.relu(self.up @ x)
        return F.linear(x, self.w2)


class InTimesOut(nn.Module):
    """A linear layer whose weight has what comes in first."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.nf = outputs
        self.weight = weight(inputs, outputs)
        self.bias = weight(outputs)

    def forward(self, x: Tensor) -> Any:
        shape = (*x.size()[:-1], self.nf)
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(shape)


@add(
    "weight of inputs times outputs",
    sequences(),
    "fc.weight:1 fc.bias:0 proj.weight:0",
    frozen="fc.weight:0 proj.weight:1 proj.bias:0",
    units={"fc.weight:1": 16},
)
class Conv1D(nn.Module):
    """The layer holds the number of its outputs, which follows."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = InTimesOut(8, 16)
        self.proj = InTimesOut(16, 8)

    def forward(self, x: Tensor) -> Any:
        return x + self.proj(F.gelu(self.fc(x), approximate="tanh"))


@add(
    "dense experts",
    sequences(),
    "up:2 down:1",
    frozen="router.weight:0 router.weight:1 up:0 up:1 down:0 down:2",
    units={"up:2": 12, "down:1": 12},
)
class DenseExperts(nn.Module):
    """All experts at work: as shares of one whole they stay; the width inside leaves from all."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(8, 3)
        self.up, self.down = weight(3, 8, 12), weight(3, 12, 8)

    def forward(self, x: Tensor) -> Any:
        share = self.router(x).softmax(dim=-1)
        hidden = F.silu(torch.einsum("bnc,ecf->bnef", x, self.up))
        return torch.einsum("bnef,efc,bne->bnc", hidden, self.down, share)


@add(
    "experts in one batch",
    sequences(),
    "gate:2 up:2 down:1",
    frozen="router.weight:0 gate:0 up:0 up:1 down:0 down:2",
    units={"up:2": 12},
)
class BatchedExperts(nn.Module):
    """The same by bmm, each place repeated for every expert."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = 3
        self.router = nn.Linear(8, 3)
        self.gate, self.up, self.down = weight(3, 8, 12), weight(3, 8, 12), weight(3, 12, 8)

    def forward(self, x: Tensor) -> Any:
        n, length, c = x.shape
        flat = x.reshape(-1, c)
        chosen, which = self.router(flat).softmax(-1).topk(2, dim=-1)
        share = torch.zeros(flat.shape[0], self.experts, device=x.device, dtype=x.dtype).scatter(1, which, chosen)
        rows = flat.repeat(self.experts, 1).view(self.experts, -1, c)
        y = torch.bmm(F.silu(torch.bmm(rows, self.gate)) * torch.bmm(rows, self.up), self.down)
        return (y * share.t().unsqueeze(-1)).sum(dim=0).view(n, length, c)


EXPERTS = " ".join(f"experts.{number}.0.weight:1 experts.{number}.2.weight:0" for number in range(3))


@add(
    "routed experts",
    sequences(12),
    *(f"experts.{number}.0.weight:0 experts.{number}.2.weight:1" for number in range(3)),
    frozen=f"router.weight:0 router.weight:1 {EXPERTS}",
    units={f"experts.{number}.0.weight:0": 12 for number in range(3)},
    looks=True,
)
class RoutedExperts(nn.Module):
    """Each place goes to two of three experts; each expert has a width of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(8, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 8)) for _ in range(3))

    def forward(self, x: Tensor) -> Any:
        flat = x.view(-1, x.shape[-1])
        share, which = self.router(flat).softmax(dim=-1).topk(2, dim=-1)
        share = share / share.sum(dim=-1, keepdim=True)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            rows, choice = torch.where(which == number)
            out.index_add_(0, rows, expert(flat[rows]) * share[rows, choice, None])
        return out.view_as(x)


@add(
    "experts put in their places",
    sequences(12),
    *(f"experts.{number}.0.weight:0 experts.{number}.2.weight:1" for number in range(3)),
    frozen=f"router.weight:0 {EXPERTS}",
    looks=True,
)
class PutExperts(RoutedExperts):
    """Each place goes to one expert, whose answer is put where the place is."""

    def forward(self, x: Tensor) -> Any:
        flat = x.flatten(0, 1)
        share, which = self.router(flat).softmax(dim=-1).max(dim=-1)
        out = torch.empty_like(flat)
        for number, expert in enumerate(self.experts):
            chosen = which == number
            out[chosen] = expert(flat[chosen]) * share[chosen].unsqueeze(-1)
        return out.view_as(x)


@add("kernels mixed for each picture", images(), frozen="router.weight:1 kernels:3 kernels:4 head.weight:0")
class Mixed(nn.Module):
    """CondConv: a kernel for each picture, a sum over two, in a convolution with a group for each picture. May freeze.

    (By hand: a channel of the stem could leave with its slice of the kernels, and one of theirs with a column.)
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.router = nn.Linear(3, 2)
        self.kernels = weight(2, 12, 8, 3, 3)
        self.head = conv(12, 4, 1)

    def forward(self, x: Tensor) -> Any:
        n, _, h, w = x.shape
        share = self.router(x.mean((2, 3))).sigmoid()
        x = F.relu(self.stem(x))
        kernels = torch.einsum("be,eoihw->boihw", share, self.kernels).flatten(0, 1)
        x = F.conv2d(x.reshape(1, -1, h, w), kernels, padding=1, groups=n)
        return self.head(F.relu(x.view(n, -1, h, w)))


@add("nearest of a table", sequences(), "back.weight:0 last.weight:1", frozen="table:0 enter.weight:1 last.weight:0")
class Nearest(nn.Module):
    """VQ: each place is replaced by the nearest row of a table, whose rows stay."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(8, 6)
        self.table = weight(10, 6)
        self.back = nn.Linear(6, 12)
        self.last = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Any:
        x = self.enter(x).flatten(0, 1)
        apart = x.square().sum(1, keepdim=True) - 2 * x @ self.table.t() + self.table.square().sum(1)
        return self.last(F.relu(self.back(F.embedding(apart.argmin(dim=1), self.table))))


@add(
    "product with a table of classes",
    features(),
    "fc1.weight:0 fc2.weight:1",
    "fc2.weight:0 classes:1",
    frozen="classes:0",
)
class Outer(nn.Module):
    """Scores against rows by mm, by a broadcast product and by baddbmm: the same width each time."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 12)
        self.classes = weight(4, 12)

    def forward(self, x: Tensor) -> Any:
        x = self.fc2(F.relu(self.fc1(x)))
        one = torch.mm(x, self.classes.t())
        two = (x[:, None, :] * self.classes[None]).sum(dim=-1)
        three = torch.baddbmm(one[:, None, :], x[:, None, :], self.classes.t().expand(len(x), -1, -1), beta=0.5)
        return two + three.squeeze(1)
