"""Attention: positions, masks, norms of queries and keys, and other things that heads meet."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.heads import OUTSIDE, WHOLE, Separate, each, weights
from tests.zoo.specimen import Specimen, collector, sequences, words

ATTENTION: dict[str, Specimen] = {}
add = collector(ATTENTION)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Each pair of places turned by its angle; a pair is a place of the first half with one of the second."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


def angles(length: int, size: int) -> Tensor:
    """Angle of each position and place."""
    speed = 100.0 ** (-torch.arange(0, size, 2).float() / size)
    return torch.outer(torch.arange(length).float(), speed).repeat(1, 2)


class Positions(Separate):
    """Holds the cosines and sines of turning."""

    cos: Tensor
    sin: Tensor

    def __init__(self, turning: int, **more: int) -> None:
        super().__init__(**more)
        self.turning = turning
        self.register_buffer("cos", angles(6, turning).cos(), persistent=False)
        self.register_buffer("sin", angles(6, turning).sin(), persistent=False)


@add("rotary positions", sequences(), WHOLE, frozen=OUTSIDE, units=each(4))
class Rotary(Positions):
    """The angles are for all heads, so heads leave whole."""

    def __init__(self) -> None:
        super().__init__(4)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = (turned(x, self.cos, self.sin) for x in (q, k))
        return F.scaled_dot_product_attention(q, k, v)


@add("partial rotary positions", sequences(), WHOLE, frozen=OUTSIDE, units=each(2))
class PartialRotary(Positions):
    """Four of eight places are turned; heads leave whole."""

    def __init__(self) -> None:
        super().__init__(4, heads=2, kv_heads=2, head_dim=8)

    def part(self, x: Tensor) -> Tensor:
        turning, still = x[..., : self.turning], x[..., self.turning :]
        return torch.cat((turned(turning, self.cos, self.sin), still), dim=-1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return super().attend(self.part(q), self.part(k), v)


@add("interleaved rotary positions", sequences(), WHOLE, frozen=OUTSIDE, units=each(4))
class InterleavedRotary(Positions):
    """Neighbours are turned; heads leave whole."""

    def __init__(self) -> None:
        super().__init__(4)

    def pairs(self, x: Tensor) -> Tensor:
        one, two = x[..., ::2], x[..., 1::2]
        cos, sin = self.cos[:, :2], self.sin[:, :2]
        return torch.stack((one * cos - two * sin, one * sin + two * cos), dim=-1).flatten(-2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return super().attend(self.pairs(q), self.pairs(k), v)


@add(
    "rotary positions with grouped queries",
    sequences(),
    WHOLE,
    "gate.weight:0 up.weight:0 down.weight:1",
    frozen=f"{OUTSIDE} norm1:0 norm2:0",
    units=each(2),
)
class Decoder(Positions):
    """A layer of a language model: norms, rotary positions, two query heads to a key head, a gated MLP."""

    def __init__(self) -> None:
        super().__init__(4, heads=4, kv_heads=2)
        self.norm1, self.norm2 = nn.Parameter(torch.ones(8)), nn.Parameter(torch.ones(8))
        self.gate, self.up, self.down = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 8)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = (turned(x, self.cos, self.sin) for x in (q, k))
        k, v = (x.repeat_interleave(self.repeats, dim=1) for x in (k, v))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def forward(self, x: Tensor) -> Any:
        x = x + super().forward(rms(x) * self.norm1)
        y = rms(x) * self.norm2
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


def rms(x: Tensor) -> Tensor:
    """Divided by its root mean square."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


@add("norms of queries and keys", sequences(), WHOLE, frozen=f"{OUTSIDE} q_norm:0 k_norm:0", units=each(4))
class QueryNorms(Separate):
    """A mean over the places of a head; the weights of the norm are for all heads and stay."""

    def __init__(self) -> None:
        super().__init__()
        self.q_norm, self.k_norm = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return super().attend(rms(q) * self.q_norm, rms(k) * self.k_norm, v)


