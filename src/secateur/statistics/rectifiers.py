"""Rectifiers in a recorded forward pass, and the weights whose output channels each of them reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._ops import OpOverload

from secateur.dependency import Call, Record, Reference, Solution, references, roles, solve
from secateur.dependency.facets import along
from secateur.dependency.record import plain_name
from secateur.dependency.rules.pointwise import is_pointwise
from secateur.dependency.step import words

Given = Mapping[str, Any]


def _zero(value: Any) -> bool:
    return isinstance(value, bool | int | float) and value == 0


def _always(_: Given) -> bool:
    return True


# Operations that may be exactly zero on a half line, and whether they are with these arguments.
RECTIFIERS: Mapping[str, Callable[[Given], bool]] = {
    **dict.fromkeys(("relu", "relu6", "hardswish", "hardsigmoid"), _always),
    "threshold": lambda given: _zero(given["value"]),
    "hardtanh": lambda given: _zero(given.get("min_val")) or _zero(given.get("max_val")),
    **dict.fromkeys(
        ("clamp", "clip", "clamp_min", "clamp_max"), lambda given: _zero(given.get("min")) or _zero(given.get("max"))
    ),
}

# Activations that are zero nowhere, or at single points only.
SMOOTH = words(
    "gelu silu sigmoid tanh leaky_relu elu softplus mish log_sigmoid_forward _prelu_kernel rrelu_with_noise hardtanh "
    "softshrink hardshrink glu"
)


@cache
def _candidate(op: OpOverload[..., Any]) -> tuple[Callable[[Given], bool], tuple[str, ...]] | None:
    fits = RECTIFIERS.get(plain_name(op)) if op.namespace == "aten" else None
    return fits and (fits, tuple(one.name for one in op._schema.arguments))


def is_rectifier(op: OpOverload[..., Any], arguments: tuple[Any, ...], keywords: Given) -> bool:
    """Whether an operation is exactly zero on a half line: on all numbers below a bound, or above one.

    Args:
        op: The operation.
        arguments: Positional.
        keywords: By name.

    Returns:
        Whether it is.

    Example:
        >>> clamp, x = torch.ops.aten.clamp.default, torch.zeros(1)
        >>> is_rectifier(clamp, (x, 0), {}), is_rectifier(clamp, (x, -1, 1), {})
        (True, False)
    """
    found = _candidate(op)
    return found is not None and found[0]({**dict(zip(found[1], arguments, strict=False)), **keywords})


@dataclass(frozen=True)
class Reading:
    """Where a rectifier reads the output channels of a weight.

    Args:
        rectifier: Which of the rectifiers of the pass, from 0.
        dim: Of its result, along which the channels lie.
        positions: For each position along `dim` the unit that lies there; -1: none of this weight.
        units: For each output channel of the weight its unit: itself, unless channels are bound to one another.
    """

    rectifier: int
    dim: int
    positions: Tensor
    units: Tensor


@dataclass(frozen=True)
class Source:
    """A weight that makes output channels.

    Args:
        name: Of the parameter.
        shape: Its sizes.
        dim: Along which its output channels lie.
        groups: Of a transposed convolution, whose output channels lie along `dim` for one group only; else 1.
        readings: By the rectifiers that its outputs come to first.
    """

    name: str
    shape: tuple[int, ...]
    dim: int
    groups: int = 1
    readings: tuple[Reading, ...] = ()

    @property
    def channels(self) -> int:
        """Output channels."""
        return self.groups * self.shape[self.dim]

    def beside(self, values: Tensor) -> Tensor:
        """A value per output channel, in a shape that broadcasts against the weight.

        Args:
            values: `(channels,)`.

        Returns:
            E.g. `(O, 1, 1, 1)`.

        Example:
            >>> Source("conv.weight", (6, 3, 2, 2), 1, groups=1).beside(torch.ones(3)).shape
            torch.Size([1, 3, 1, 1])
        """
        ones = (1,) * (len(self.shape) - self.dim - 1)
        if self.groups == 1:
            return values.reshape((1,) * self.dim + (-1,) + ones)
        inputs, outputs = self.shape[:2]
        each = values.reshape(self.groups, 1, outputs).expand(-1, inputs // self.groups, -1)
        return each.reshape(inputs, outputs, *ones)


@dataclass(frozen=True)
class Rectifiers:
    """The rectifiers of a forward pass.

    Args:
        calls: The calls, in order.
        shapes: Of their results.
        sources: The weights whose output channels a rectifier reads.
        smooth: Names of the other activations that were seen.
    """

    calls: tuple[Call, ...]
    shapes: tuple[tuple[int, ...], ...]
    sources: tuple[Source, ...]
    smooth: tuple[str, ...]


def rectifiers(record: Record) -> Rectifiers:
    """Follow the outputs of every weight along a record to the rectifiers that read them first.

    Labels tell where the channels lie, also behind norms, pooling, residual sums, concatenation and flattening; where
    labels are lost because the channels cannot leave, operations that keep channels in their place are followed.

    Args:
        record: A forward pass.

    Returns:
        The rectifiers, and which weights each of them reads.

    Example:
        >>> from secateur.dependency import record
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1), torch.nn.GELU())
        >>> found = rectifiers(record(net, torch.zeros(1, 2)))
        >>> [(source.name, source.readings[0].rectifier) for source in found.sources], found.smooth
        ([('0.weight', 0)], ('gelu',))
    """
    # What leaves the model is read as well: its size does not matter here.
    walk = _Walk(solve(replace(record, outputs=()), cross_norms=True), record)
    for call in record.calls:
        walk.step(call)
    sources = [replace(source, readings=tuple(walk.readings[number])) for number, source in walk.sources.items()]
    seen = {call.name for call in record.calls if not is_rectifier(call.op, call.arguments, call.keywords)}
    smooth = (name.strip("_").partition("_kernel")[0].partition("_forward")[0] for name in seen & SMOOTH)
    shapes = tuple(record.values[call.results[0] or 0].shape for call in walk.found)
    return Rectifiers(tuple(walk.found), shapes, tuple(one for one in sources if one.readings), tuple(sorted(smooth)))


@dataclass
class _Walk:
    """Which weights' outputs are in a value without a rectifier between, and along which dimension, if that is plain.

    A value knows for each such weight the dimension along which its channels lie one after the other, or None: then
    labels tell.
    """

    solution: Solution
    record: Record
    found: list[Call] = field(default_factory=list)
    sources: dict[int, Source] = field(default_factory=dict)
    readings: dict[int, list[Reading]] = field(default_factory=dict)
    inside: dict[int, dict[int, int | None]] = field(default_factory=dict)
    roots: dict[int, np.ndarray[Any, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        told = roles(self.record)
        for number in self.record.numbers("parameter"):
            value = self.record.values[number]
            dims = [dim for dim in range(len(value.shape)) if told[number, dim] == "out"]
            if len(value.shape) > 1 and len(dims) == 1:
                self.sources[number] = Source(value.names[0], value.shape, dims[0], self._groups(number))
                self.readings[number] = []
                self.inside[number] = {number: dims[0]}
                self.roots[number] = self._find(self.solution.labels(number, dims[0]))

    def _groups(self, number: int) -> int:
        for call in self.record.calls:
            given = call.given
            if given.get("transposed") and given.get("weight") == Reference(number):
                return int(given.get("groups", 1))
        return 1

    def _find(self, labels: Any) -> np.ndarray[Any, Any]:
        return self.solution.partition.labels.find(labels)

    def step(self, call: Call) -> None:
        """Go on by one operation."""
        reads = is_rectifier(call.op, call.arguments, call.keywords)
        for result in call.results:
            if result is not None:
                carried = self._carried(call, result)
                if not reads:
                    self.inside[result] = carried
                for number, dim in carried.items() if reads else ():
                    self.readings[number].append(self._reading(number, result, dim))
        if reads:
            self.found.append(call)

    def _carried(self, call: Call, result: int) -> dict[int, int | None]:
        carried: dict[int, int | None] = {}
        for taken in dict.fromkeys(references(call)):
            for number, dim in self.inside.get(taken, {}).items():
                plain = None if dim is None else _plainly(self.record, call, taken, result, dim)
                if plain is not None:
                    carried[number] = plain
                elif number not in carried and self._labelled(number, result) is not None:
                    carried[number] = None
        return carried

    def _labelled(self, number: int, result: int) -> tuple[int, np.ndarray[Any, Any]] | None:
        """Along which dimension labels of a weight's channels lie in a value, and the labels there."""
        for facet in self.solution.values[result].facets:
            dims, there = along(facet.core), self._find(facet.core.ravel())
            if len(dims) == 1 and np.isin(self.roots[number], there).any():
                return next(iter(dims)), there
        return None

    def _reading(self, number: int, result: int, dim: int | None) -> Reading:
        if dim is not None:
            channels = torch.arange(self.sources[number].channels)
            return Reading(len(self.found), dim, channels, channels)
        labelled = self._labelled(number, result)  # there are some, or nothing would have been carried here
        dim, there = labelled or (0, np.empty(0, np.int64))
        kinds, units = np.unique(self.roots[number], return_inverse=True)
        at = np.minimum(np.searchsorted(kinds, there), len(kinds) - 1)
        positions = np.where(kinds[at] == there, at, -1)
        units = np.tile(units, self.sources[number].groups)
        return Reading(len(self.found), dim, torch.from_numpy(positions), torch.from_numpy(units))


