"""Attention: how heads are laid out, and who shares them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.specimen import Specimen, collector, sequences, several

HEADS: dict[str, Specimen] = {}
add = collector(HEADS)


def weights(q: Tensor, k: Tensor) -> Tensor:
    """Scores of keys for each query, scaled by the size of a head."""
    return torch.matmul(q, k.transpose(-2, -1)).div(q.shape[-1] ** 0.5)


@add("encoder layer of torch", sequences(), "linear1.weight:0 linear2.weight:1", frozen="norm1.weight:0 norm2.weight:0")
def encoder_layer() -> nn.Module:
    """Norms and the residual from the input keep the width; the width inside is free."""
    return nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True, activation="gelu")


@add(
    "multihead attention of torch",
    sequences(),
    "fc1.weight:0 fc2.weight:1",
    frozen="embed.weight:0 norm1.weight:0 norm2.weight:0 attention.out_proj.weight:0 fc1.weight:1 fc2.weight:0",
)
class TorchAttention(nn.Module):
    """Norms keep the width. Heads could only leave from another class: this one asks for heads times size = width."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 12)
        self.norm1 = nn.LayerNorm(12)
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
        self.norm2 = nn.LayerNorm(12)
        self.fc1 = nn.Linear(12, 24)
        self.fc2 = nn.Linear(24, 12)

    def forward(self, x: Tensor) -> Any:
        x = self.embed(x)
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.fc2(F.gelu(self.fc1(self.norm2(x)))) + x


@add(
    "multihead attention of torch without norms",
    sequences(),
    "embed.weight:0 attention.in_proj_weight:0 attention.in_proj_weight:1 attention.out_proj.weight:0"
    " attention.out_proj.weight:1 head.weight:1",
    units={"embed.weight:0": 3, "attention.in_proj_weight:0": 3},
)
class TorchWidth(nn.Module):
    """The class takes the width for that of its heads together: with a head, as many channels of the width leave."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 12)
        self.attention = nn.MultiheadAttention(12, 3)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Any:
        x = self.embed(x)
        return self.head(x + self.attention(x, x, x)[0])


@add(
    "cross attention of torch",
    several(sequences(), sequences()),
    "query.weight:0 attention.q_proj_weight:0 attention.q_proj_weight:1 attention.k_proj_weight:0"
    " attention.v_proj_weight:0 attention.out_proj.weight:1 attention.out_proj.weight:0 head.weight:1",
    "key.weight:0 attention.k_proj_weight:1",
    "value.weight:0 attention.v_proj_weight:1",
    units={"query.weight:0": 2, "key.weight:0": 6, "value.weight:0": 10},
)
class TorchCross(nn.Module):
    """Widths of keys and values are their own."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(8, 8), nn.Linear(8, 6), nn.Linear(8, 10)
        self.attention = nn.MultiheadAttention(8, 2, kdim=6, vdim=10, batch_first=True, add_zero_attn=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor, y: Tensor) -> Any:
        x = self.query(x)
        return self.head(x + self.attention(x, self.key(y), self.value(y), need_weights=False)[0])


@add("packed projection", sequences(), frozen="embed.weight:0 norm.weight:0 qkv.weight:1 proj.weight:0 head.weight:1")
class Packed(nn.Module):
    """The norm keeps the width. Row of qkv: 12 part + 4 head + place; a head is in each of the three parts.

    Whole heads could leave, but the size of a head is borrowed from the width, so this Python cannot say it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 3
        self.embed = nn.Linear(8, 12)
        self.norm = nn.LayerNorm(12)
        self.qkv = nn.Linear(12, 36)
        self.proj = nn.Linear(12, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Any:
        x = self.embed(x)
        n, length, c = x.shape
        qkv = self.qkv(self.norm(x)).reshape(n, length, 3, self.num_heads, c // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = weights(q, k).softmax(dim=-1) @ v
        x = x + self.proj(y.transpose(1, 2).reshape(n, length, c))
        return self.head(x)


@add(
    "packed projection with its own head size",
    sequences(),
    "qkv.weight:0 qkv.bias:0 proj.weight:1",
    units={"qkv.weight:0": 4, "proj.weight:1": 4},
)
class PackedOwn(nn.Module):
    """As many rows to a head as the module says: a head leaves from all three parts at once."""

    def __init__(self) -> None:
        super().__init__()
        self.head_dim = 4
        self.qkv = nn.Linear(8, 48)
        self.proj = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Any:
        n, length, _ = x.shape
        qkv = self.qkv(x).view(n, length, 3, -1, self.head_dim).permute(2, 0, 3, 1, 4)
        y = weights(qkv[0], qkv[1]).softmax(dim=-1) @ qkv[2]
        return self.proj(y.transpose(1, 2).flatten(2))


class Separate(nn.Module):
    """Three projections to an inner width other than the model's, heads by their size."""

    def __init__(self, heads: int = 4, kv_heads: int = 4, head_dim: int = 4) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.repeats = heads // kv_heads
        self.q = nn.Linear(8, heads * head_dim)
        self.k = nn.Linear(8, kv_heads * head_dim)
        self.v = nn.Linear(8, kv_heads * head_dim)
        self.proj = nn.Linear(heads * head_dim, 8)

    def split(self, x: Tensor) -> Tensor:
        """Batch, head, place, size."""
        n, length, _ = x.shape
        return x.view(n, length, -1, self.head_dim).transpose(1, 2)

    def joined(self, y: Tensor) -> Any:
        """Heads side by side, projected."""
        return self.proj(y.transpose(1, 2).flatten(2))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return weights(q, k).softmax(dim=-1) @ v

    def forward(self, x: Tensor) -> Any:
        return self.joined(self.attend(self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))))


