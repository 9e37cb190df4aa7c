"""Published sizes of transformers at half their channels; weights have no values, since only shapes count."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.workload import Workload, resize, workload
from tests.golden.transformers import Attention, Bert, OfTorch, ViT


def half(model: nn.Module, channels: Any) -> sc.Plan:
    """The first half of every group stays."""
    parts = []
    for name, units in channels(model).items():
        keep = torch.arange(units.n_units) < units.n_units / 2
        parts.append(sc.Part(name, units, keep if not units.frozen else torch.ones_like(keep)))
    return sc.Plan(tuple(parts))


def sizes(model: nn.Module, example: Any, **how: Any) -> tuple[Workload, Workload, sc.Plan]:
    """What runs before and after."""
    channels = granularity.channel(example, cross_norms=True, **how)
    plan = half(model, channels)
    before = sc.Pruner(criteria.random(), channels, allocation.uniform()).workload(model)
    return before, resize(before, plan), plan


@pytest.mark.parametrize(
    ("attention", "patch", "parameters", "left"),
    [(Attention, 32, 88_224_232, 22_878_952), (OfTorch, 16, 86_567_656, 22_050_664)],
)
def test_vit_at_half_its_channels(attention: type[nn.Module], patch: int, parameters: int, left: int) -> None:
    """Torch-Pruning: torchvision's vit_b_32 from 88,224,232 to 22,878,952; timm's ViT-B/16 from 86.57 to 22.05 M.

    Width, heads and inner widths at 0.5, the classifier's outputs left alone. The code of `nn.MultiheadAttention` asks
    that heads times their size is the width of its input, and holds both back; its operations do not.
    """
    with torch.device("meta"):
        model, example = ViT(patch, attention).eval(), torch.zeros(1, 3, 224, 224)
    before, after, plan = sizes(model, example, graph=attention is OfTorch)
    assert (before.parameter_count, after.parameter_count) == (parameters, left)
    assert sum(value.numel() for value in model.parameters()) == parameters
    free = sorted({part.units.n_units for part in plan.parts if not part.units.frozen})
    assert free == [12, 768, 3072]
    if attention is Attention:
        small = sc.shrink(model, plan, prove=False)
        assert sum(value.numel() for value in small.parameters()) == left
        assert workload(small, example).macs == after.macs


def theirs(found: Workload) -> int:
    """As Torch-Pruning counts (`count_ops_and_params`, after ptflops): modules alone, so of BERT its linear layers.

    The bias of a layer counts one for each output, however many words there are. Products of queries and keys, and of
    scores and values, are no modules and count nothing; nor do norms and activations of this model.
    """
    return sum(layer.macs + layer.output[-1] for layer in found.layers if layer.kind == "linear")


def test_bert_at_half_its_channels() -> None:
    """Torch-Pruning: from 680.150784 to 170.206464 million, on eight words ("Hello, my dog is cute" and its ends).

    By pencil: 12 blocks of 4 x 768 x 768 + 2 x 768 x 3072 products for each of 8 words, 768 x 768 of the pooler for the
    first, and 12 x (5 x 768 + 3072) + 768 for biases. At half, the pooler's 768 outputs stay: 384 x 768 products.
    """
    by_pencil = [
        8 * 12 * (4 * width * width + 2 * width * 4 * width) + width * 768 + 12 * (5 * width + 4 * width) + 768
        for width in (768, 384)
    ]
    with torch.device("meta"):
        model = Bert().eval()
        example = (torch.zeros(1, 8, dtype=torch.long), torch.zeros(1, 8, dtype=torch.long))
    before, after, plan = sizes(model, example)
    assert [theirs(before), theirs(after)] == by_pencil == [680_150_784, 170_206_464]
    assert before.parameter_count == 109_482_240  # 110 million in the paper
    assert plan["pooler"].units.frozen.startswith("it is the model's output")
