"""Small models for methods that go layer by layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from secateur.granularity import weight_layers


class Block(nn.Module):
    """A block of a language model: attention to what comes before, then two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Any:
        y = self.norm1(x)
        x = x + self.out(functional.scaled_dot_product_attention(self.q(y), self.k(y), self.v(y), attn_mask=mask))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class Decoder(nn.Module):
    """A language model of 8 words."""

    def __init__(self, blocks: int = 2, width: int = 8) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.head = nn.Linear(width, 8)

    def forward(self, words: Tensor) -> Any:
        x, mask = self.embed(words), torch.ones(words.shape[1], words.shape[1], dtype=torch.bool).tril()
        for block in self.blocks:
            x = block(x, mask)
        return self.head(x)


class Skipping(nn.Module):
    """The last layer also reads what the first one put out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> Any:
        first = self.layers[0](x)
        return self.layers[3](self.layers[2](self.layers[1](first).relu()).relu() + first)


def prunable(model: nn.Module) -> list[str]:
    """Names of the weights of linear and convolution layers."""
    return [layer.parameter for layer in weight_layers(model)]
