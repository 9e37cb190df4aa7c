"""Fine-grained: every weight by itself."""

from __future__ import annotations

from secateur.granularity.layers import Granularity, LayerWeight, per_layer
from secateur.index_maps import Arange
from secateur.units import Units


def weight() -> Granularity:
    """Every weight is a unit; all weights of a layer compete.

    The most freedom, hence the highest sparsity at equal accuracy, and the least regular: speed needs a kernel for
    unstructured sparsity.

    Returns:
        Granularity: `W` of n weights has n units, numbered in memory order.

    Reference:
        Han, Pool, Tran, Dally (2015), Learning both Weights and Connections for Efficient Neural Networks.

    Example:
        >>> import torch
        >>> units = weight()(torch.nn.Linear(4, 2))["weight"]
        >>> units.n_units, units.scope.n_units
        (8, 1)
    """
    return per_layer("weight", _build)


def _build(layer: LayerWeight) -> Units:
    return layer.units(Arange(layer.shape))
