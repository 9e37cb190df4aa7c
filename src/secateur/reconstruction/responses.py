"""What each unit contributes to the outputs of the layers that read it, as one small regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.granularity.layers import LayerWeight
from secateur.index_maps import IndexMap
from secateur.reconstruction.observe import Reading


@dataclass(frozen=True, eq=False)
class Responses:
    """The regression of outputs on the contributions `z_u = X_u W_u` of the units, over all points and outputs.

    Args:
        gram: Products of contributions, `Z'Z`, `(units, units)`.
        target: Products of contributions and outputs, `Z'y`, `(units,)`; what is read beside the units is taken off y.
    """

    gram: Tensor
    target: Tensor


def columns_of(layer: LayerWeight, index: IndexMap) -> Tensor | None:
    """The unit that each column of a layer's matrix reads.

    Args:
        layer: The layer.
        index: Of its weight.

    Returns:
        int64, `(groups, columns)`, -1 for none; None where a unit is no set of inputs.

    Example:
        >>> from secateur.granularity import filter, input_channel, weight_layers
        >>> conv = torch.nn.Conv1d(2, 3, 2)
        >>> layer, units = next(weight_layers(conv)), input_channel()(conv)["weight"]
        >>> columns_of(layer, units.index[("weight", None)])
        tensor([[0, 0, 1, 1]])
        >>> columns_of(layer, filter()(conv)["weight"].index[("weight", None)])
    """
    units = index.numbers().expand(layer.shape).reshape(layer.split).flatten(2)
    first = units[:, :1]
    return first[:, 0] if bool((units == first).all()) else None


def responses(readings: Sequence[Reading], columns: Sequence[Tensor], count: int, *, centred: bool = True) -> Responses:
    """Contributions of units to all layers that read them, side by side.

    Each layer counts alike: its products are divided by the sum of squares of its wanted outputs, which are about their
    means where the layer has an intercept. All of it follows from the moments, for
    `z_u . z_v = sum over columns i of u, j of v of (X'X)_ij (W W')_ij`.

    Args:
        readings: Of the layers.
        columns: For each of them the unit of each column.
        count: How many units there are.
        centred: Whether to go about the means where there is an intercept.

    Returns:
        The regression.
    """
    gram = readings[0].moments.xx.new_zeros(count, count)
    target = gram.new_zeros(count)
    for reading, owner in zip(readings, columns, strict=True):
        one = _of_layer(reading, owner.to(gram.device), count, centred)
        moments = reading.fit if centred else reading.moments
        energy = float(moments.yy.sum()) or 1.0
        gram, target = gram + one.gram / energy, target + one.target / energy
    return Responses(gram, target)


def _of_layer(reading: Reading, owner: Tensor, count: int, centred: bool) -> Responses:
    """The last row and column stand for what is read beside the units, which stays."""
    moments, weight = (reading.fit if centred else reading.moments), reading.weight
    gram = weight.new_zeros(count + 1, count + 1)
    target = weight.new_zeros(count + 1)
    for group in range(len(weight)):
        place = torch.where(owner[group] < 0, count, owner[group])
        products = moments.xx[group] * (weight[group] @ weight[group].T)
        rows = products.new_zeros(count + 1, products.shape[1]).index_add(0, place, products)
        gram.index_add_(1, place, rows)
        target.index_add_(0, place, (weight[group] * moments.xy[group]).sum(1))
    return Responses(gram[:count, :count], target[:count] - gram[:count, count])
