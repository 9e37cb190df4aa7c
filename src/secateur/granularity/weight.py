"""Fine-grained: every weight by itself."""

from __future__ import annotations

import math
from functools import partial

from secateur.granularity.layers import Granularity, LayerWeight, per_layer
from secateur.index_maps import Arange
from secateur.units import Units


def weight(per_output: bool = False) -> Granularity:
    """Every weight is a unit; all weights of a layer compete, or those of each of its output channels.

    The most freedom, hence the highest sparsity at equal accuracy, and the least regular: speed needs a kernel for
    unstructured sparsity.

    The weight at (o, i, y, x) is unit `u = ((o I + i) h + y) w + x`, with `per_output` `u = ((o h + y) w + x) I + i`.

    Args:
        per_output: Whether weights compete only with those that make the same output channel, so that every row of a
            linear layer loses equally many.

    Returns:
        Granularity: `W` of n weights has n units, numbered in memory order, or row by row of the im2col matrix where
        rows are scopes.

    Shapes:
        A weight `(O, I, h, w)` has `O I h w` units in one scope, or in `O` scopes of `I h w`.

    Reference:
        Han, Pool, Tran, Dally (2015), Learning both Weights and Connections for Efficient Neural Networks; Sun, Liu,
        Bair, Kolter (2024), A Simple and Effective Pruning Approach for Large Language Models (per output).

    Example:
        >>> import torch
        >>> units = weight()(torch.nn.Linear(4, 2))["weight"]
        >>> units.n_units, units.scope.n_units
        (8, 1)
        >>> weight(per_output=True)(torch.nn.Linear(4, 2))["weight"].scope.numbers()
        tensor([0, 0, 0, 0, 1, 1, 1, 1])
    """
    name = "weight(per_output=True)" if per_output else "weight"
    return per_layer(name, partial(_build, per_output=per_output))


def _build(layer: LayerWeight, per_output: bool) -> Units:
    if per_output:
        row = layer.sizes[2] * math.prod(layer.kernel)
        return layer.units(Arange(layer.shape, split=layer.split, permute=layer.im2col), scope=row)
    return layer.units(Arange(layer.shape))
