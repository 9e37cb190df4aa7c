"""Input channels: all weights that read one input channel."""

from __future__ import annotations

from secateur.granularity.layers import Granularity, LayerWeight, per_layer
from secateur.units import Units


def input_channel() -> Granularity:
    """Every input channel of a layer (a column, in a linear layer) is a unit.

    The weight at (o, i, y, x) is of unit `u = i`; in group g of a grouped convolution `u = g I + i`.

    Returns:
        Granularity: a weight O x I x h x w has `I` units (times the groups of a grouped convolution), numbered as the
        input channels.

    Shapes:
        A weight `(O, I, h, w)` or `(O, I)` has `(I,)` units in one scope.

    Reference:
        He, Zhang, Sun (2017), Channel Pruning for Accelerating Very Deep Neural Networks.

    Example:
        >>> import torch
        >>> input_channel()(torch.nn.Linear(3, 2))["weight"].index[("weight", None)].numbers()
        tensor([[0, 1, 2],
                [0, 1, 2]])
    """
    return per_layer("input_channel", _build)


def _build(layer: LayerWeight) -> Units:
    return layer.units(layer.shared(out=True, kernel=(True,) * len(layer.kernel)), role="in")
