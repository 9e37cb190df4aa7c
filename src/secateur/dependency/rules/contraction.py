"""Sums of products: matrix products, linear layers, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from secateur.dependency.facets import Labelled, along, permuted, reshaped
from secateur.dependency.rules.statistic import needs_zero
from secateur.dependency.step import Rule, Step, for_each
from secateur.dependency.zeros import every, some

SUMMED = "it is multiplied and summed with something that stays"


def product(step: Step, one: Labelled, other: Labelled) -> Labelled:
    """`one[..., m, k] @ other[..., k, n]`, the dimensions in front the same or 1.

    Args:
        step: The operation.
        one: Dimensions in front, rows, the dimension summed over.
        other: As many dimensions in front, the dimension summed over, columns.

    Returns:
        Labels of the dimensions in front, the rows and the columns.
    """
    batch = len(one.shape) - 2
    front = range(batch)
    one, other = (step.keep(side, front) for side in (one, other))
    one, other = step.keep(one, [batch + 1]), step.keep(other, [batch])
    shape = (*np.broadcast_shapes(one.shape[:batch], other.shape[:batch]), one.shape[batch], other.shape[-1])
    shared = step.together([only(one, front), only(other, front)], shape[:batch], some)
    step.partition.heads += [facet.core for facet in shared.facets]
    summed = step.together([only(one, [batch + 1]), only(other, [batch])], (one.shape[-1],), some, SUMMED)
    needs_zero(step, summed, [0])
    both = tuple(replace(facet, core=facet.core[..., None, None]) for facet in shared.facets)
    rows = tuple(facet for facet in one.facets if along(facet.core) == {batch})
    columns = tuple(facet for facet in other.facets if along(facet.core) == {batch + 1})
    return Labelled(shape, (*both, *rows, *columns))


def only(given: Labelled, dims: Sequence[int]) -> Labelled:
    """A tensor as seen along some dimensions.

    Args:
        given: The tensor.
        dims: The dimensions, rising.

    Returns:
        Those dimensions, with the facets that vary along nothing else.
    """
    rest = tuple(dim for dim in range(len(given.shape)) if dim not in dims)
    chosen = [facet for facet in given.facets if along(facet.core) <= set(dims)]
    facets = tuple(replace(one, core=one.core.squeeze(rest)) for one in chosen)
    return Labelled(tuple(given.shape[dim] for dim in dims), facets)


def linear(step: Step, given: Labelled, weight: Labelled, bias: Labelled | None) -> Labelled:
    """`given[..., k] @ weight[k, n] + bias`.

    Args:
        step: The operation.
        given: Any dimensions in front.
        weight: Two dimensions.
        bias: Broadcastable to the result.

    Returns:
        The labels of the result.
    """
    rows = math.prod(given.shape[:-1])
    flat = product(step, reshaped(given, (rows, given.shape[-1])), weight)
    result = reshaped(flat, (*given.shape[:-1], weight.shape[1]))
    return result if bias is None else step.together([result, bias], result.shape, every)


def _mm(step: Step) -> Labelled:
    return product(step, step["self"], step["mat2"])


def _addmm(step: Step) -> Labelled:
    found = product(step, step.get("mat1") or step["batch1"], step.get("mat2") or step["batch2"])
    return step.together([found, step["self"]], found.shape, every)


def _grouped(step: Step) -> Labelled:
    """Rows sorted by group, each group with a matrix of its own, as fused experts are; the groups stay."""
    one, other = step["self"], step["mat2"]
    if len(one.shape) == len(other.shape):
        return product(step, one, other) if len(one.shape) == 3 else _unknown(step)
    if len(one.shape) != 2:
        return _unknown(step)
    inside = permuted(step.fix(other, [0], "rows are sorted by it"), (1, 2, 0))
    matrix = Labelled(inside.shape[:2], only(inside, [0, 1]).facets)
    return linear(step, step.fix(one, [0], "rows are sorted"), matrix, step["bias"])


def _unknown(step: Step) -> Labelled:
    for one in step.tensors():
        step.fix(one, range(len(one.shape)), "there is no rule for these shapes")
    return Labelled(step.shape)


def _linear(step: Step) -> Labelled:
    return linear(step, step["input"], permuted(step["weight"], (1, 0)), step["bias"])


def _matmul(step: Step) -> Labelled:
    one, other = step["self"], step["other"]
    if len(one.shape) == 1:
        one = reshaped(one, (1, *one.shape))
    if len(other.shape) == 1:
        other = reshaped(other, (*other.shape, 1))
    if len(other.shape) == 2:
        return reshaped(linear(step, one, other, None), step.shape)
    dims = max(len(one.shape), len(other.shape))
    sides = [reshaped(side, (1,) * (dims - len(side.shape)) + side.shape) for side in (one, other)]
    return reshaped(product(step, *sides), step.shape)


def _vector(step: Step) -> Labelled:
    """A product with a vector, or of two."""
    one: Labelled = step["self"]
    other: Labelled = step.get("vec") or step["tensor"]
    rows = one.shape if len(one.shape) == 2 else (1, *one.shape)
    return reshaped(product(step, reshaped(one, rows), reshaped(other, (*other.shape, 1))), step.shape)


def _attention(step: Step) -> list[Labelled | None]:
    """`softmax(query @ key / sqrt(E) + mask) @ value`: the sizes of heads and sequence stay, heads may leave."""
    query, key, value = (step[name] for name in ("query", "key", "value"))
    front = range(len(query.shape) - 2)
    sides = [step.keep(one, front) for one in (query, *(_repeated(one, query) for one in (key, value)))]
    sides = [step.fix(one, [-1], "the size of a head is part of its scale") for one in sides]
    sides[1:] = [step.fix(one, [-2], "softmax runs along the sequence") for one in sides[1:]]
    mask = step.get("attn_mask", step.get("attn_bias"))
    if mask is not None:
        mask = reshaped(mask, (1,) * (len(query.shape) - len(mask.shape)) + mask.shape)
        sides.append(step.fix(mask, [-1, -2], "softmax runs along the sequence"))
    shape = tuple(query.shape[: len(front)])
    heads = step.together([only(one, front) for one in sides], shape, lambda flags: bool(flags[2]))
    step.partition.heads += [facet.core for facet in heads.facets]
    both = tuple(replace(facet, core=facet.core[..., None, None]) for facet in heads.facets)
    rows = tuple(facet for facet in sides[0].facets if along(facet.core) == {len(front)})
    results: list[Labelled | None] = [Labelled(step.shape, (*both, *(replace(row, zero=False) for row in rows)))]
    for other in step.shapes[1:]:
        fits = other is not None and other[: len(front)] == shape
        lost = tuple(replace(one, core=one.core[..., None], zero=False) for one in heads.facets)
        results.append(Labelled(other or (), lost if fits and len(other or ()) == len(shape) + 1 else ()))
    return results


def _repeated(side: Labelled, query: Labelled) -> Labelled:
    """Keys of which each serves several queries, once for each query."""
    at = len(query.shape) - 3
    if at < 0 or side.shape[at] in (1, query.shape[at]):
        return side
    times = query.shape[at] // side.shape[at]
    shape = (*side.shape[:at], query.shape[at], *side.shape[at + 1 :])
    facets = [
        replace(one, core=np.repeat(one.core, times, axis=at)) if one.core.shape[at] > 1 else one for one in side.facets
    ]
    return Labelled(shape, tuple(facets))


ATTENTION = (
    "scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu "
    "_scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention "
    "_scaled_dot_product_cudnn_attention _scaled_dot_product_fused_attention_overrideable"
)
RULES: dict[str, Rule] = {
    **for_each("mm bmm", _mm),
    **for_each("addmm baddbmm", _addmm),
    "linear": _linear,
    "_grouped_mm": _grouped,
    "matmul": _matmul,
    **for_each("mv dot", _vector),
    **for_each(ATTENTION, _attention),
}
