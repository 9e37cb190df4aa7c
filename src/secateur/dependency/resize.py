"""A record with slices taken out: the sizes of all values, and the same operations with the numbers they need then."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from secateur.dependency.facets import along
from secateur.dependency.labels import Numbers
from secateur.dependency.record import Call, Record, Value
from secateur.dependency.roles import roles
from secateur.dependency.solver import Solution

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cut:
    """Labels that leave.

    Args:
        solution: Which slices carry which label.
        removed: The sets that leave, by the labels that stand for them.
    """

    solution: Solution
    removed: Numbers

    @cached_property
    def _gone(self) -> NDArray[np.bool_]:
        gone = np.zeros(len(self.solution.partition.labels) + 1, np.bool_)  # the last one answers for what is fixed
        gone[self.removed] = True
        return gone

    @cached_property
    def _roles(self) -> dict[tuple[int, int], str]:
        return roles(self.solution.record)

    def kept(self, number: int, dim: int) -> NDArray[np.bool_] | None:
        """Which positions of a value stay along a dimension.

        Args:
            number: Of the value.
            dim: The dimension.

        Returns:
            One bool for each position; None if all stay.
        """
        if (number, dim) not in self._known:
            self._known[number, dim] = self._kept(number, dim)
        return self._known[number, dim]

    @cached_property
    def _known(self) -> dict[tuple[int, int], NDArray[np.bool_] | None]:
        return {}

    def _kept(self, number: int, dim: int) -> NDArray[np.bool_] | None:
        found = None
        for facet in self.solution.values[number].facets:
            if along(facet.core) == {dim}:
                stays = ~self._gone[self.solution.partition.seen(facet.core).ravel()]
                found = stays if found is None else found & stays
        return None if found is None or found.all() else found

    def shape(self, number: int) -> Shape:
        """The sizes of a value.

        Args:
            number: Of the value.

        Returns:
            The shape after the cut.
        """
        value = self.solution.record.values[number]
        sizes = list(value.shape)
        for dim in range(len(sizes)):
            kept = self.kept(number, dim)
            if kept is not None:
                sizes[dim] = int(kept.sum())
        return tuple(sizes)

    def sliced(self, number: int, tensor: Tensor) -> Tensor:
        """A parameter or buffer without what leaves.

        Args:
            number: Of the value.
            tensor: Its values.

        Returns:
            A new tensor, or the same if nothing leaves.
        """
        for dim, kept in self._cut_along(number):
            tensor = tensor.index_select(dim, _where(kept, tensor))
        if number not in self._ratios:
            return tensor
        offset = next(norm.offset for norm in self.solution.lifted if norm.weight == number)
        return (tensor + offset) * math.sqrt(self._ratios[number]) - offset

    @cached_property
    def _ratios(self) -> dict[int, float]:
        """Positions before over positions after, of the weights of norms by root mean squares that lose some."""
        values, weights = self.solution.record.values, {norm.weight for norm in self.solution.lifted}
        return {one: values[one].shape[0] / self.shape(one)[0] for one in weights if self.kept(one, 0) is not None}

    @cached_property
    def _shifts(self) -> dict[int, float]:
        """What an eps grows by, by the number of the value that it has been added to."""
        lifted = self.solution.lifted
        return {norm.shifted: self._ratios[norm.weight] for norm in lifted if norm.weight in self._ratios}

    @cached_property
    def lifted(self) -> frozenset[int]:
        """Numbers of the means that are made up for."""
        return frozenset(norm.mean for norm in self.solution.lifted)

    def masked(self, number: int, tensor: Tensor) -> Tensor:
        """A parameter with zeros in place of what leaves.

        Args:
            number: Of the value.
            tensor: Its values.

        Returns:
            A new tensor, or the same if nothing leaves.
        """
        for dim, kept in self._cut_along(number):
            if self._roles[number, dim] != "direction":  # a direction of length 0 has no value
                tensor = tensor.index_fill(dim, _where(~kept, tensor), 0)
        return tensor

    def _cut_along(self, number: int) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """The dimensions that lose something, and what stays there."""
        for dim in range(len(self.solution.record.values[number].shape)):
            if (kept := self.kept(number, dim)) is not None:
                yield dim, kept

    def record(self) -> Record:
        """The record as it would have been written for the smaller model.

        Returns:
            The same operations with other sizes.
        """
        values = tuple(
            Value(self.shape(number), value.dtype, value.source, value.names)
            for number, value in enumerate(self.solution.record.values)
        )
        calls = tuple(self.call(call) for call in self.solution.record.calls)
        return replace(self.solution.record, values=values, calls=calls)

    def call(self, call: Call) -> Call:
        """An operation with the numbers that it needs after the cut.

        Args:
            call: The operation.

        Returns:
            The same operation.
        """
        grows = self._shifts.get(call.results[0] or -1) if call.results else None
        change = _CHANGES.get(call.name) if grows is None else _grown(grows)
        if change is None:
            return call
        names = [one.name for one in call.op._schema.arguments]
        new = call.given | dict(change(self, call, call.given))
        count = len(call.arguments)
        return replace(
            call,
            arguments=tuple(new[key] for key in names[:count]),
            keywords={key: value for key, value in new.items() if key not in names[:count]},
        )

    def before(self, number: int, dim: int, position: int) -> int:
        """How many positions stay among the first.

        Args:
            number: Of a value.
            dim: The dimension.
            position: So many positions.

        Returns:
            The number.
        """
        kept = self.kept(number, dim)
        return position if kept is None else int(kept[:position].sum())


def _where(mask: NDArray[np.bool_], tensor: Tensor) -> Tensor:
    """Positions of a mask, where a tensor is."""
    return torch.from_numpy(np.flatnonzero(mask)).to(tensor.device)


Change = Callable[[Cut, Call, Mapping[str, Any]], Mapping[str, Any]]


def _grown(ratio: float) -> Change:
    """A number that is added, larger."""
    return lambda _, __, given: {"other": given["other"] * ratio}


def _result(name: str) -> Change:
    """An argument that is the shape of the result."""

    def change(cut: Cut, call: Call, _: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name: list(_shape(cut, call.results[0]))}

    return change


def _strided(cut: Cut, call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Strides in the same order as before; the sizes are those of the source."""
    shape, old = _shape(cut, call.results[0]), given["stride"]
    strides, step = [0] * len(shape), 1
    for dim in sorted(range(len(shape)), key=lambda dim: (old[dim], -dim)):
        strides[dim], step = step, step * shape[dim]
    return {"size": list(shape), "stride": strides} if shape != tuple(given["size"]) else {}


