"""Two transformers of the literature, written from their papers, with plain names."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Vaswani et al. (2017), Attention Is All You Need, section 3.2.2, with one projection for all three."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Any:
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        scores = (q @ k.mT) * 64**-0.5
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class OfTorch(nn.Module):
    """The same by torch's own module."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        return self.inner(x, x, x, need_weights=False)[0]


class ViTBlock(nn.Module):
    """Attention and two layers, each after a norm and beside a shortcut."""

    def __init__(self, width: int, attention: type[nn.Module]) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attention = attention(width, width // 64)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Any:
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class ViT(nn.Module):
    """Dosovitskiy et al. (2021), An Image is Worth 16x16 Words, table 1: the base model on 224 x 224 pixels."""

    def __init__(self, patch: int, attention: type[nn.Module] = Attention) -> None:
        super().__init__()
        width, patches = 768, (224 // patch) ** 2
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.zeros(1, patches + 1, width))
        self.blocks = nn.Sequential(*[ViTBlock(width, attention) for _ in range(12)])
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Any:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


class BertBlock(nn.Module):
    """Attention and two layers, each before a norm over the sum with a shortcut."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-12), nn.LayerNorm(width, 1e-12)

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, self.size).transpose(1, 2)

    def forward(self, x: Tensor) -> Any:
        q, k, v = (self.split(layer(x)) for layer in (self.q, self.k, self.v))
        scores = (q @ k.mT) * 64**-0.5
        x = self.norm1(x + self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2)))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Bert(nn.Module):
    """Devlin et al. (2019), BERT, section 3: the base model, with what it says of the first word."""

    def __init__(self) -> None:
        super().__init__()
        width = 768
        self.words, self.places, self.kinds = (nn.Embedding(rows, width) for rows in (30522, 512, 2))
        self.norm = nn.LayerNorm(width, 1e-12)
        self.blocks = nn.Sequential(*[BertBlock(width, 12, 3072) for _ in range(12)])
        self.pooler = nn.Linear(width, width)

    def forward(self, words: Tensor, kinds: Tensor) -> Any:
        places = torch.arange(words.shape[1], device=words.device)
        x = self.norm(self.words(words) + self.places(places) + self.kinds(kinds))
        return self.pooler(self.blocks(x)[:, 0]).tanh()
