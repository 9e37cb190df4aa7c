"""From a plan's slices back to labels: the cut of a record that takes out the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from secateur.dependency import Cut, Record, Solution, fitted, references, scales, solve
from secateur.dependency.partition import FIXED
from secateur.plan import Plan
from secateur.plan.slices import along, stays


def cuts(model: nn.Module, plan: Plan, found: Record) -> Iterator[Cut]:
    """What a plan takes out, as labels of a record, by every way of solving it.

    A granularity may have held channels back whose sizes the model's code borrows, so the record is solved without
    that and with it.

    Args:
        model: The model.
        plan: Its groups' units are slices.
        found: A forward pass of the model.

    Yields:
        Cuts; where the record is solved otherwise than it was for the plan, one may take out more or less.
    """
    crosses = any(part.units.crosses for part in plan.parts)
    for cross in dict.fromkeys((crosses, True)):
        ways: list[Callable[[], Solution]] = [
            lambda cross=cross: solve(found, fixed=scales(found), cross_norms=cross),  # type: ignore[misc]
            lambda cross=cross: fitted(model, found, cross_norms=cross),  # type: ignore[misc]
        ]
        for way in ways:
            yield of_plan(plan, way())


def closest(model: nn.Module, plan: Plan, found: Record) -> Cut:
    """The cut that agrees with a plan; if none does, one without what stays in this record.

    Args:
        model: The model.
        plan: Its groups' units are slices.
        found: A forward pass of the model.

    Returns:
        The cut.
    """
    tried: list[Cut] = []
    for cut in cuts(model, plan, found):
        tried.append(cut)
        if agrees(cut, plan):
            break
    return tried[-1]


def of_plan(plan: Plan, solution: Solution) -> Cut:
    """What a plan takes out, as labels of a solution.

    Args:
        plan: Its groups' units are slices.
        solution: The labels.

    Returns:
        The cut; without what stays in this solution.
    """
    values = solution.record.values
    numbers = {name: n for n in solution.record.numbers("parameter", "buffer") for name in values[n].names}
    gone = [np.empty(0, np.int64)]
    for part in plan.parts:
        for axis, index in part.units.index.items():
            if axis.axis is not None and not bool(part.keep.all()):
                units = along(index, axis.axis)
                leaves = torch.cat([~part.keep.cpu(), torch.zeros(1, dtype=torch.bool)])[units].numpy()
                gone.append(solution.partition.seen(solution.labels(numbers[axis.parameter], axis.axis))[leaves])
    labels = np.unique(np.concatenate(gone))
    return Cut(solution, labels[labels != FIXED])


def agrees(cut: Cut, plan: Plan) -> bool:
    """Whether a cut takes out what a plan takes out, of all that the record reads.

    Args:
        cut: Of a record.
        plan: The plan.

    Returns:
        Whether it does, slice by slice. Heads that only help to train are none of a pass in eval mode.
    """
    record, wanted = cut.solution.record, stays(plan.parts)
    read = {number for call in record.calls for number in references(call)}
    by_place = {(axis.parameter, axis.axis): stay.numpy() for axis, stay in wanted.items()}
    for number in read.intersection(record.numbers("parameter", "buffer")):
        value = record.values[number]
        for dim, size in enumerate(value.shape):
            found = cut.kept(number, dim)
            stay = next((by_place[name, dim] for name in value.names if (name, dim) in by_place), None)
            every = np.ones(size, np.bool_)
            if not np.array_equal(every if found is None else found, every if stay is None else stay):
                return False
    return True