@add("layer norms of queries and keys", sequences(), WHOLE, frozen=f"{OUTSIDE} q_norm.weight:0", units=each(4))
class QueryLayerNorms(Separate):
    """The same with the layer of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.q_norm, self.k_norm = nn.LayerNorm(4), nn.LayerNorm(4, elementwise_affine=False)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return super().attend(self.q_norm(q), self.k_norm(k), v)


@add(
    "talking heads",
    sequences(),
    "q.weight:0 k.weight:0 before.weight:1",
    "before.weight:0 before.bias:0 after.weight:1",
    "after.weight:0 after.bias:0 v.weight:0 proj.weight:1",
    frozen=OUTSIDE,
    units={**each(4), "before.weight:0": 4, "before.weight:1": 4, "after.weight:0": 4, "after.weight:1": 4},
)
class Talking(Separate):
    """Heads mixed before and after the softmax: those of q and k, those in between, and those of v are not the same."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(4, 4)
        self.after = nn.Linear(4, 4)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Any:
        score = self.before(weights(q, k).permute(0, 2, 3, 1))
        share = self.after(score.softmax(dim=2)).permute(0, 3, 1, 2)
        return share @ v


@add(
    "table of relative positions",
    sequences(),
    f"{WHOLE} table.weight:1",
    frozen=f"{OUTSIDE} table.weight:0",
    units={**each(4), "table.weight:1": 4},
)
class Relative(Separate):
    """T5: a number for each head and distance; a head leaves with its column."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 4)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Any:
        place = torch.arange(q.shape[2], device=q.device)
        bias = self.table(place[:, None] - place[None, :] + 5).permute(2, 0, 1)
        return (weights(q, k) + bias).softmax(dim=-1) @ v


@add("slope of each head", sequences(), frozen=OUTSIDE)
class Slopes(Separate):
    """ALiBi: a buffer with a number for each head, which would have to follow its head out."""

    slopes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("slopes", 2.0 ** -torch.arange(1, 5).float())

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        place = torch.arange(q.shape[2], device=q.device)
        distance = (place[:, None] - place[None, :]).abs()
        return (weights(q, k) - self.slopes[:, None, None] * distance).softmax(dim=-1) @ v


@add("causal mask", sequences(), WHOLE, frozen=OUTSIDE, units=each(4))
class Causal(Separate):
    """A mask made in the pass has no channels."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        length = q.shape[2]
        seen = torch.tril(torch.ones(length, length, dtype=torch.bool, device=q.device))
        return weights(q, k).masked_fill(~seen, torch.finfo(q.dtype).min).softmax(dim=-1) @ v


@add(
    "keys and values from few numbers",
    sequences(),
    WHOLE,
    "latent.weight:0 k.weight:1 v.weight:1",
    frozen="q.weight:1 latent.weight:1 proj.weight:0",
    units={**each(4), "latent.weight:0": 5},
)
class Latent(Separate):
    """Latent attention: those few are a width of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.latent = nn.Linear(8, 5)
        self.k, self.v = nn.Linear(5, 16), nn.Linear(5, 16)

    def forward(self, x: Tensor) -> Any:
        few = self.latent(x)
        return self.joined(self.attend(self.split(self.q(x)), self.split(self.k(few)), self.split(self.v(few))))


@add(
    "learned queries",
    sequences(),
    WHOLE,
    "queries:1 q.weight:1",
    frozen="queries:0 k.weight:1 v.weight:1 proj.weight:0",
    units=each(4),
)
class Queries(Separate):
    """As many answers as there are queries: they stay; their width is what q reads."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.ones(3, 8))

    def forward(self, x: Tensor) -> Any:
        asked = self.queries.unsqueeze(0).expand(x.shape[0], -1, -1)
        return self.joined(self.attend(self.split(self.q(asked)), self.split(self.k(x)), self.split(self.v(x))))


@add(
    "tied embedding and head",
    words(),
    "embed.weight:1 head.weight:1 position.weight:1 fc1.weight:1 fc2.weight:0 fc2.bias:0",
    "fc1.weight:0 fc2.weight:1",
    frozen="embed.weight:0 head.weight:0 position.weight:0",
    units={"embed.weight:1": 8, "fc1.weight:0": 16},
)
class TiedWords(nn.Module):
    """One weight: its rows are words and stay; its columns leave with the table of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.position = nn.Embedding(6, 8)
        self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 8)
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Any:
        x = self.embed(x) + self.position(torch.arange(x.shape[1], device=x.device))
        return self.head(x + self.fc2(F.gelu(self.fc1(x))))
