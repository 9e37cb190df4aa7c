"""The same models pruned with Torch-Pruning, in the way of its quick start and of its examples for transformers.

It is told which layer is the last and how many heads a layer's outputs are, and the integers that hold the size of a
head are set by hand afterwards.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from _coverage.levels import count, outputs
from _coverage.limits import cause, let, tell
from _coverage.models import build
from secateur.batches import call
from secateur.dependency.recorder import tensors_in
from tests.zoo.specimen import perturb

SPARSITY = 0.5
# What attentions call their projections, the number of their heads, the size of one, and of all together.
PACKED, PROJECTIONS = ("qkv", "query_key_value"), ("q", "k", "v", "query", "key", "value", "q_proj", "k_proj", "v_proj")
LINEAR = (*PACKED, *PROJECTIONS, "q_lin", "k_lin", "v_lin")
HEADS = ("num_heads", "num_attention_heads", "n_heads")
SIZES, WIDTHS = ("head_dim", "attention_head_size"), ("attn_dim", "all_head_size")


def measure(library: str, name: str, limit: float) -> None:
    """Prune a model with the peer and tell how far it came.

    It passes if the smaller model runs, returns the same shapes, has at most 90 % of the parameters, and takes one step
    of an optimizer in train mode.

    Args:
        library: Where the model is from.
        name: Of the model.
        limit: Seconds of the processor for pruning.
    """
    tell(stage="build")
    model, example = build(library, name)
    perturb(model, torch.Generator().manual_seed(0))
    before, dense, tied = count(model), outputs(model, example(1, 1)), ties(model)
    try:
        tell(stage="prune")
        let(limit)
        prune(model, example(1, 0))
        let(0)
        kept = count(model) / before
        tell(kept=round(kept, 4), untied=len(tied - ties(model)), stage="forward")
        shapes = [one.shape for one in outputs(model, example(1, 1))]
        assert shapes == [one.shape for one in dense], f"shapes {[tuple(one) for one in shapes]}"
        tell(stage="step")
        step(model, example(2, 2))
    except Exception as error:
        tell(verdict="fail", cause=cause(error))
        return
    tell(verdict="pass" if kept <= 0.9 else "frozen", stage="done")


def prune(model: nn.Module, example: Any) -> None:
    """Half of every layer's channels and of every head, by group magnitude; the last layer is left alone."""
    import torch_pruning as tp

    pruner = tp.pruner.BasePruner(
        model,
        copy.deepcopy(example),
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=SPARSITY,
        ignored_layers=last(model),
        output_transform=_total,
        num_heads={layer: heads for _, heads, layers in attentions(model) for layer in layers.values()},
    )
    pruner.step()
    for module, heads, layers in attentions(model):
        name, layer = next(iter(layers.items()))
        width = layer.out_features // (3 if name in PACKED else 1)
        for attributes, size in ((SIZES, width // heads), (WIDTHS, width)):
            for attribute in attributes:
                if hasattr(module, attribute):
                    setattr(module, attribute, size)


def ties(model: nn.Module) -> set[tuple[str, str]]:
    """Pairs of names of one parameter."""
    first: dict[int, str] = {}
    names = model.named_parameters(remove_duplicate=False)
    return {(first.setdefault(id(one), name), name) for name, one in names} - {(name, name) for name in first.values()}


def attentions(model: nn.Module) -> Iterator[tuple[nn.Module, int, dict[str, nn.Linear]]]:
    """Modules that hold a number of heads and projections, with both."""
    for module in model.modules():
        heads = next((value for one in HEADS if isinstance(value := getattr(module, one, None), int)), 0)
        layers = {name: one for name, one in module.named_children() if name in LINEAR and isinstance(one, nn.Linear)}
        if heads and layers:
            yield module, heads, layers


def last(model: nn.Module) -> list[nn.Module]:
    """The classifiers or the head over the vocabulary: what is called so, else the last layer."""
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
    named = [m for n, m in layers if n.split(".")[-1] in ("lm_head", "head", "fc", "classifier", "decoder")]
    return [*named, layers[-1][1]]


def _total(output: Any) -> Tensor:
    return torch.stack([one.float().sum() for one in tensors_in(output)]).sum()


def step(model: nn.Module, inputs: Any) -> None:
    """One step of an optimizer in train mode."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    found = [one for one in tensors_in(call(model, inputs)) if one.requires_grad]
    torch.stack([one.float().square().mean() for one in found]).sum().backward()
    optimizer.step()
