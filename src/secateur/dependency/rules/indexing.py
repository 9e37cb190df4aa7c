"""Positions looked up by other tensors: what is looked up stays, the rest is carried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from secateur.dependency.facets import Labelled, along
from secateur.dependency.step import Rule, Step, for_each
from secateur.dependency.zeros import every

LOOKED_UP = "positions along it are looked up"
MASKS = (torch.bool, torch.uint8)
POSITIONS = "it says which positions to look up"


def everywhere(step: Step, given: Labelled, text: str = POSITIONS) -> Labelled:
    """Let nothing of a tensor leave.

    Args:
        step: The operation.
        given: The tensor.
        text: Why, in words.

    Returns:
        The tensor after that.
    """
    return step.fix(given, range(len(given.shape)), text)


def _embedding(step: Step) -> Labelled:
    weight = step.fix(step["weight"], [0], LOOKED_UP)
    indices = everywhere(step, step["indices"])
    return moved(weight, {1: len(indices.shape)}, step.shape)


def moved(given: Labelled, places: dict[int, int], shape: Sequence[int]) -> Labelled:
    """Facets that vary along some dimensions, put at other places.

    Args:
        given: A tensor.
        places: The new dimension for each that is kept, in the same order.
        shape: Of the result.

    Returns:
        The labels of the result; facets that vary along what is not kept are left out.
    """
    facets = []
    for one in given.facets:
        if along(one.core) <= set(places):
            sizes = [1] * len(shape)
            for old, new in places.items():
                sizes[new] = one.core.shape[old]
            facets.append(replace(one, core=one.core.reshape(sizes)))
    return Labelled(tuple(shape), tuple(facets))


def _places(given: Labelled, looked_up: Sequence[int], dims: int) -> dict[int, int]:
    """Where the dimensions that are not looked up come to lie in the result."""
    rest = [dim for dim in range(len(given.shape)) if dim not in looked_up]
    side_by_side = not looked_up or list(looked_up) == list(range(looked_up[0], looked_up[-1] + 1))
    front = looked_up[0] if looked_up and side_by_side else 0
    new = dims - len(rest)  # dimensions that the indices bring
    return {dim: place if place < front else place + new for place, dim in enumerate(rest)}


def _looked_up(step: Step) -> list[int]:
    """The dimensions that indices look up; a mask of bools covers as many as it has. Indices lose nothing."""
    found: list[int] = []
    at = 0
    for index in step["indices"]:
        width = 1
        if index is not None:
            everywhere(step, index)
            width = len(index.shape) if index.dtype in MASKS else 1
            found += range(at, at + width)
        at += width
    return found


def _index(step: Step) -> Labelled:
    given: Labelled = step["self"]
    looked_up = _looked_up(step)
    places = _places(given, looked_up, len(step.shape))
    return moved(step.fix(given, looked_up, LOOKED_UP), places, step.shape)


def _put(step: Step) -> Labelled:
    """`given[indices] = values`: as looking up, the values in the result's place."""
    given: Labelled = step["self"]
    values: Labelled = step["values"]
    looked_up = _looked_up(step)
    given = step.fix(given, looked_up, LOOKED_UP)
    rest = [dim for dim in range(len(given.shape)) if dim not in looked_up]
    if not rest or rest[0] < max(looked_up, default=-1):
        everywhere(step, values, LOOKED_UP)
        return everywhere(step, given, LOOKED_UP)
    trailing = values.shape[-len(rest) :] if len(values.shape) >= len(rest) else values.shape
    offset = len(values.shape) - len(trailing)
    values = step.fix(values, range(offset), LOOKED_UP)
    inner = moved(values, {dim: dim - offset for dim in range(offset, len(values.shape))}, trailing)
    kept = moved(given, {dim: place for place, dim in enumerate(rest)}, [given.shape[dim] for dim in rest])
    united = step.together([kept, inner], kept.shape, every)
    return moved(united, dict(enumerate(rest)), given.shape)


def _along_dim(step: Step) -> Labelled:
    """`gather`, `index_select`: along one dimension positions are looked up."""
    given: Labelled = step["self"]
    dim, index = step["dim"] % max(1, len(given.shape)), step["index"]
    kept = step.fix(given, [dim], LOOKED_UP)
    if len(index.shape) != len(given.shape) or (index.shape == given.shape and len(given.shape) == 1):
        everywhere(step, index)
        return Labelled(step.shape, kept.facets)
    smaller = [at for at, size in enumerate(index.shape) if at != dim and size != given.shape[at]]
    kept = step.fix(kept, smaller, LOOKED_UP)
    index = step.fix(index, [dim], POSITIONS)
    thin = (*step.shape[:dim], 1, *step.shape[dim + 1 :])
    sides = [Labelled(thin, one.facets) for one in (kept, index)]
    return Labelled(step.shape, step.together(sides, thin, lambda flags: bool(flags[0])).facets)


def _add_at(step: Step) -> Labelled:
    """`index_add`, `index_copy`: slices of the source come to lie where an index says."""
    given: Labelled = step["self"]
    source = step.get("source")
    dim = step["dim"] % max(1, len(given.shape))
    everywhere(step, step["index"])
    sides = [step.fix(one, [dim], LOOKED_UP) for one in (given, source)]
    thin = (*given.shape[:dim], 1, *given.shape[dim + 1 :])
    sides = [Labelled(thin, one.facets) for one in sides]
    return Labelled(given.shape, step.together(sides, thin, every).facets)


RULES: dict[str, Rule] = {
    "embedding": _embedding,
    **for_each("index _unsafe_index", _index),
    **for_each("index_put _unsafe_index_put _index_put_impl", _put),
    **for_each("gather index_select", _along_dim),
    **for_each("index_add index_copy", _add_at),
}
