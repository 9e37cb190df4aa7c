"""Vectors: rows or columns inside a kernel."""

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

from secateur.errors import UnknownNameError
from secateur.granularity.layers import Granularity, LayerWeight, per_layer
from secateur.units import Units

Axis = Literal["row", "column"]


def vector(axis: Axis = "row") -> Granularity:
    """Every row (or column) of every kernel is a unit.

    In a kernel of height h and width w a row has w weights and a column h. A one-dimensional kernel is one row; a
    linear layer has no kernel and stays as it is.

    The weight at (o, i, y, x) is of row `u = (o I + i) h + y`, or of column `u = (o I + i) w + x`.

    Args:
        axis: `"row"` or `"column"`.

    Returns:
        Granularity: a weight O x I x h x w has `O I h` rows or `O I w` columns.

    Raises:
        UnknownNameError: `axis` is neither.

    Shapes:
        A weight `(O, I, h, w)` has `(O I h,)` rows or `(O I w,)` columns in one scope.

    Reference:
        Mao, Han, Pool, Li, Liu, Wang, Dally (2017), Exploring the Granularity of Sparsity in Convolutional Neural
        Networks.

    Example:
        >>> import torch
        >>> vector("row")(torch.nn.Conv2d(1, 1, 3))["weight"].index[("weight", None)].numbers().squeeze()
        tensor([[0, 0, 0],
                [1, 1, 1],
                [2, 2, 2]])
    """
    if axis not in get_args(Axis):
        raise UnknownNameError("vector axis", axis, get_args(Axis))
    return per_layer(f"vector({axis})", partial(_build, axis=axis))


def _build(layer: LayerWeight, axis: Axis) -> Units | str:
    dims = len(layer.kernel)
    if dims == 0:
        return "a linear layer has no kernel"
    spanned = dims - 1 if axis == "row" else dims - 2  # a 1-d kernel is one row: no dimension -1 is spanned by a column
    return layer.units(layer.shared(kernel=tuple(dim == spanned for dim in range(dims))))
