"""Blocks of the im2col matrix."""

from __future__ import annotations

import math
from functools import partial

from secateur.errors import BudgetError
from secateur.granularity.layers import Granularity, LayerWeight, per_layer
from secateur.index_maps import Arange
from secateur.units import Units


def block(rows: int, columns: int) -> Granularity:
    """Every tile of `rows` output channels by `columns` im2col columns is a unit.

    The weights of a layer are read as its im2col matrix: one row per output channel, columns ordered by kernel position
    first and input channel last, so that neighbouring columns are neighbouring input channels. Blocks do not cross
    convolution groups; the last block of a row or column of blocks is smaller where the size does not divide.

    Without convolution groups, the weight in row r and column c of that matrix is of unit `u = (r // rows) ceil(h w I /
    columns) + c // columns`.

    Args:
        rows: Output channels in a block, e.g. 4 in a 4 x 1 block.
        columns: im2col columns in a block.

    Returns:
        Granularity: `ceil(O / rows) * ceil(I h w / columns)` units, row-major.

    Raises:
        BudgetError: A size below 1.

    Shapes:
        A weight `(O, I, h, w)`, read as a matrix `(O, h w I)`, has `(ceil(O / rows) ceil(h w I / columns),)` units.

    Reference:
        Narang, Undersander, Diamos (2017), Block-Sparse Recurrent Neural Networks.

    Example:
        >>> import torch
        >>> block(2, 1)(torch.nn.Linear(3, 4))["weight"].index[("weight", None)].numbers()
        tensor([[0, 1, 2],
                [0, 1, 2],
                [3, 4, 5],
                [3, 4, 5]])
    """
    if rows < 1 or columns < 1:
        raise BudgetError(f"a block has at least one row and one column; given: {rows} x {columns}")
    return per_layer(f"block({rows}, {columns})", partial(_build, rows=rows, columns=columns))


def _build(layer: LayerWeight, rows: int, columns: int) -> Units:
    groups, out, in_, kernel = layer.sizes
    matrix = (groups, out, in_ * math.prod(kernel))
    index = Arange(layer.shape, split=layer.split, permute=layer.im2col, join=matrix, repeat=(1, rows, columns))
    return layer.units(index)