# Operations that keep every channel where it is, beside those that compute position by position.
KEEPS = ("norm", "pool", "upsample", "dropout", "_pad")
MOVES = words("clone alias detach contiguous _to_copy view _unsafe_view reshape squeeze unsqueeze expand")
LAST = words("mat2 batch2")


def _plainly(record: Record, call: Call, taken: int, result: int, dim: int) -> int | None:
    """Where channels that lie along a dimension lie after an operation, if they are still one after the other."""
    before, after = record.values[taken].shape, record.values[result].shape
    if call.name in ("t", "transpose", "permute"):
        return _turned(call, before, dim)
    names = [name for name, value in call.given.items() if value == Reference(taken)]
    if not names:  # one of a list, such as what is concatenated
        return None
    computed = _computed(call, names[0], before, after, dim)
    if computed is not None:
        return computed if computed >= 0 else None
    if is_pointwise(call.op):
        there = dim + len(after) - len(before)
        return there if after[there] == before[dim] else None
    if any(part in call.name for part in KEEPS):
        return dim if len(after) == len(before) and after[dim] == before[dim] else None
    return _viewed(before, after, dim) if call.name in MOVES else None


def _turned(call: Call, before: tuple[int, ...], dim: int) -> int:
    given, order = call.given, list(range(len(before)))
    if call.name == "permute":
        return [one % len(before) for one in given["dims"]].index(dim)
    if len(order) > 1:
        one, other = given.get("dim0", 0), given.get("dim1", 1)
        order[one], order[other] = order[other], order[one]
    return order.index(dim)


