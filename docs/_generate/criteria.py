"""Print docs/criteria.md: what each criterion looks at, and with which granularities it goes, by trying."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import secateur as sc
from secateur import allocation
from secateur.cli.names import factories, resolve, summary
from secateur.errors import SecateurError

GRANULARITIES = (
    "weight", "vector", "2:4", "kernel-pattern", "kernel", "block:2x1", "input-channel", "filter", "channel", "head",
)  # fmt: skip
HEAD = """# Criteria

A criterion gives every unit of a group a score; the highest stay. `--criterion NAME` on the command line, or
`secateur.criteria.NAME()`. `lasso`, `thinet` and `sparsegpt` are no criteria: they choose units and mend the rest at
once, and are in `secateur.reconstruction`.

## What each looks at

"""
MATRIX = """
## Which goes with which granularity

Tried on a small network of convolutions, batch norms and rectifiers, and for heads on an attention with a rectified
layer; the last layer is excluded. A dot: it has nothing to say about such units, and says why, see below.

"""


def images() -> nn.Module:
    """Two convolutions and two linear layers; between any two a batch norm and a rectifier."""
    parts = OrderedDict(
        conv1=nn.Conv2d(4, 8, 3, padding=1), norm1=nn.BatchNorm2d(8), relu1=nn.ReLU(),
        conv2=nn.Conv2d(8, 8, 3, padding=1), norm2=nn.BatchNorm2d(8), relu2=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(2), flat=nn.Flatten(),
        fc1=nn.Linear(32, 16), norm3=nn.BatchNorm1d(16), relu3=nn.ReLU(), last=nn.Linear(16, 4),
    )  # fmt: skip
    return nn.Sequential(parts)


class Attention(nn.Module):
    """Four heads and a rectified layer."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(8, 16)
        self.out, self.fc, self.last = nn.Linear(16, 8), nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Of words `(N, 6, 8)`, four numbers each, averaged."""
        q, k, v = (layer(x).unflatten(-1, (-1, 4)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        x = x + self.out(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))
        logits: Tensor = self.last(torch.relu(self.fc(x))).mean(1)
        return logits


def tried(criterion: str, granularity: str) -> str:
    """Whether a criterion scores the units of a granularity.

    Args:
        criterion: As on the command line.
        granularity: As on the command line.

    Returns:
        Nothing if it does, else why not.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, example = (
            (Attention(), torch.randn(16, 6, 8)) if granularity == "head" else (images(), torch.randn(16, 4, 8, 8))
        )
        model.eval()
        batches = [(example, torch.randint(4, (16,)))]
        method = resolve("criterion", criterion)
        pruner = sc.Pruner(
            method, resolve("granularity", granularity, example=example[:1]), allocation.uniform(), exclude=("last*",)
        )
        try:
            budget = None if granularity in ("2:4", "kernel-pattern") else sc.Budget(sparsity=0.25)
            pruner.plan(model, budget, data=batches, loss=nn.functional.cross_entropy)
        except SecateurError as error:
            return str(error)
    return ""


def short(why: str) -> str:
    """A reason without the way out."""
    return why.split(". ", maxsplit=1)[0].split(": use ", maxsplit=1)[0].split(": exclude", maxsplit=1)[0]


def names() -> list[str]:
    """Criteria, and methods that choose and mend, that the command line knows."""
    return sorted(factories("criterion"))


def table() -> tuple[list[str], list[str]]:
    """Rows of the matrix, and the reasons for its dots."""
    rows = ["| criterion | " + " | ".join(GRANULARITIES) + " |", "|---|" + "---|" * len(GRANULARITIES)]
    reasons = []
    for name in names():
        found = {granularity: tried(name, granularity) for granularity in GRANULARITIES}
        rows.append(f"| `{name}` | " + " | ".join("·" if why else "yes" for why in found.values()) + " |")
        for why in dict.fromkeys(map(short, filter(None, found.values()))):
            where = [granularity for granularity, text in found.items() if text and short(text) == why]
            reasons.append(f"- `{name}` with {', '.join(where)}: {why}")
    return rows, reasons


def main() -> None:
    """Print the page."""
    warnings.simplefilter("ignore")
    known: dict[str, Callable[..., Any]] = dict(factories("criterion"))
    told = [f"- **`{name}`**: {summary(known[name])}" for name in names()]
    rows, reasons = table()
    print("\n".join([HEAD + "\n".join(told), MATRIX + "\n".join(rows), "", *reasons]))


if __name__ == "__main__":
    main()
