"""Tensors put one behind the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from secateur.dependency.facets import Facet, Labelled, along, reshaped
from secateur.dependency.labels import Numbers
from secateur.dependency.step import Rule, Step, for_each
from secateur.dependency.zeros import every


def _cat(step: Step) -> Labelled:
    given = [one for one in step["tensors"] if 0 not in one.shape]
    return joined(step, given, step["dim"] % max(1, len(step.shape)))


def _stack(step: Step) -> Labelled:
    dim = step["dim"] % len(step.shape)
    given = [reshaped(one, (*one.shape[:dim], 1, *one.shape[dim:])) for one in step["tensors"]]
    return joined(step, given, dim)


def joined(step: Step, given: Sequence[Labelled], dim: int) -> Labelled:
    """Labels one behind the other along a dimension; along all others the tensors have to agree.

    Args:
        step: The operation.
        given: Tensors of one shape but for `dim`.
        dim: Along which they are joined.

    Returns:
        The labels of the whole.
    """
    if len(given) < 2:
        return Labelled(step.shape, given[0].facets if given else ())
    given = [step.partition.normal(one) for one in given]
    thin = [Labelled(_thin(one.shape, dim), tuple(f for f in one.facets if dim not in along(f.core))) for one in given]
    parts = [_widest(one, dim) for one in given]
    if all(part is None for part in parts):
        return Labelled(step.shape, step.together(thin, _thin(step.shape, dim), every).facets)
    varies = frozenset[int]().union(*(along(part.core) for part in parts if part is not None))
    agreed = [_but(one, varies) for one in thin]
    united = step.together(agreed, tuple(1 if at in varies else size for at, size in enumerate(step.shape)), every)
    pieces = [_piece(step, part, one.shape, varies) for part, one in zip(parts, given, strict=True)]
    facet = Facet(
        np.concatenate(pieces, axis=dim),
        all(part is None or part.zero for part in parts),
        all(part is None or part.loose for part in parts),
    )
    return Labelled(step.shape, (*united.facets, facet))


def _widest(one: Labelled, dim: int) -> Facet | None:
    """The facet that varies along a dimension; while nothing is united yet, there may be several."""
    return max(
        (facet for facet in one.facets if dim in along(facet.core)), key=lambda facet: facet.core.size, default=None
    )


def _but(one: Labelled, dims: frozenset[int]) -> Labelled:
    """A tensor as seen along all other dimensions."""
    facets = tuple(facet for facet in one.facets if not along(facet.core) & dims)
    return Labelled(tuple(1 if at in dims else size for at, size in enumerate(one.shape)), facets)


def _piece(step: Step, part: Facet | None, shape: Sequence[int], varies: frozenset[int]) -> Numbers:
    """Labels of one tensor along the joined dimension; what has none is fixed."""
    sizes = [size if at in varies else 1 for at, size in enumerate(shape)]
    core = part.core if part is not None else np.array(step.partition.fixed(step.reason("it has no labels")))
    return np.broadcast_to(core, sizes)


def _thin(shape: Sequence[int], dim: int) -> tuple[int, ...]:
    return (*shape[:dim], 1, *shape[dim + 1 :])


RULES: dict[str, Rule] = {**for_each("cat concat concatenate", _cat), "stack": _stack}
