"""Attention whose code reads the size of a head off the width: heads leave with as much of the width.

In most of them a width of twelve meets three heads of four places. Where a head leaves, the places that it fills leave
from the width, so that `width // heads` stays four: three units, through the whole residual stream.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from tests.zoo.heads import weights
from tests.zoo.specimen import Specimen, collector, sequences

BORROWED: dict[str, Specimen] = {}
add = collector(BORROWED)

STREAM = "embed.weight:0 embed.bias:0 q.weight:0 q.weight:1 proj.weight:0 proj.weight:1 head.weight:1"
KEYS, ENDS = "k.weight:0 k.weight:1 v.weight:0 v.weight:1", "head.weight:0 head.weight:1"
SEPARATE = f"{STREAM} {KEYS}"


class Borrowing(nn.Module):
    """Three projections in a residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 3
        self.embed = nn.Linear(8, 12)
        self.q, self.k, self.v = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 12)
        self.proj = nn.Linear(12, 12)
        self.head = nn.Linear(12, 4)

    def split(self, y: Tensor, width: int) -> Tensor:
        return y.reshape(y.shape[0], -1, self.heads, width // self.heads).transpose(1, 2)

    def keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.split(self.k(x), x.shape[2]), self.split(self.v(x), x.shape[2])

    def forward(self, x: Tensor) -> Any:
        x = self.embed(x)
        n, length, width = x.shape
        k, v = self.keys(x)
        y = weights(self.split(self.q(x), width), k).softmax(dim=-1) @ v
        return self.head(x + self.proj(y.transpose(1, 2).reshape(n, length, width)))


@add(
    "separate projections of a borrowed head size",
    sequences(),
    SEPARATE,
    frozen="embed.weight:1 head.weight:0",
    units={"embed.weight:0": 3, "q.weight:0": 3, "k.weight:1": 3, "proj.weight:1": 3},
)
def separate() -> nn.Module:
    """A head leaves with four places of the width."""
    return Borrowing()


@add(
    "keys of fewer places with a borrowed head size",
    sequences(16),
    f"{STREAM} reduce.weight:0 reduce.weight:1 kv.weight:0 kv.weight:1",
    frozen="embed.weight:1 head.weight:0",
    units={"embed.weight:0": 3, "reduce.weight:0": 3, "kv.weight:0": 3},
)
class Reduced(Borrowing):
    """Keys and values of every second place; the width between is read off the stream's too."""

    def __init__(self) -> None:
        super().__init__()
        del self.k, self.v
        self.side = 4
        self.reduce = nn.Conv2d(12, 12, 2, stride=2)
        self.kv = nn.Linear(12, 24)

    def keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        n, _, width = x.shape
        few = self.reduce(x.transpose(1, 2).reshape(n, width, self.side, self.side))
        kv = self.kv(few.reshape(n, width, -1).transpose(1, 2))
        k, v = kv.reshape(n, -1, 2, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return k, v


@add(
    "one head of a borrowed size in fused attention",
    sequences(),
    frozen=f"embed.weight:0 embed.weight:1 q.weight:0 q.weight:1 {KEYS} proj.weight:0 proj.weight:1 {ENDS}",
)
class OneHead(Borrowing):
    """The head is as wide as the stream, and attention divides by the root of its size: nothing leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 1

    def forward(self, x: Tensor) -> Any:
        x = self.embed(x)
        n, length, width = x.shape
        y = functional.scaled_dot_product_attention(self.split(self.q(x), width), *self.keys(x))
        return self.head(x + self.proj(y.transpose(1, 2).reshape(n, length, width)))
