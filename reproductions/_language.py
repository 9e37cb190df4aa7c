"""What the reproductions on a language model share: the model, its text, the methods and the patterns."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from _reproduction import Claim, Job, chosen, finish, measure, options
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.granularity import Granularity
from secateur.pruner import Selection
from secateur.reconstruction import layerwise, sparsegpt
from secateur.tasks import Task, loader, perplexity, smollm
from secateur.tasks.smollm import cross_entropy, log_likelihood

NETWORK = "smollm2-135m"
CALIBRATION = 32  # windows of 256 tokens
KEPT_WHOLE = ("lm_head",)  # shares its weight with the embedding


METHODS: Mapping[str, Callable[[], sc.Criterion | Selection]] = {
    "magnitude": criteria.magnitude,
    "wanda": lambda: layerwise(criteria.wanda()),
    "sparsegpt": sparsegpt,
}
PATTERNS: Mapping[str, Granularity] = {
    "50 %": granularity.weight(),
    "4:8": granularity.pattern(4, 8),
    "2:4": granularity.pattern(2, 4),
}
MINUTES = {"dense": 4.0, "magnitude": 4.0, "wanda": 10.0, "sparsegpt": 15.0}


def run(
    name: str,
    paper: str,
    description: str | None,
    seeds: tuple[int, ...],
    methods: tuple[str, ...],
    claims: Callable[[dict[str, Any]], list[Claim]],
) -> None:
    """Measure what is missing, print the perplexities, write the result if it is whole."""
    arguments = options(description, (NETWORK,), seeds).parse_args()
    _, wanted, _ = chosen(arguments)
    measured = measure(name, jobs(methods, tuple(wanted), arguments), arguments)
    for key, job in measured.items():
        value = job["value"] if key == "dense" else job["value"]["perplexity"]
        sys.stdout.write(f"{key}: perplexity {value:.2f}\n")
    finish(name, paper, claims(measured), measured, arguments)


def jobs(methods: tuple[str, ...], seeds: tuple[int, ...], arguments: argparse.Namespace) -> list[Job]:
    """The dense model once, and each method with each pattern; only what draws calibration text has seeds."""
    found = [Job("dense", dense, (arguments,), MINUTES["dense"])]
    for pattern in PATTERNS:
        for method in methods:
            for seed in (0,) if method == "magnitude" else seeds:
                key = f"{method}/{pattern}/{seed}"
                found.append(Job(key, pruned, (method, pattern, seed, arguments), MINUTES[method]))
    return found


def dense(arguments: argparse.Namespace) -> float:
    """The perplexity of the dense model."""
    task, model = start(arguments)
    return perplexity(model, task)


def pruned(method: str, pattern: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Perplexity and sparsity after pruning in one shot, without training."""
    task, model = start(arguments)
    # Wanda compares the weights of an output with one another, as its authors do; the others those of a layer.
    units = granularity.weight(per_output=True) if (method, pattern) == ("wanda", "50 %") else PATTERNS[pattern]
    budget = sc.Budget(sparsity=0.5) if pattern == "50 %" else None
    pruner = sc.Pruner(METHODS[method](), units, allocation.uniform(), exclude=KEPT_WHOLE)
    plan = pruner.plan(model, budget, data=calibration(task, seed))
    return {"perplexity": perplexity(sc.mask(model, plan, inplace=True), task), "sparsity": plan.sparsity}


def calibration(task: Task, seed: int) -> list[Any]:
    """Windows of the training text, drawn by a seed."""
    inputs, targets = task.train.tensors  # type: ignore[attr-defined]
    drawn = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))[:CALIBRATION]
    data = TensorDataset(inputs[drawn], targets[drawn])
    return list(loader(replace(task, train=data)))


def start(arguments: argparse.Namespace) -> tuple[Task, nn.Module]:
    """The task and its model; in the short mode a tiny one with random weights on random text."""
    task = tiny() if arguments.short else smollm(data_dir=arguments.data_dir)
    return task, task.model().eval()


def perplexities(measured: Mapping[str, Any], method: str, pattern: str) -> list[float]:
    """Of every seed."""
    begin = f"{method}/{pattern}/"
    return [job["value"]["perplexity"] for key, job in measured.items() if key.startswith(begin)]


class Block(nn.Module):
    """Attention to what comes before, then two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """One block."""
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True))
        mixed: Tensor = self.down(nn.functional.silu(self.up(self.norm2(x))))
        return x + mixed


class Tiny(nn.Module):
    """A language model of two blocks and 32 words."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Embedding(32, width)
        self.layers = nn.ModuleList(Block(width) for _ in range(2))
        self.lm_head = nn.Linear(width, 32, bias=False)

    def forward(self, words: Tensor) -> Tensor:
        """Logits of the next word."""
        x = self.embed(words)
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.lm_head(x)
        return logits


def tiny() -> Task:
    """Random weights and random text, always the same."""
    draw = torch.Generator().manual_seed(0)
    words = torch.randint(32, (48, 17), generator=draw)
    data = TensorDataset(words[:, :-1].contiguous(), words[:, 1:].contiguous())
    return Task("tiny", _seeded, data, data, data, cross_entropy, log_likelihood, data.tensors[0][:1], batch_size=8)


def _seeded() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Tiny()
