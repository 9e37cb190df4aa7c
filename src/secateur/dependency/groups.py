"""From labels to groups: units that leave together, and which of them compete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from secateur.dependency.labels import Numbers
from secateur.dependency.partition import FIXED, Reason
from secateur.dependency.solver import Solution

ALONE = Reason("there is only one")


@dataclass(frozen=True)
class Slot:
    """A dimension of a parameter or buffer.

    Args:
        number: Of the value in the record.
        dim: The dimension.
        name: The first name of the value.
    """

    number: int
    dim: int
    name: str


@dataclass(frozen=True)
class Coupled:
    """Units that touch the same slots, and so compete.

    Args:
        roots: The label that stands for each unit, `(n_units,)`, in the order of their first positions.
        index: For each slot the unit of each position, -1 where it is of another group or stays.
    """

    roots: Numbers
    index: dict[Slot, Numbers]


def slots(solution: Solution) -> Iterator[tuple[Slot, Numbers]]:
    """All labelled dimensions of parameters and buffers.

    Args:
        solution: The labels.

    Yields:
        A slot and the set of each of its positions, -1 where it stays.
    """
    for number in solution.record.numbers("parameter", "buffer"):
        value = solution.record.values[number]
        for dim, size in enumerate(value.shape):
            if size > 1:
                yield Slot(number, dim, value.names[0]), solution.partition.seen(solution.labels(number, dim))


def coupled(solution: Solution) -> list[Coupled]:
    """The groups of a solution.

    Args:
        solution: The labels.

    Returns:
        One for every set of slots that some unit touches, by the first slot; only groups with a parameter.

    Example:
        >>> import torch
        >>> from secateur.dependency import record, solve
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
        >>> for group in coupled(solve(record(model, torch.zeros(1, 2)))):
        ...     print([(slot.name, slot.dim, units.tolist()) for slot, units in group.index.items()])
        [('0.weight', 0, [0, 1, 2]), ('0.bias', 0, [0, 1, 2]), ('2.weight', 1, [0, 1, 2])]
    """
    found = list(slots(solution))
    if not found:
        return []
    roots = np.concatenate([labels for _, labels in found])
    places = np.repeat(np.arange(len(found)), [len(labels) for _, labels in found])
    free = roots != FIXED
    roots, places = roots[free], places[free]
    members: dict[bytes, list[int]] = {}
    for root, signed in _signatures(roots, places, len(found)):
        members.setdefault(signed, []).append(root)
    return [
        group
        for signed, inside in members.items()
        if (group := _group(solution, found, signed, np.array(inside))) is not None
    ]


def _signatures(roots: Numbers, places: Numbers, count: int) -> Iterator[tuple[int, bytes]]:
    """Roots in the order in which they come up first, with the set of slots that each touches."""
    pairs = np.unique(roots * count + places)  # one number for a pair: rows of two take ten times as long to sort
    touched, slot = pairs // count, (pairs % count).astype(np.int32)
    each, first = np.unique(roots, return_index=True)
    ends = np.searchsorted(touched, each, side="right").tolist()
    starts, written, width = [0, *ends[:-1]], slot.tobytes(), slot.itemsize
    numbers = each.tolist()
    for at in np.argsort(first).tolist():
        yield numbers[at], written[width * starts[at] : width * ends[at]]


def _group(solution: Solution, found: list[tuple[Slot, Numbers]], signed: bytes, roots: Numbers) -> Coupled | None:
    chosen = [found[place] for place in np.frombuffer(signed, np.int32)]
    if not any(solution.record.values[slot.number].source == "parameter" for slot, _ in chosen):
        return None
    order = np.argsort(roots)
    index = {}
    for slot, labels in chosen:
        at = np.searchsorted(roots[order], labels)
        at = np.minimum(at, len(roots) - 1)
        units = order[at]
        index[slot] = np.where(roots[units] == labels, units, -1).astype(np.int64)
    return Coupled(roots, index)


def stays(solution: Solution) -> list[tuple[Slot, Reason]]:
    """Dimensions of which nothing may leave, with the first reason.

    Args:
        solution: The labels.

    Returns:
        The slots, in order.
    """
    values = solution.record.values
    kept = [
        (Slot(number, dim, values[number].names[0]), ALONE)
        for number in solution.record.numbers("parameter")
        for dim, size in enumerate(values[number].shape)
        if size == 1
    ]
    for slot, labels in slots(solution):
        if (labels == FIXED).all():
            reason = solution.partition.reason(int(solution.labels(slot.number, slot.dim)[0]))
            kept.append((slot, reason or Reason("no operation reads it")))
    return sorted(kept, key=lambda one: (one[0].number, one[0].dim))
