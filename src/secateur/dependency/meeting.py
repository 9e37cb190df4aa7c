"""Tensors that meet position by position: what has to leave together, and what has to stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from secateur.dependency.facets import Facet, Labelled, Shape, aligned, along
from secateur.dependency.labels import Numbers
from secateur.dependency.partition import Partition, Reason
from secateur.dependency.zeros import Zero


def together(partition: Partition, operands: Sequence[Labelled], shape: Shape, reason: Reason, zero: Zero) -> Labelled:
    """Unite the labels of tensors that meet position by position.

    A dimension that one of them has whole and without labels is fixed for all. Dimensions of size 1 are broadcast
    and ask for nothing.

    Args:
        partition: The labels.
        operands: Tensors that broadcast to `shape`.
        shape: Of the result.
        reason: Why something would be fixed.
        zero: Whether the result is zero where labels are masked.

    Returns:
        The result.
    """
    given = _loose_ends(partition, [partition.normal(aligned(one, len(shape))) for one in operands], reason)
    bare = [_unlabelled(one, shape) for one in given]
    for at, one in enumerate(given):
        others = frozenset[int]().union(*(dims for place, dims in enumerate(bare) if place != at))
        given[at] = partition.fix(one, others, reason) if others else one
    classes = _classes(partition, given)
    facets = []
    for members in classes:
        flags: list[bool | None] = [None] * len(given)
        for place, facet in members:
            flags[place] = bool(flags[place]) or facet.zero
        widest = max((facet.core for _, facet in members), key=lambda core: core.size)
        facets.append(Facet(widest, zero(flags), all(facet.loose for _, facet in members)))
    return partition.normal(Labelled(shape, tuple(facets)))


def _loose_ends(partition: Partition, given: list[Labelled], reason: Reason) -> list[Labelled]:
    """What nobody stores does not decide how a split is taken: where it does not fit a split, it is fixed."""
    if partition.looking or not any(facet.loose for one in given for facet in one.facets):
        return given
    held = [along(facet.core) for one in given for facet in one.facets if not facet.loose]
    for one in given:
        for facet in one.facets:
            dims = along(facet.core)
            if facet.loose and any(dims & other and dims != other for other in held):
                partition.freeze(facet.core, reason)
    return [partition.normal(one) for one in given]


def _unlabelled(one: Labelled, shape: Shape) -> frozenset[int]:
    labelled = frozenset[int]().union(*(along(facet.core) for facet in one.facets))
    whole = frozenset(dim for dim, size in enumerate(one.shape) if size == shape[dim] > 1)
    return whole - labelled


def _classes(partition: Partition, given: Sequence[Labelled]) -> list[list[tuple[int, Facet]]]:
    """Facets of all operands that share a dimension, united."""
    classes: list[list[tuple[int, Facet]]] = []
    patterns = _patterns(partition, given)
    for place, one in enumerate(given):
        for facet in one.facets:
            touching = [_meet(partition, facet, members) for members in classes]
            if patterns:
                touching = [
                    meets and patterns[id(members[0][1])] == patterns[id(facet)]
                    for members, meets in zip(classes, touching, strict=True)
                ]
            joined = [one for members, meets in zip(classes, touching, strict=True) if meets for one in members]
            for _, member in joined:
                partition.unite(facet.core, member.core)
            apart = [members for members, meets in zip(classes, touching, strict=True) if not meets]
            classes = [*apart, [*joined, (place, facet)]]
    return classes


def _patterns(partition: Partition, given: Sequence[Labelled]) -> dict[int, bytes]:
    """Which positions share a label, by facet, if this tells apart several along one dimension."""
    several = any(
        along(facet.core) & along(other.core)
        for one in given
        for at, facet in enumerate(one.facets)
        for other in one.facets[at + 1 :]
    )
    if not several:
        return {}
    partition.chosen = True
    found = [{id(facet): _pattern(partition, facet.core) for facet in one.facets} for one in given if one.facets]
    kinds = [sorted(one.values()) for one in found]
    alike = all(one == kinds[0] and len(set(one)) == len(one) for one in kinds)
    return {key: value for one in found for key, value in one.items()} if alike else {}


def _pattern(partition: Partition, core: Numbers) -> bytes:
    seen = partition.seen(core)
    _, first, inverse = np.unique(seen, return_index=True, return_inverse=True)
    return bytes(str(seen.shape), "ascii") + first[inverse].astype(np.int64).tobytes()


def _meet(partition: Partition, facet: Facet, members: Sequence[tuple[int, Facet]]) -> bool:
    """Whether labels share a dimension; while looking, only if they share all."""
    mine = along(facet.core)
    sides = [varies for _, member in members if (varies := along(member.core)) & mine]
    if partition.looking and any(varies != mine for varies in sides):
        partition.chosen = True
        return any(varies == mine for varies in sides)
    return bool(sides)
