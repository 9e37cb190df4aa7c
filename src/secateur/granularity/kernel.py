"""Kernels: one input channel's filter for one output channel."""

from __future__ import annotations

from secateur.granularity.layers import Granularity, LayerWeight, per_layer
from secateur.units import Units


def kernel() -> Granularity:
    """Every kernel, the h x w weights between one input and one output channel, is a unit.

    A linear layer has no kernel and stays as it is (its kernels would be single weights).

    The weight at (o, i, y, x) is of unit `u = o I + i`.

    Returns:
        Granularity: a weight O x I x h x w has `O I` units.

    Shapes:
        A weight `(O, I, h, w)` has `(O I,)` units in one scope.

    Reference:
        Mao et al. (2017), Exploring the Granularity of Sparsity in Convolutional Neural Networks.

    Example:
        >>> import torch
        >>> kernel()(torch.nn.Conv2d(3, 2, 5))["weight"].n_units
        6
    """
    return per_layer("kernel", _build)


def _build(layer: LayerWeight) -> Units | str:
    if not layer.kernel:
        return "a linear layer has no kernel"
    return layer.units(layer.shared(kernel=(True,) * len(layer.kernel)))
