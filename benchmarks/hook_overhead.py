"""What keeping zeros zero costs: a training step with the hook against one without, where the hook does not plan.

A residual network of the size of ResNet-20 (0.27 million weights), 32 x 32 colour images, batch 128, SGD with
momentum; 90 % of the weights masked. Steps with and without the hook's two calls are taken in turn on the same
network; the ratio is taken pair by pair.
"""

from __future__ import annotations

import time

import torch
from _harness import keep, row
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, criteria, granularity, schedules

PAIRS, BATCH = 31, 128
NAME = "hook_overhead"


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        shrinks = stride > 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if shrinks else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        return torch.relu(self.body(x) + self.shortcut(x))


def network() -> nn.Module:
    """Three stages of three blocks, 16, 32 and 64 channels."""
    blocks = [
        Block(inputs if first else width, width, stride if first else 1)
        for inputs, width, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        for first in (True, False, False)
    ]
    stem = (nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def main() -> None:
    """Measure pairs, and keep the rows."""
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    pruner = sc.Pruner(criteria.magnitude(), granularity.weight(), allocation.global_())
    hook = sc.GradualPruning(model, pruner, sc.Budget(sparsity=0.9), schedules.one_shot())
    hook.step()  # plans; every later step only keeps zeros zero
    images, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(10, (BATCH,))

    def step(pruning: bool) -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        if pruning:
            hook.observe()
        optimizer.step()
        if pruning:
            hook.step()
        return time.perf_counter() - start

    def calls() -> float:
        start = time.perf_counter()
        hook.observe()
        hook.step()
        return time.perf_counter() - start

    for _ in range(3):
        step(True), step(False)
    pairs = []
    for turn in range(PAIRS):  # which of the two comes first changes, so that neither always finds warm caches
        first = step(turn % 2 == 0)
        second = step(turn % 2 == 1)
        pairs.append((first, second) if turn % 2 == 0 else (second, first))
    alone = [calls() for _ in range(PAIRS)]
    plain = [without for _, without in pairs]
    share = [call / without for call, without in zip(alone, plain, strict=True)]
    keep(
        NAME,
        [
            row(NAME, "a training step without the hook", "s", plain),
            row(NAME, "a training step with the hook", "s", [with_hook for with_hook, _ in pairs]),
            row(NAME, "step with / step without", "ratio", [a / b for a, b in pairs], at_most=1.03),
            row(NAME, "the hook's two calls alone / step without", "ratio", share, at_most=0.03),
        ],
    )


if __name__ == "__main__":
    main()
