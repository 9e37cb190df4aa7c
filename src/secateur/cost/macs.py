"""Multiply-accumulates."""

from __future__ import annotations

from secateur.recipe import Recipe
from secateur.workload import Cost, CostModel, Workload


def macs() -> CostModel:
    """Multiply-accumulates of one forward pass: the products of all layers, as `Layer` counts them.

    Convolutions, matrix products, both products of attention and recurrent layers count. Norms, activations, pooling,
    sums and biases count 0. The number is that of the example's batch. It is no promise of speed.

    Returns:
        CostModel: a workload's `Cost(macs=...)`.

    Reference:
        Sze, Chen, Yang, Emer (2017), Efficient Processing of Deep Neural Networks: A Tutorial and Survey.

    Example:
        A 3 x 3 convolution from 1 to 2 channels, 8 x 8 positions: 3 x 3 x 1 x 2 x 8 x 8.

        >>> import torch
        >>> from secateur.workload import workload
        >>> macs()(workload(torch.nn.Conv2d(1, 2, 3, padding=1), torch.zeros(1, 1, 8, 8))).macs
        1152
    """
    return Recipe("macs", _macs)


def _macs(workload: Workload) -> Cost:
    return Cost(macs=workload.macs)