WHOLE = "q.weight:0 q.bias:0 k.weight:0 k.bias:0 v.weight:0 v.bias:0 proj.weight:1"
OUTSIDE = "q.weight:1 k.weight:1 v.weight:1 proj.weight:0"


def each(heads: int) -> dict[str, int]:
    """So many heads on every axis of a plain attention."""
    return dict.fromkeys(("q.weight:0", "k.weight:0", "v.weight:0", "proj.weight:1"), heads)


@add("separate projections", sequences(), WHOLE, frozen=OUTSIDE, units=each(4))
class Plain(Separate):
    """A head leaves whole, from all four."""


@add("fused attention", sequences(), WHOLE, frozen=OUTSIDE, units=each(4))
class Fused(Separate):
    """One operation, which reads the size of a head."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


@add("fused attention with causal mask", sequences(), WHOLE, frozen=OUTSIDE, units=each(4))
class FusedCausal(Separate):
    """A mask has no channels."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@add("grouped queries", sequences(), WHOLE, frozen=OUTSIDE, units=each(2))
class GroupedQueries(Separate):
    """A key-value head leaves with its two query heads."""

    def __init__(self) -> None:
        super().__init__(heads=4, kv_heads=2)

    def repeated(self, x: Tensor) -> Tensor:
        n, heads, length, size = x.shape
        x = x[:, :, None].expand(n, heads, self.repeats, length, size)
        return x.reshape(n, heads * self.repeats, length, size)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return super().attend(q, self.repeated(k), self.repeated(v))


@add("grouped queries by repeat_interleave", sequences(), WHOLE, frozen=OUTSIDE, units=each(2))
class RepeatedHeads(GroupedQueries):
    """The same by one operation."""

    def repeated(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.repeats, dim=1)


@add("grouped queries in fused attention", sequences(), WHOLE, frozen=OUTSIDE, units=each(2))
class FusedGroups(GroupedQueries):
    """The same inside the operation."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


@add("one key-value head", sequences(), frozen=f"{OUTSIDE} k.weight:0 k.bias:0")
class OneKeyHead(Separate):
    """The only key head stays. Query heads could leave one by one, with the size that they are expanded to."""

    def __init__(self) -> None:
        super().__init__(heads=4, kv_heads=1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        n, heads, length, size = q.shape
        k, v = (x.expand(n, heads, length, size) for x in (k, v))
        return F.scaled_dot_product_attention(q, k, v)


@add(
    "attention to a second input",
    several(sequences(6, 8), sequences(4, 5)),
    WHOLE,
    frozen=OUTSIDE,
    units=each(4),
)
class Cross(Separate):
    """Keys and values of something else."""

    def __init__(self) -> None:
        super().__init__()
        self.k = nn.Linear(5, 16)
        self.v = nn.Linear(5, 16)

    def forward(self, x: Tensor, memory: Tensor) -> Any:  # type: ignore[override]
        return self.joined(self.attend(self.split(self.q(x)), self.split(self.k(memory)), self.split(self.v(memory))))


@add(
    "projections of three dimensions",
    sequences(),
    "q:1 k:1 v:1 o:0",
    frozen="q:0 k:0 v:0 o:2",
    units={"q:1": 4, "k:1": 4, "v:1": 4, "o:0": 4},
)
class Einsum(nn.Module):
    """Heads are an axis of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Parameter(torch.ones(8, 4, 3)) for _ in range(3))
        self.o = nn.Parameter(torch.ones(4, 3, 8))

    def forward(self, x: Tensor) -> Any:
        q, k, v = (torch.einsum("bnc,chd->bhnd", x, weight) for weight in (self.q, self.k, self.v))
        share = torch.einsum("bhnd,bhmd->bhnm", q, k).div(3**0.5).softmax(-1)
        return torch.einsum("bhnm,bhmd,hde->bne", share, v, self.o)


@add("attention without softmax", sequences(), WHOLE, frozen=OUTSIDE, units=each(4))
class Linear(Separate):
    """Kernels elu(x) + 1, which are one where a masked place is zero: so heads leave whole, not their places."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = F.elu(q) + 1, F.elu(k) + 1
        total = q @ k.sum(dim=2).unsqueeze(-1)
        return (q @ (k.transpose(-2, -1) @ v)) / total


@add(
    "attention between channels",
    sequences(),
    f"{WHOLE} temperature:0",
    frozen=f"{OUTSIDE} temperature:1",
    units={**each(4), "temperature:0": 4},
)
class BetweenChannels(Separate):
    """XCiT: a softmax over the places of a head; a head leaves whole, with its temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(4, 1, 1))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(-2, -1) for x in (q, k, v))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        share = (q @ k.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        return (share @ v).transpose(-2, -1)
