"""N:M: n of every m consecutive input channels stay."""

from __future__ import annotations

from functools import partial

from secateur.errors import BudgetError
from secateur.granularity.layers import Granularity, LayerWeight, per_layer
from secateur.index_maps import Arange
from secateur.units import Units


def pattern(n: int, m: int) -> Granularity:
    """Keep n of every m consecutive input channels, at each output channel and kernel position.

    The weights of a layer are read as its im2col matrix: one row per output channel, columns ordered by kernel
    position first and input channel last. Every m consecutive weights of a row that share a kernel position are a
    scope, n of them stay: a sparsity of `1 - n/m`, in a form that NVIDIA's sparse tensor cores (2:4) and packed CPU
    kernels can use. A layer whose input channels m does not divide stays as it is.

    Args:
        n: How many stay.
        m: Of how many.

    Returns:
        Granularity: every weight is a unit, numbered in im2col order; scopes are runs of m units.

    Raises:
        BudgetError: Not `1 <= n <= m`.

    Shapes:
        A weight `(O, I, h, w)` has `(O h w I,)` units in `O h w I / m` scopes.

    Reference:
        Mishra et al. (2021), Accelerating Sparse Deep Neural Networks.

    Example:
        The 2:4 scopes of a 1 x 4 x 1 x 2 convolution weight: the four input channels at kernel column 0, then at
        column 1.

        >>> import torch
        >>> units = pattern(2, 4)(torch.nn.Conv2d(4, 1, (1, 2)))["weight"]
        >>> units.index[("weight", None)].numbers()[0, :, 0]
        tensor([[0, 4],
                [1, 5],
                [2, 6],
                [3, 7]])
        >>> units.scope.numbers()
        tensor([0, 0, 0, 0, 1, 1, 1, 1])
    """
    if not 1 <= n <= m:
        raise BudgetError(f"a pattern keeps n of every m weights with 1 <= n <= m; given: {n}:{m}")
    return per_layer(f"pattern({n}, {m})", partial(_build, n=n, m=m))


def _build(layer: LayerWeight, n: int, m: int) -> Units | str:
    inputs = layer.sizes[2]
    if inputs % m:
        per_group = " per group" if layer.groups > 1 else ""
        return f"{inputs} input channel{'s' if inputs > 1 else ''}{per_group}, not divisible by {m}"
    return layer.units(Arange(layer.shape, split=layer.split, permute=layer.im2col), scope=m, keep=n)