def _computed(call: Call, name: str, before: tuple[int, ...], after: tuple[int, ...], dim: int) -> int | None:
    """Where a layer puts the channels of its weight; -1: it sums over them; None: it is no layer."""
    last = len(after) - 1
    if call.name == "convolution":
        return (1 if dim == (1 if call.given.get("transposed") else 0) else -1) if name == "weight" else -1
    if call.name in ("mm", "bmm", "addmm", "baddbmm"):
        if name in LAST:
            return last if dim == len(before) - 1 else -1
        if name == "self" and call.name.startswith(("addmm", "baddbmm")):
            return last if before[dim] == after[last] and dim == len(before) - 1 else -1
        return last - 1 if dim == len(before) - 2 else -1
    if call.name == "embedding":
        return last if dim == 1 else -1
    return None


def _viewed(before: tuple[int, ...], after: tuple[int, ...], dim: int) -> int | None:
    """A view leaves channels in their order if it leaves all sizes from there to the end, or up to there."""
    behind = before[dim:]
    if len(behind) <= len(after) and after[len(after) - len(behind) :] == behind:
        return len(after) - len(behind)
    return dim if after[: dim + 1] == before[: dim + 1] else None


def counted_dims(found: Rectifiers) -> Iterator[tuple[int, int]]:
    """Along which dimensions of which rectifiers' results channels lie.

    Args:
        found: The rectifiers of a pass.

    Yields:
        Rectifier and dimension, each pair once.
    """
    yield from dict.fromkeys((one.rectifier, one.dim) for source in found.sources for one in source.readings)