def _shape(cut: Cut, number: int | None) -> Shape:
    return () if number is None else cut.shape(number)


def _slice(cut: Cut, _: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    number = given["self"].number
    size = cut.solution.record.values[number].shape
    dim = given.get("dim", 0) % len(size)
    if given.get("step", 1) != 1 or cut.kept(number, dim) is None:
        return {}
    start, end = slice(given.get("start"), given.get("end")).indices(size[dim])[:2]
    return {"dim": dim, "start": cut.before(number, dim, start), "end": cut.before(number, dim, end)}


def _split(cut: Cut, call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    dim = given.get("dim", 0)
    sizes = [_shape(cut, number)[dim] for number in call.results]
    if "split_sizes" in given:
        return {"split_sizes": sizes}
    return {"split_size": sizes if isinstance(given["split_size"], list | tuple) else sizes[0]}


def _repeat(cut: Cut, call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    old = cut.solution.record.values[given["self"].number].shape
    new = _shape(cut, call.results[0])
    padded = (1,) * (len(new) - len(old)) + old
    return {"repeats": [new[at] if padded[at] == 1 else count for at, count in enumerate(given["repeats"])]}


def _groups(cut: Cut, call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    if given["groups"] == 1:
        return {}
    weight = cut.shape(given["weight"].number)
    if given.get("transposed"):
        axis = len(_shape(cut, call.results[0])) - len(weight) + 1
        return {"groups": _shape(cut, call.results[0])[axis] // weight[1]}
    given_shape = cut.shape(given["input"].number)
    return {"groups": given_shape[len(given_shape) - len(weight) + 1] // weight[1]}


def _normalized(cut: Cut, _: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"normalized_shape": list(cut.shape(given["input"].number)[-len(given["normalized_shape"]) :])}


def _group_norm(cut: Cut, _: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    number = given["input"].number
    kept = cut.kept(number, 1)
    groups = given["group"] if kept is None else int(kept.reshape(given["group"], -1).any(1).sum())
    return {"C": cut.shape(number)[1], "group": groups}


_CHANGES: dict[str, Change] = {
    **dict.fromkeys(("view", "_unsafe_view", "expand"), _result("size")),
    "reshape": _result("shape"),
    **dict.fromkeys(
        ("empty", "zeros", "ones", "full", "rand", "randn", "new_empty", "new_zeros", "new_ones", "new_full"),
        _result("size"),
    ),
    "as_strided": _strided,
    "slice": _slice,
    **dict.fromkeys(("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes"), _split),
    "repeat": _repeat,
    "convolution": _groups,
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm", "rms_norm"), _normalized),
    "native_group_norm": _group_norm,
}
