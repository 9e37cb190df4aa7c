"""How long one model takes, with secateur and with the peer, in turns in one process."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import nn

import secateur as sc
from _coverage.levels import SPARSITY, outputs, pruner_of
from _coverage.limits import cause, let, tell, timed
from _coverage.models import build
from _coverage.peer import prune
from tests.zoo.specimen import perturb

ROUNDS = 3
LONG = 10.0  # seconds: a round that took longer is the only one
Tool = Callable[[nn.Module, Any], object]


def shrunk(model: nn.Module, example: Any, *, crossed: bool = False) -> nn.Module:
    """Half of every group's units taken out: trace, plan and smaller model, without the proof."""
    plan = pruner_of(example, crossed).plan(model, sc.Budget(sparsity=SPARSITY))
    return sc.shrink(model, plan, prove=False)


TOOLS: Mapping[str, Tool] = {
    "seconds": shrunk,
    "crossed_seconds": partial(shrunk, crossed=True),
    "peer_seconds": prune,
}


def measure(library: str, name: str, limit: float, tools: Sequence[str]) -> None:
    """Prune copies of a model with each tool in turns, and tell how long it took.

    Seconds of the processor, on one thread. Both have pruned two linear layers before, and the model has run once, so
    that what is imported or made at the first use of a tool or a model is not counted. Copies of the model are made
    beforehand: the peer changes the model that it is given.

    Args:
        library: Where the model is from.
        name: Of the model.
        limit: Seconds of the processor for each run.
        tools: Whose time is measured.
    """
    model, example = build(library, name)
    perturb(model, torch.Generator().manual_seed(0))
    for tool in tools:
        TOOLS[tool](nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)), torch.zeros(1, 4))
    outputs(model, example(1, 0))
    taken: dict[str, list[float]] = {tool: [] for tool in tools}
    for done in range(ROUNDS):
        if sum(sum(runs) for runs in taken.values()) > LONG:
            break
        for tool, runs in taken.items():
            try:
                runs.append(once(TOOLS[tool], model, example(1, 0), limit))
            except Exception as error:
                tell(cause=f"{tool}: {cause(error)}")
                return
        tell(runs=done + 1, **{tool: round(median(runs), 3) for tool, runs in taken.items()})
        tell(**{f"first_{tool}": round(runs[0], 3) for tool, runs in taken.items()})


def once(tool: Tool, model: nn.Module, example: Any, limit: float) -> float:
    """Seconds of the processor that a tool takes for a copy of a model."""
    subject, times = copy.deepcopy(model), dict[str, float]()
    gc.collect()
    let(limit)
    with timed(times, "tool"):
        tool(subject, example)
    let(0)
    return times["tool"]
