"""Erdos-Renyi: thin layers stay denser."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

from secateur.allocation.scored import Allocation, Scored, along
from secateur.recipe import Recipe


def erdos_renyi(kernel: bool = True) -> Allocation:
    """Density in proportion to the sum of a layer's sizes over their product.

    `1 - s_g = eps (sum of sizes) / (product of sizes)`, at most 1, with the `eps` that meets the total. With `kernel`
    the sizes are all of the weight's (ERK), without only its two channel counts (ER).

    Args:
        kernel: Whether kernel sizes count.

    Returns:
        Allocation: from groups and a sparsity to a sparsity per group.

    Shapes:
        Weights `(O, I, h, w)` or `(O, I)` to a sparsity of each group, a number.

    Reference:
        Mocanu et al. (2018), Scalable Training of Artificial Neural Networks with Adaptive Sparse Connectivity (ER);
        Evci, Gale, Menick, Castro, Elsen (2020), Rigging the Lottery, section 3 (ERK).

    Example:
        Two linear layers, 10 x 10 and 10 x 40, half of all 500 weights to stay: densities stand as 20/100 to 50/400.

        >>> import torch
        >>> def layer(out, in_):
        ...     return Scored(torch.ones(out * in_), out * in_, torch.ones(1), (out, in_))
        >>> shared = erdos_renyi()({"a": layer(10, 10), "b": layer(10, 40)}, 0.5)
        >>> {name: round(1 - s, 4) for name, s in shared.items()}
        {'a': 0.7143, 'b': 0.4464}
    """
    return Recipe(f"erdos_renyi(kernel={kernel})", partial(_allocate, kernel=kernel))


def _allocate(groups: Mapping[str, Scored], sparsity: float, kernel: bool) -> dict[str, float]:
    raw = {name: _raw_density(group.shape if kernel else group.shape[:2]) for name, group in groups.items()}

    def curve(t: float) -> dict[str, float]:
        scale = (1 - t) / max(t, 1e-300)
        return {name: 1 - min(1.0, scale * density) for name, density in raw.items()}

    return along(groups, sparsity, curve)


def _raw_density(sizes: tuple[int, ...]) -> float:
    return sum(sizes) / math.prod(sizes)
