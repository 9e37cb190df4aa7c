"""Operations that only move positions: the labels are moved in the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np

from secateur.dependency.facets import Labelled, Shape, aligned, along, permuted, reshaped
from secateur.dependency.labels import Numbers
from secateur.dependency.step import Rule, Step, for_each

UNEQUAL = "it is split into pieces of unequal size by a number"
BY_NUMBER = "a position is taken by its number"


def _view(step: Step) -> Labelled:
    """Where dimensions are joined, what nobody stores gives way to what somebody does."""
    found = reshaped(step["self"], step.shape)
    held = [along(one.core) for one in found.facets if not one.loose]
    kept = []
    for facet in found.facets:
        if facet.loose and any(along(facet.core) & dims for dims in held):
            step.fix(Labelled(found.shape, (facet,)), range(len(found.shape)), "it is joined with another dimension")
        else:
            kept.append(facet)
    return Labelled(found.shape, tuple(kept))


def _permute(step: Step) -> Labelled:
    given: Labelled = step["self"]
    return permuted(given, [dim % max(1, len(given.shape)) for dim in step["dims"]])


def _transpose(step: Step) -> Labelled:
    given: Labelled = step["self"]
    order = list(range(len(given.shape)))
    if order:
        one, other = step.get("dim0", 0), step.get("dim1", min(1, len(order) - 1))
        order[one], order[other] = order[other], order[one]
    return permuted(given, order)


def _expand(step: Step) -> Labelled:
    """A dimension that comes about by repeating carries new labels, like a parameter that nobody stores."""
    given = aligned(step["self"], len(step.shape))
    new = [dim for dim, size in enumerate(given.shape) if size == 1 < step.shape[dim]]
    return Labelled(step.shape, given.facets + step.partition.fresh(step.shape, new, loose=True).facets)


def _repeat(step: Step) -> Labelled:
    given = aligned(step["self"], len(step.shape))
    new = [dim for dim, size in enumerate(given.shape) if size == 1 < step.shape[dim]]
    tiled = _each(given, step.shape, lambda core: _tiled(core, step["repeats"]))
    return Labelled(step.shape, tiled.facets + step.partition.fresh(step.shape, new, loose=True).facets)


def _tiled(core: Numbers, repeats: Sequence[int]) -> Numbers:
    return np.tile(core, [count if size > 1 else 1 for count, size in zip(repeats, core.shape, strict=True)])


def _slice(step: Step) -> Labelled:
    given: Labelled = step["self"]
    dim, stride = step["dim"] % len(given.shape), step["step"]
    if stride != 1:
        given = _neighbours(step, given, dim, stride)
    part = slice(step["start"], step["end"], stride)
    return _each(given, step.shape, lambda core: core if core.shape[dim] == 1 else core[_at(dim, part)])


def _neighbours(step: Step, given: Labelled, dim: int, stride: int) -> Labelled:
    """Every block of `stride` neighbours leaves together, so that a slice by `stride` needs no change."""
    size = given.shape[dim]
    if size % stride:
        return step.fix(given, [dim], "it is cut by a stride that does not divide it")
    blocks = reshaped(given, (*given.shape[:dim], size // stride, stride, *given.shape[dim + 1 :]))
    return reshaped(step.fix(blocks, [dim + 1], "neighbours are taken apart by a stride"), given.shape)


def _select(step: Step) -> Labelled:
    """One position; if the code drops it, perhaps after reading its shape, any other does as well."""
    given: Labelled = step["self"]
    dim = step["dim"] % len(given.shape)
    if not step.needed and step["index"] in (0, -1):  # there always is a first and a last one
        left = tuple(facet for facet in given.facets if dim not in along(facet.core))
        return _without(Labelled(given.shape, left), dim, step.shape)
    return _without(step.fix(given, [dim], BY_NUMBER), dim, step.shape)


def _unbind(step: Step) -> list[Labelled]:
    dim = step["dim"]
    given = step.fix(step["self"], [dim], "it is taken apart one by one")
    return [_without(given, dim % len(given.shape), shape or ()) for shape in step.shapes]


def _split(step: Step) -> list[Labelled]:
    """Pieces of equal size stay of equal size: what is at the same place leaves together."""
    given: Labelled = step["self"]
    dim = step["dim"] % len(given.shape)
    shapes = [shape or () for shape in step.shapes]
    sizes = {shape[dim] for shape in shapes}
    by_number = "split_size" in step.arguments and not isinstance(step["split_size"], list | tuple)
    if len(sizes) > 1 and by_number:
        given = step.fix(given, [dim], UNEQUAL)
    ends = list(accumulate((shape[dim] for shape in shapes), initial=0))
    pieces = [
        _each(given, shape, lambda core, start=start, end=end: _cut(core, dim, start, end))  # type: ignore[misc]
        for shape, (start, end) in zip(shapes, pairwise(ends), strict=True)
    ]
    if len(sizes) == 1 and len(pieces) > 1:
        _alike(step, given, pieces, dim)
    return pieces


def _alike(step: Step, given: Labelled, pieces: Sequence[Labelled], dim: int) -> None:
    """Unite pieces place by place; where they also vary elsewhere this is decided together with that."""
    shape = given.shape
    stacked = reshaped(given, (*shape[:dim], len(pieces), shape[dim] // len(pieces), *shape[dim + 1 :]))
    step.fix(stacked, [dim], "it is split into equal pieces")


def _cut(core: Numbers, dim: int, start: int, end: int) -> Numbers:
    return core if core.shape[dim] == 1 else core[_at(dim, slice(start, end))]


def _squeeze(step: Step) -> Labelled:
    return reshaped(step["self"], step.shape)


def _pad(step: Step) -> Labelled:
    """What is added has no labels, so it stays; cutting off is a slice by a number."""
    given: Labelled = step["self"]
    pairs = list(zip(step["pad"][::2], step["pad"][1::2], strict=True))
    sides = {len(given.shape) - 1 - place: pair for place, pair in enumerate(pairs) if any(pair)}
    given = step.fix(given, [dim for dim, pair in sides.items() if min(pair) < 0], "a part of it is cut off")
    zero = step["value"] == 0
    facets = []
    for one in given.facets:
        widths = [sides.get(dim, (0, 0)) if size > 1 else (0, 0) for dim, size in enumerate(one.core.shape)]
        constant = step.partition.fixed(step.reason("it is added at the side"))
        core = np.pad(one.core, widths, constant_values=constant) if any(map(any, widths)) else one.core
        facets.append(replace(one, core=core, zero=one.zero and zero))
    return Labelled(step.shape, tuple(facets))


def _fixed_along(name: str, text: str) -> Rule:
    """Moves that count positions along their dimensions."""

    def rule(step: Step) -> Labelled:
        given: Labelled = step["self"]
        dims = step[name]
        dims = dims if isinstance(dims, list | tuple) else [dims]
        return Labelled(step.shape, step.fix(given, dims or range(len(given.shape)), text).facets)

    return rule


def _unfold(step: Step) -> Labelled:
    given = step.fix(step["self"], [step["dimension"]], "windows are taken along it")
    facets = tuple(replace(one, core=one.core[..., None]) for one in given.facets)
    return Labelled(step.shape, facets)


def _strided(step: Step) -> Labelled:
    given: Labelled = step["self"]
    if tuple(given.shape) == step.shape:
        return given
    step.fix(given, range(len(given.shape)), "it is laid out anew by strides")
    return Labelled(step.shape)


def _same(step: Step) -> list[Labelled]:
    return [step["self"] for _ in step.shapes]


def _shuffled(step: Step) -> Labelled:
    """Channels of each group, taken in turn."""
    given: Labelled = step["self"]
    groups, channels = step["groups"], given.shape[1]
    cut = reshaped(given, (given.shape[0], groups, channels // groups, *given.shape[2:]))
    order = [0, 2, 1, *range(3, len(cut.shape))]
    return reshaped(permuted(step.fix(cut, [1], "groups are shuffled", choice=True), order), step.shape)


def _pixels_out(step: Step) -> Labelled:
    """The factor's channels become space."""
    given, factor = step["self"], step["upscale_factor"]
    *front, channels, height, width = given.shape
    cut = reshaped(given, (*front, channels // factor**2, factor, factor, height, width))
    at = len(front)
    cut = step.fix(cut, [at + 1, at + 2], "its channels become pixels")
    return reshaped(permuted(cut, [*range(at + 1), at + 3, at + 1, at + 4, at + 2]), step.shape)


def _pixels_in(step: Step) -> Labelled:
    given, factor = step["self"], step["downscale_factor"]
    *front, channels, height, width = given.shape
    cut = reshaped(given, (*front, channels, height // factor, factor, width // factor, factor))
    at = len(front)
    return reshaped(permuted(cut, [*range(at + 1), at + 2, at + 4, at + 1, at + 3]), step.shape)


def _halves(step: Step) -> Labelled:
    """The first half times the sigmoid of the second."""
    given: Labelled = step["self"]
    dim = step["dim"] % len(given.shape)
    size = given.shape[dim] // 2
    cut = reshaped(given, (*given.shape[:dim], 2, size, *given.shape[dim + 1 :]))
    return _without(step.fix(cut, [dim], "half of it gates the other"), dim, step.shape)


def _each(given: Labelled, shape: Shape, move: Callable[[Numbers], Numbers]) -> Labelled:
    return Labelled(shape, tuple(replace(one, core=move(one.core)) for one in given.facets))


def _without(given: Labelled, dim: int, shape: Shape) -> Labelled:
    """A dimension along which nothing varies any more is left out."""
    facets = [replace(one, core=one.core.squeeze(dim)) for one in given.facets if dim not in along(one.core)]
    return Labelled(shape, tuple(facets))


def _at(dim: int, part: slice) -> tuple[slice, ...]:
    return (slice(None),) * dim + (part,)


RULES: dict[str, Rule] = {
    **for_each("view reshape _unsafe_view flatten unflatten view_as _reshape_alias", _view),
    "permute": _permute,
    **for_each("transpose t swapaxes swapdims", _transpose),
    "expand": _expand,
    "repeat": _repeat,
    "slice": _slice,
    "select": _select,
    "unbind": _unbind,
    **for_each("split split_with_sizes unsafe_split unsafe_split_with_sizes chunk unsafe_chunk", _split),
    **for_each("squeeze unsqueeze", _squeeze),
    "constant_pad_nd": _pad,
    "roll": _fixed_along("dims", "it is rolled"),
    "flip": _fixed_along("dims", "it is flipped"),
    "unfold": _unfold,
    "as_strided": _strided,
    **for_each("channel_shuffle native_channel_shuffle", _shuffled),
    "pixel_shuffle": _pixels_out,
    "pixel_unshuffle": _pixels_in,
    "glu": _halves,
    **for_each("clone alias detach contiguous lift_fresh _to_copy to positive", _same),
}
