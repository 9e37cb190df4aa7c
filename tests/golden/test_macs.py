"""Multiply-accumulates and parameters that were published, of whole networks and of pruned ones; no data is needed."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.workload import Workload, resize, workload
from tests.golden.networks import MOBILENET_STRIDES, MOBILENET_V1, ResNet18, mobile_net

EXAMPLE = torch.zeros(1, 3, 224, 224)


def theirs(found: Workload) -> int:
    """As Torch-Pruning counts (`count_ops_and_params`, after ptflops): more than products.

    A batch norm counts two for each number, an activation and a pooling one (of the output, of the input), the bias of
    the classifier one for each output; additions of residuals count nothing.
    """
    more = 0
    for layer in found.layers:
        if layer.kind == "norm":
            more += 2 * math.prod(layer.input)
        elif layer.operation == "relu":
            more += math.prod(layer.output)
        elif layer.operation in ("max_pool2d_with_indices", "mean"):  # to one position a mean runs
            more += math.prod(layer.input)
        elif layer.kind == "linear":
            more += layer.output[-1]
    return found.macs + more


def test_resnet_18_at_half_its_channels() -> None:
    """Torch-Pruning's README: 1.822177768 -> 0.487202536 GMACs, 11.689512 -> 3.05588 M parameters.

    Every dimension of channels at 0.5, the residual stream too, the classifier's outputs left alone.
    """
    model = ResNet18().eval()
    pruner = sc.Pruner(criteria.magnitude(), granularity.channel(EXAMPLE), allocation.uniform())
    plan = pruner.plan(model, sc.Budget(sparsity=0.5))
    before = pruner.workload(model)
    after = resize(before, plan)
    assert (theirs(before), before.parameter_count) == (1_822_177_768, 11_689_512)
    assert (theirs(after), after.parameter_count) == (487_202_536, 3_055_880)
    # the products alone, as torch's counter has them: 1.814 GMACs is the number of the literature
    assert (before.macs, after.macs) == (1_814_073_344, 483_149_824)
    small = sc.shrink(model, plan, prove=False)
    assert sum(value.numel() for value in small.parameters()) == 3_055_880
    assert workload(small, EXAMPLE) == after


AMC = (24, 48, 96, 80, 192, 200, 328, 352, 368, 360, 328, 400, 736, 752)
"""Channels of MobileNetV1 after AMC's search at half the multiply-accumulates: README of mit-han-lab/amc, behind the 3
of the picture; the same in `0.5flops` of mit-han-lab/amc-models."""


def amc(model: nn.Module) -> sc.Plan:
    """The first channels of each layer stay, as many as the policy says."""
    groups = granularity.channel(EXAMPLE)(model)
    free = [name for name, units in groups.items() if not units.frozen]
    assert [groups[name].n_units for name in free] == list(MOBILENET_V1)
    keeps = {name: torch.arange(groups[name].n_units) < kept for name, kept in zip(free, AMC, strict=True)}
    return sc.Plan(tuple(sc.Part(name, groups[name], keep) for name, keep in keeps.items()))


def by_pencil(channels: tuple[int, ...]) -> int:
    """Products of the first convolution, of 13 depthwise and pointwise ones, of the classifier."""
    total, side = 3 * channels[0] * 9 * 112**2, 112
    for at, (inputs, outputs) in enumerate(itertools.pairwise(channels), 1):
        side //= MOBILENET_STRIDES[at]
        total += (inputs * 9 + inputs * outputs) * side**2
    return total + channels[-1] * 1000


def inner(found: Workload) -> int:
    products = [layer for layer in found.layers if layer.macs]
    return sum(layer.macs for layer in products[1:-1])


def test_mobilenet_v1_after_amc() -> None:
    """He et al. (2018), AMC: 569 -> 285 million multiply-accumulates, which their list of channels does not give.

    By pencil, layer after layer, the list comes to 293.87 million. 284.99 are left without the first convolution and
    the classifier; but 569 counts both (without them the dense network has 556.88).
    """
    model = mobile_net().eval()
    plan = amc(model)
    before = workload(model, EXAMPLE)
    after = resize(before, plan)
    assert (before.macs, after.macs) == (568_740_352, 293_870_000)
    assert (by_pencil(MOBILENET_V1), by_pencil(AMC)) == (568_740_352, 293_870_000)
    assert [round(inner(one) / 1e6, 2) for one in (before, after)] == [556.88, 284.99]
    assert before.parameter_count == 4_231_976  # 4.2 million in the paper of MobileNets, table 8
    assert workload(sc.shrink(model, plan, prove=False), EXAMPLE) == after


@pytest.mark.parametrize("measure", ["macs", "parameters"])
def test_half_of_mobilenet_v1(measure: str) -> None:
    """A unit of 14 layers at most is the step: far below 1 %."""
    model = mobile_net().eval()
    pruner = sc.Pruner(criteria.magnitude(), granularity.channel(EXAMPLE), allocation.global_())
    plan = pruner.plan(model, sc.Budget(**{measure: 0.5}))  # type: ignore[arg-type]
    before = pruner.workload(model)
    after = resize(before, plan)
    name = {"macs": "macs", "parameters": "parameter_count"}[measure]
    assert 0.495 < getattr(after, name) / getattr(before, name) <= 0.5
