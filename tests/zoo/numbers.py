"""Sizes that are computed with, and tables that are longer than the input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.specimen import Specimen, collector, sequences

NUMBERS: dict[str, Specimen] = {}
add = collector(NUMBERS)


class Scores(nn.Module):
    """Attention of one head by hand; `scaled` says what its scores are divided by."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(8, 10)
        self.proj = nn.Linear(10, 8)
        self.width = 12

    def scaled(self, scores: Tensor, q: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Any:
        q = self.q(x)
        scores = self.scaled(q @ self.k(x).transpose(-1, -2), q)
        return self.proj(torch.softmax(scores, dim=-1) @ self.v(x))


VALUE = "v.weight:0 v.bias:0 proj.weight:1"
KEYS = "q.weight:0 q.bias:0 k.weight:0 k.bias:0"


@add("scale from a width that is held", sequences(), KEYS, VALUE, frozen="proj.weight:0")
class ByHeld(Scores):
    """Nobody changes the integer, so the scale stays."""

    def scaled(self, scores: Tensor, q: Tensor) -> Tensor:
        return torch.div(scores, self.width**0.5)


@add("scale from a width that is read", sequences(), VALUE, frozen=KEYS)
class ByRead(Scores):
    """A smaller width would change the scale."""

    def scaled(self, scores: Tensor, q: Tensor) -> Tensor:
        return torch.div(scores, q.shape[-1] ** 0.5)


@add("scale from a width in a tensor", sequences(), VALUE, frozen=KEYS)
class ByTensor(Scores):
    """The width goes into a tensor, and is none of its sizes."""

    def scaled(self, scores: Tensor, q: Tensor) -> Tensor:
        return scores / torch.sqrt(torch.tensor(q.size(-1), dtype=torch.float))


@add("scale from a width that a view holds", sequences(), VALUE, frozen=KEYS)
class ByView(Scores):
    """The integer would be rewritten for the view, and is the divisor too."""

    def scaled(self, scores: Tensor, q: Tensor) -> Tensor:
        return torch.div(scores, q.reshape(2, -1, self.width).norm(dim=1).size(-1))


@add("divided by a width", sequences(), VALUE, frozen=KEYS)
class ByDivisor(Scores):
    """An integer divisor of a tensor."""

    def scaled(self, scores: Tensor, q: Tensor) -> Tensor:
        return scores / q.size(-1)


@add("positions beyond the input", sequences(), frozen="table:0 enter.weight:0 enter.bias:0")
class Beyond(nn.Module):
    """Of twelve positions the example has six; a longer input needs the others."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(12, 8))
        self.enter = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Any:
        return self.enter(x) + self.table[: x.shape[1]]


@add(
    "positions around a middle",
    sequences(),
    "table:1 key.weight:1",
    "query.weight:0 query.bias:0 key.weight:0 key.bias:0",
    frozen="table:0 query.weight:1",
)
class Around(nn.Module):
    """The bounds are tensors, which tell nobody where they are from."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(20, 8))
        self.query, self.key = nn.Linear(8, 5), nn.Linear(8, 5)
        self.middle = 10

    def forward(self, x: Tensor) -> Any:
        span = torch.tensor(x.shape[1])
        near = self.key(self.table[self.middle - span : self.middle + span])
        return self.query(x) @ near.transpose(-1, -2)
