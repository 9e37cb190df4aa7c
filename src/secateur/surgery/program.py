"""A forward pass as a program: its operations, and which of their integers go with the size of the batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map_only

from secateur.dependency import Call, Cut, Record, Solution, record, tensors_in
from secateur.dependency.facets import Labelled
from secateur.dependency.partition import Partition
from secateur.errors import ModelError


class Place(NamedTuple):
    """An integer among the arguments of an operation: which call, which argument, which leaf of it."""

    call: int
    argument: str
    leaf: int


class Follows(NamedTuple):
    """An integer that is `times * batch + plus`."""

    times: int
    plus: int


@dataclass(frozen=True)
class Program:
    """A record, and what is known of other sizes of the batch.

    Args:
        record: A forward pass in eval mode.
        example: The inputs it was made with.
        batch: Length of the example's first tensor.
        follows: The integers that go with it; None if the operations go with it in another way.
    """

    record: Record
    example: Any
    batch: int
    follows: Mapping[Place, Follows] | None


def program(model: nn.Module, example: Any) -> Program:
    """Record a model, three times with batches of different sizes.

    Args:
        model: Any module.
        example: Inputs of a batch, as the model takes them.

    Returns:
        Its program.

    Raises:
        ModelError: The model fails on the example.

    Example:
        >>> class Flat(nn.Module):
        ...     def forward(self, x):
        ...         return x.view(x.shape[0] * 2, 3)
        >>> found = program(Flat(), torch.zeros(5, 6))
        >>> [(place.argument, place.leaf, follows) for place, follows in found.follows.items()]
        [('size', 0, Follows(times=2, plus=0))]
    """
    found = record(model, example, compute=True)
    batch = next((len(one) for one in tensors_in(example) if one.ndim), 0)
    follows = None
    with suppress(ModelError):  # another size of the batch is none that the model takes
        others = [record(model, longer(example, batch, more), compute=True) for more in (1, 2)]
        follows = _compared(batch, [found, *others])
    return Program(found, example, batch, follows)


def longer(example: Any, batch: int, more: int) -> Any:
    """Inputs with the first sample repeated at the end.

    Args:
        example: Inputs of a batch.
        batch: How many samples they are; tensors of other lengths stay.
        more: How often.

    Returns:
        Inputs.
    """

    def repeated(one: Tensor) -> Tensor:
        return torch.cat([one, *[one[:1]] * more]) if one.ndim and len(one) == batch > 0 else one

    return tree_map_only(Tensor, repeated, example)


def _compared(batch: int, records: list[Record]) -> dict[Place, Follows] | None:
    """The integers that differ by the same from batch to batch; None where anything else differs."""
    first = records[0]
    if any(not _alike(first, other) for other in records[1:]):
        return None
    found: dict[Place, Follows] = {}
    for at, calls in enumerate(zip(*map(_written_out, records), strict=True)):
        named = [call.given for call in calls]
        for name in named[0]:
            leaves = [tree_flatten(one.get(name)) for one in named]
            if any(spec != leaves[0][1] for _, spec in leaves):
                return None
            for leaf, (one, two, three) in enumerate(zip(*(values for values, _ in leaves), strict=True)):
                if _same(one, two) and _same(one, three):
                    continue
                if not all(type(value) is int for value in (one, two, three)) or two - one != three - two:
                    return None
                found[Place(at, name, leaf)] = Follows(two - one, one - (two - one) * batch)
    return found


def _alike(one: Record, other: Record) -> bool:
    """Whether two records have the same operations on the same values."""
    if [(call.op, call.results) for call in one.calls] != [(call.op, call.results) for call in other.calls]:
        return False
    if one.outputs != other.outputs or one.constants.keys() != other.constants.keys():
        return False
    return all(_same(constant, other.constants[number]) for number, constant in one.constants.items())


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        alike = isinstance(other, Tensor) and one.shape == other.shape and one.dtype == other.dtype
        return alike and (one.is_meta or bool(one.equal(other)))
    return type(one) is type(other) and bool(one == other or (one != one and other != other))  # noqa: PLR0124  nan


def _written_out(found: Record) -> Iterator[Call]:
    """The operations with all sizes as numbers, none of them -1."""
    values = tuple(Labelled(value.shape) for value in found.values)
    whole = Cut(Solution(found, Partition(), values, {}), np.empty(0, np.int64))
    return map(whole.call, found.calls)


def resized(made: Program, cut: Cut) -> tuple[tuple[Call, ...], Mapping[Place, Follows] | None]:
    """The operations after a cut, and which integers then go with the size of the batch.

    Args:
        made: The program.
        cut: Of its record.

    Returns:
        The operations in order, and the integers; None for these if the sizes only hold for the example's batch.
    """
    calls = tuple(map(cut.call, made.record.calls))
    if made.follows is None:
        return calls, None
    found: dict[Place, Follows] = {}
    for place, (times, plus) in made.follows.items():
        new = tree_flatten(calls[place.call].given.get(place.argument))[0][place.leaf]
        if new == times * made.batch + plus:
            found[place] = Follows(times, plus)
        elif plus == 0 and new % made.batch == 0:  # batch and channels in one dimension
            found[place] = Follows(new // made.batch, 0)
        else:
            return calls, None
    return calls, found
