"""Filters: all weights that make one output channel."""

from __future__ import annotations

from secateur.granularity.layers import Granularity, LayerWeight, per_layer
from secateur.units import Units


def filter() -> Granularity:  # noqa: A001  the field's word
    """Every filter, the weights of one output channel (a row, a neuron, in a linear layer), is a unit.

    Only the weight is masked: the channel's bias and what follows it stay, so the channel becomes a constant. The
    filters of the last layer are the model's outputs: exclude it. To take channels away together with all that
    depends on them, the layers have to be coupled.

    The weight at (o, i, y, x) is of unit `u = o`.

    Returns:
        Granularity: a weight O x I x h x w has `O` units, numbered as the output channels.

    Shapes:
        A weight `(O, I, h, w)` or `(O, I)` has `(O,)` units in one scope.

    Reference:
        Li, Kadav, Durdanovic, Samet, Graf (2017), Pruning Filters for Efficient ConvNets.

    Example:
        >>> import torch
        >>> filter()(torch.nn.Linear(3, 2))["weight"].index[("weight", None)].numbers()
        tensor([[0, 0, 0],
                [1, 1, 1]])
    """
    return per_layer("filter", _build)


def _build(layer: LayerWeight) -> Units:
    return layer.units(layer.shared(in_=True, kernel=(True,) * len(layer.kernel)))
