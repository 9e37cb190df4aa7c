"""Which arguments of torch's functions are sizes, bounds and counts of groups, and of which tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from secateur.dependency.record import SizeKind

# Kind, tensor, dimension (negative: from the end), the integer; what is no integer is skipped by who reads this.
Noted = tuple[SizeKind, Tensor, int, Any]


@dataclass(frozen=True)
class Given:
    """Arguments of a call.

    Args:
        args: By position.
        kwargs: By name.
    """

    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    def one(self, at: int, *names: str) -> Any:
        """An argument by position or one of its names; None if it is not there."""
        for name in names:
            if name in self.kwargs:
                return self.kwargs[name]
        return self.args[at] if at < len(self.args) else None

    def many(self, at: int, *names: str) -> Sequence[Any]:
        """A shape: by name, or by position as a sequence, or from there on integer by integer."""
        for name in names:
            if name in self.kwargs:
                found = self.kwargs[name]
                return found if isinstance(found, list | tuple) else (found,)
        rest = self.args[at:]
        return rest[0] if rest and isinstance(rest[0], list | tuple) else rest

    @property
    def source(self) -> Any:
        """The tensor that the call is about."""
        return self.one(0, "input", "self", "tensor")


Rule = Callable[[Given, Any], Iterator[Noted]]


def result_shape(at: int, *names: str) -> Rule:
    """For a function that is given the shape of its result.

    Args:
        at: Position of the shape.
        *names: Its names.

    Returns:
        The rule.
    """

    def rule(given: Given, result: Any) -> Iterator[Noted]:
        for dim, size in enumerate(given.many(at, *names)):
            yield "size", result, dim, size

    return rule


def _shape_among(given: Given, result: Any) -> Iterator[Noted]:
    """A shape after limits of which there may be one or two, as in `randint`."""
    shapes = [one for one in (given.kwargs.get("size"), *given.args) if isinstance(one, list | tuple)]
    for dim, size in enumerate(shapes[0] if shapes else ()):
        yield "size", result, dim, size


def _repeat(given: Given, result: Any) -> Iterator[Noted]:
    repeats = given.many(1, "repeats", "dims")
    for at, times in enumerate(repeats):
        yield "repeat", result, at - len(repeats), times


def _repeat_interleave(given: Given, result: Any) -> Iterator[Noted]:
    dim = given.one(2, "dim")
    if dim is not None:
        yield "repeat", result, dim, given.one(1, "repeats")


def _unflatten(given: Given, result: Any) -> Iterator[Noted]:
    dim, sizes = given.one(1, "dim"), given.many(2, "sizes")
    if isinstance(dim, int):
        for at, size in enumerate(sizes):
            yield "size", result, dim % given.source.dim() + at, size


def _split(given: Given, result: Any) -> Iterator[Noted]:
    sizes = given.one(1, "split_size_or_sections", "split_size", "split_sizes")
    for at, piece in enumerate(result):
        yield "size", piece, given.one(2, "dim") or 0, sizes[at] if isinstance(sizes, list | tuple) else sizes


def _tensor_split(given: Given, result: Any) -> Iterator[Noted]:
    bounds = given.one(1, "indices_or_sections", "indices", "sections")
    if isinstance(bounds, list | tuple):
        sizes = [*bounds[:1], *(stop - start for start, stop in pairwise(bounds))]
        for piece, size in zip(result, sizes, strict=False):
            yield "size", piece, given.one(2, "dim") or 0, size


def _narrow(given: Given, result: Any) -> Iterator[Noted]:
    dim = given.one(1, "dim")
    yield "start", given.source, dim, given.one(2, "start")
    yield "size", result, dim, given.one(3, "length")


def _select(given: Given, _: Any) -> Iterator[Noted]:
    yield "index", given.source, given.one(1, "dim"), given.one(2, "index")


def _normalized(given: Given, _: Any) -> Iterator[Noted]:
    sizes = given.many(1, "normalized_shape")
    for at, size in enumerate(sizes):
        yield "size", given.source, at - len(sizes), size


def _interpolate(given: Given, result: Any) -> Iterator[Noted]:
    size = given.one(1, "size")
    sizes = size if isinstance(size, list | tuple) else [size] * (result.dim() - 2)
    for at, one in enumerate(sizes):
        yield "size", result, 2 + at, one


def _one_hot(given: Given, result: Any) -> Iterator[Noted]:
    yield "size", result, -1, given.one(1, "num_classes")


def _arange(given: Given, result: Any) -> Iterator[Noted]:
    if len(given.args) <= 1 and not {"start", "step"} & set(given.kwargs):
        yield "size", result, 0, given.one(0, "end")


def _eye(given: Given, result: Any) -> Iterator[Noted]:
    rows, columns = given.one(0, "n"), given.one(1, "m")
    yield "size", result, 0, rows
    yield "size", result, 1, rows if columns is None else columns


def _groups(name: str) -> Rule:
    def rule(given: Given, _: Any) -> Iterator[Noted]:
        yield "groups", given.source, 1, given.one(1, name)

    return rule


def _convolution_groups(at: int) -> Rule:
    def rule(given: Given, _: Any) -> Iterator[Noted]:
        batched = given.source.dim() == given.one(1, "weight").dim()
        yield "groups", given.source, int(batched), given.one(at, "groups")

    return rule


def _attention(given: Given, _: Any) -> Iterator[Noted]:
    """The function behind `nn.MultiheadAttention`, within which no integer is seen."""
    yield "size", given.one(0, "query"), -1, given.one(3, "embed_dim_to_check")
    yield "heads", given.one(11, "out_proj_weight"), 1, given.one(4, "num_heads")


def _index(given: Given, _: Any) -> Iterator[Noted]:
    """Along the dimensions of what is indexed; new ones and masks of several dimensions count for what they are."""
    source, index = given.args[0], given.args[1]
    if isinstance(index, list) and not all(isinstance(one, int) for one in index):
        return  # torch may take it for a tuple
    items = index if isinstance(index, tuple) else (index,)
    dim = 0
    for item in items:
        if item is Ellipsis:
            dim = source.dim() - sum(map(_consumed, items)) + dim
        elif isinstance(item, slice):
            yield "start", source, dim, item.start
            yield "stop", source, dim, item.stop
            if item.step not in (None, 1):
                yield "step", source, dim, item.step
        elif _consumed(item) and isinstance(item, Integral):
            yield "index", source, dim, item
        dim += _consumed(item)


def _consumed(item: Any) -> int:
    """How many dimensions of the source an item of an index stands for."""
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    if str(getattr(item, "dtype", "")).removeprefix("torch.") in ("bool", "uint8"):
        return int(item.ndim)
    depth = 0
    while isinstance(item, list | tuple) and item:
        item, depth = item[0], depth + 1
    return depth if isinstance(item, bool) else 1


def _of_functions(rules: Mapping[str, Rule], *owners: Any) -> dict[Any, Rule]:
    return {getattr(owner, name): rule for name, rule in rules.items() for owner in owners if hasattr(owner, name)}


FACTORIES = ("zeros", "ones", "empty", "rand", "randn")
CONVOLUTIONS = tuple(f"conv{transposed}{n}d" for transposed in ("", "_transpose") for n in (1, 2, 3))

RULES: Mapping[Any, Rule] = _of_functions(
    {
        **dict.fromkeys(("view", "expand"), result_shape(1, "size")),
        "reshape": result_shape(1, "shape"),
        "broadcast_to": result_shape(1, "size", "shape"),
        **dict.fromkeys(("repeat", "tile"), _repeat),
        "repeat_interleave": _repeat_interleave,
        "unflatten": _unflatten,
        **dict.fromkeys(("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes"), _split),
        "tensor_split": _tensor_split,
        **dict.fromkeys(("narrow", "narrow_copy"), _narrow),
        "select": _select,
        **{name: result_shape(0, "size") for name in (*FACTORIES, "empty_strided", "full")},
        **{f"new_{name}": result_shape(1, "size") for name in ("zeros", "ones", "empty", "empty_strided", "full")},
        **dict.fromkeys(("randint", "normal"), _shape_among),
        "arange": _arange,
        "eye": _eye,
        "one_hot": _one_hot,
        **dict.fromkeys(("layer_norm", "rms_norm"), _normalized),
        "interpolate": _interpolate,
        **dict.fromkeys(CONVOLUTIONS, _convolution_groups(6)),
        "convolution": _convolution_groups(8),
        "group_norm": _groups("num_groups"),
        "channel_shuffle": _groups("groups"),
        "multi_head_attention_forward": _attention,
        "__getitem__": _index,
        "__setitem__": _index,
    },
    Tensor,
    torch,
    functional,
)
