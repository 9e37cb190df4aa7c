"""Layers that walk along a sequence."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.specimen import Specimen, collector, sequences

RECURRENT: dict[str, Specimen] = {}
add = collector(RECURRENT)

AROUND = "enter.weight:1 leave.weight:0 leave.bias:0"


class Around(nn.Module):
    """A recurrent layer between two linear ones, and a free width after it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.enter = nn.Linear(8, 12)
        self.layer = layer
        self.after = nn.Linear(10, 16)
        self.leave = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Any:
        y, _ = self.layer(torch.tanh(self.enter(x)))
        return self.leave(F.relu(self.after(y)))


@add("lstm", sequences(), "after.weight:0 leave.weight:1", frozen=AROUND)
def lstm() -> nn.Module:
    """One operation, which may freeze all that it reads. (By hand: a state could leave with its four gates.)"""
    return Around(nn.LSTM(12, 10, batch_first=True))


@add("lstm of two layers and directions", sequences(), "after.weight:0 leave.weight:1", frozen=AROUND)
def deep_lstm() -> nn.Module:
    """The same, more deeply."""
    return Around(nn.LSTM(12, 5, num_layers=2, batch_first=True, bidirectional=True))


@add("gru", sequences(), "after.weight:0 leave.weight:1", frozen=AROUND)
def gru() -> nn.Module:
    """May freeze. (By hand: a state could leave with its three gates.)"""
    return Around(nn.GRU(12, 10, batch_first=True))


@add(
    "cells of an lstm",
    sequences(),
    "gates.weight:0 memory.weight:0 memory.weight:1 leave.weight:1",
    "enter.weight:0 gates.weight:1",
    frozen=AROUND,
    units={"gates.weight:0": 10, "memory.weight:0": 10, "memory.weight:1": 10},
)
class Cells(nn.Module):
    """Written out: a state leaves with its four gates, and from what it is fed."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(8, 12)
        self.gates = nn.Linear(12, 40)
        self.memory = nn.Linear(10, 40, bias=False)
        self.leave = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Any:
        x = torch.tanh(self.enter(x))
        state = cell = x.new_zeros(x.shape[0], self.leave.in_features)
        for step in range(x.shape[1]):
            i, f, g, o = (self.gates(x[:, step]) + self.memory(state)).chunk(4, dim=-1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            state = torch.sigmoid(o) * torch.tanh(cell)
        return self.leave(state)


@add(
    "scan of a state space",
    sequences(),
    "enter.weight:0 mix.weight:0 mix.bias:0 select.weight:1 speed.weight:0 speed.bias:0 decay:0 skip:0 leave.weight:1",
    frozen="enter.weight:1 mix.weight:1 leave.weight:0",
    units={"enter.weight:0": 12, "decay:0": 12},
)
class Scan(nn.Module):
    """Mamba: a channel leaves with its gate, its filter, its speed and its row of decays."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.states, self.rank = 12, 4, 2
        self.enter = nn.Linear(8, 24, bias=False)
        self.mix = nn.Conv1d(12, 12, 3, padding=2, groups=12)
        self.select = nn.Linear(12, 2 + 2 * 4, bias=False)
        self.speed = nn.Linear(2, 12)
        self.decay = nn.Parameter(torch.zeros(12, 4))
        self.skip = nn.Parameter(torch.ones(12))
        self.leave = nn.Linear(12, 8, bias=False)

    def forward(self, x: Tensor) -> Any:
        length = x.shape[1]
        x, gate = self.enter(x).chunk(2, dim=-1)
        x = F.silu(self.mix(x.transpose(1, 2))[..., :length].transpose(1, 2))
        speed, read, write = self.select(x).split([self.rank, self.states, self.states], dim=-1)
        speed = F.softplus(self.speed(speed))
        kept = torch.exp(speed[..., None] * -torch.exp(self.decay))
        fed = speed[..., None] * read[:, :, None, :] * x[..., None]
        state = torch.zeros(x.shape[0], self.inner, self.states, device=x.device, dtype=x.dtype)
        given = []
        for step in range(length):
            state = kept[:, step] * state + fed[:, step]
            given.append((state * write[:, step, None, :]).sum(dim=-1))
        return self.leave((torch.stack(given, dim=1) + x * self.skip) * F.silu(gate))


@add(
    "causal convolutions",
    sequences(),
    "first.weight:0 second.weight:1 third.weight:0 fourth.weight:1",
    "second.weight:0 third.weight:1",
    frozen="first.weight:1 fourth.weight:0",
)
class Causal(nn.Module):
    """Padded in front, wider each time, with a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(8, 12, 1)
        self.second = nn.Conv1d(12, 10, 3)
        self.third = nn.Conv1d(10, 12, 3, dilation=2)
        self.fourth = nn.Conv1d(12, 4, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.first(x.transpose(1, 2))
        y = F.relu(self.second(F.pad(x, (2, 0))))
        return self.fourth(F.relu(x + self.third(F.pad(y, (4, 0)))))
