"""Kernel patterns: every kernel keeps the weights of one pattern out of a few."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from secateur.errors import ModelError, PlanError
from secateur.granularity.layers import Granularity, LayerWeight, per_layer, weight_layers
from secateur.index_maps import Cover, Sizes
from secateur.units import Units

PCONV_PATTERNS = (
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (3, 4, 6, 7),
    (4, 5, 7, 8),
    (1, 3, 4, 5),
    (1, 4, 5, 7),
    (3, 4, 5, 7),
    (1, 3, 4, 7),
)
"""Eight four-weight patterns of a 3 x 3 kernel, all with its centre: four corners (squares) and four T shapes."""


def kernel_pattern(patterns: Sequence[Sequence[int]] = PCONV_PATTERNS, kernel: Sizes = (3, 3)) -> Granularity:
    """Every kernel keeps the weights of one pattern; which one, the criterion decides.

    A unit is one pattern of one kernel, `u = (o I + i) P + p` for pattern p of P and kernel (o, i), and units overlap:
    a weight stays while a pattern that stays has it. One of the P units of each kernel stays, so the sparsity of
    weights is fixed: `1 - |pattern| / (h w)`. Leave the budget out. Layers with another kernel stay as they are.

    Args:
        patterns: For each pattern the positions it keeps, counted row-major in the kernel. Together they must reach
            every position.
        kernel: Sizes of the kernels they are for.

    Returns:
        Granularity: a weight O x I x h x w has `O I P` units in scopes of P, of which one stays.

    Raises:
        PlanError: A position is outside the kernel, or in no pattern, or the patterns differ in size: the largest would
            win everywhere.

    Shapes:
        A weight `(O, I, h, w)` has `(O I P,)` units in `O I` scopes.

    Reference:
        Ma et al. (2020), PCONV: The Missing but Desirable Sparsity in DNN Weight Pruning; Niu et al. (2020), PatDNN.

    Example:
        A 1 x 2 kernel with weights 3 and 4 keeps its right or its left weight:

        >>> import torch
        >>> conv = torch.nn.Conv2d(1, 1, (1, 2), bias=False)
        >>> units = kernel_pattern([(0,), (1,)], kernel=(1, 2))(conv)["weight"]
        >>> units.index[("weight", None)].reduce(torch.tensor([[[[3.0, 4.0]]]]))
        tensor([3., 4.])
        >>> units.keep_per_scope
        1
    """
    chosen = tuple(tuple(sorted(pattern)) for pattern in patterns)
    Cover((1, 1, *kernel), tuple(kernel), chosen)  # raises for patterns that do not fit
    if len(set(map(len, chosen))) > 1:
        raise PlanError(f"patterns keep the same number of weights each; given: {sorted(map(len, chosen))}")
    return per_layer(f"kernel_pattern({len(chosen)} patterns)", partial(_build, patterns=chosen, kernel=tuple(kernel)))


def _build(layer: LayerWeight, patterns: tuple[Sizes, ...], kernel: Sizes) -> Units | str:
    if layer.kernel != kernel:
        wanted = "x".join(map(str, kernel))
        return (
            f"its kernel is {'x'.join(map(str, layer.kernel))}, the patterns are for {wanted}"
            if layer.kernel
            else ("a linear layer has no kernel")
        )
    return layer.units(Cover(layer.shape, kernel, patterns), scope=len(patterns), keep=1)


def natural_patterns(
    model: nn.Module, *, entries: int = 4, count: int = 8, kernel: Sizes = (3, 3)
) -> tuple[Sizes, ...]:
    """The patterns that a model's kernels take by themselves, most frequent first.

    A kernel's natural pattern is its centre and the `entries - 1` largest magnitudes beside it: of all patterns P with
    the centre and `|P| = entries` the one of the largest `sum over p in P of |w_p|`. Where the `count`
    most frequent ones leave a position out, the rarest of them give way to the most frequent that has it.

    Args:
        model: A trained model.
        entries: Weights in a pattern.
        count: How many patterns.
        kernel: Sizes of the kernels to look at.

    Returns:
        Patterns for `kernel_pattern`.

    Raises:
        ModelError: The model has no kernels of that size.
        PlanError: `count` patterns of `entries` weights cannot reach every position of the kernel.

    Shapes:
        Kernels `(h, w)` of weights `(O, I, h, w)`; `count` patterns of `entries` positions from 0 to `h w - 1`.

    Reference:
        Niu et al. (2020), PatDNN: Achieving Real-Time DNN Execution on Mobile Devices with Pattern-based Weight
        Pruning.

    Example:
        >>> import torch
        >>> conv = torch.nn.Conv2d(1, 2, (1, 3), bias=False)
        >>> _ = conv.weight.data.copy_(torch.tensor([[[[3.0, 1.0, 2.0]]], [[[1.0, 1.0, 2.0]]]]))
        >>> natural_patterns(conv, entries=2, count=2, kernel=(1, 3))
        ((0, 1), (1, 2))
    """
    cells = math.prod(kernel)
    others = (cells - 1 + entries - 2) // (entries - 1) if entries > 1 else math.inf
    if not 1 < entries <= cells or count < others:
        raise PlanError(
            f"{count} patterns of {entries} weights with the centre cannot reach all {cells} positions: "
            f"allow {others} or more"
        )
    frequent = [pattern for pattern, _ in _natural(model, entries, tuple(kernel)).most_common()]
    return tuple(sorted(_covering(frequent, count, cells, entries)))


def _natural(model: nn.Module, entries: int, kernel: Sizes) -> Counter[Sizes]:
    suited = [layer for layer in weight_layers(model) if layer.kernel == kernel and not layer.unsuited]
    weights = [model.get_parameter(layer.parameter) for layer in suited]
    if not weights:
        raise ModelError(f"{type(model).__name__} has no convolution with a kernel of {kernel}: name another size")
    found: Counter[Sizes] = Counter()
    for weight in weights:
        found.update(_patterns_of(weight.detach().abs().reshape(-1, math.prod(kernel)), entries))
    return found


def _patterns_of(kernels: Tensor, entries: int) -> Iterable[Sizes]:
    ranked = kernels.clone()
    ranked[:, kernels.shape[1] // 2] = torch.inf
    best = ranked.topk(entries, dim=1).indices.sort(dim=1).values
    return map(tuple, best.tolist())


def _covering(frequent: list[Sizes], count: int, cells: int, entries: int) -> list[Sizes]:
    """The most frequent patterns, as many as leave room for those that reach the other positions; `count` at most."""
    beside = set(range(cells)) - {cells // 2}  # the centre is in every pattern
    kept = min(count, len(frequent))
    while kept + -(-len(beside.difference(*frequent[:kept])) // (entries - 1)) > count:
        kept -= 1
    chosen = frequent[:kept]
    while missing := beside.difference(*chosen):
        reach = min(len(missing), entries - 1)
        natural = [pattern for pattern in frequent if len(missing & set(pattern)) >= reach]
        chosen.append(natural[0] if natural else _completed(sorted(missing), cells, entries))
    return chosen


def _completed(missing: list[int], cells: int, entries: int) -> Sizes:
    """A pattern no kernel has, from the centre, missing positions, and the first others."""
    centre = cells // 2
    others = [*missing, *(cell for cell in range(cells) if cell not in missing)]
    return tuple(sorted([centre, *[cell for cell in others if cell != centre][: entries - 1]]))
