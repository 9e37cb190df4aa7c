"""Solve a record so that the model's own code can follow: sizes that it borrows are bound, or else fixed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

import numpy as np
from torch import nn

from secateur.dependency.binding import Binding, Place, can_bind
from secateur.dependency.classes import bindings as asked_by_classes
from secateur.dependency.deadline import Deadline
from secateur.dependency.groups import Coupled, coupled
from secateur.dependency.numbers import Expression, Operation, Size, attributes_in, sizes_in
from secateur.dependency.partition import Reason
from secateur.dependency.record import Amount, Record, SizeUse
from secateur.dependency.resize import Cut
from secateur.dependency.rewrites import Rewrites, rewrites, text
from secateur.dependency.solver import Solution, solve
from secateur.units import Attribute

SCALE = "the size of a head is part of its scale"
ROUNDS = 30  # each fixes or binds at least one dimension; so many are only needed where the code is very tangled


def fitted(
    model: nn.Module,
    record: Record,
    *,
    fixed: Mapping[Place, Reason] | None = None,
    cross_norms: bool = False,
    deadline: Deadline | None = None,
) -> Solution:
    """Solve a record so that whatever leaves, the model's own code can be made to fit.

    Groups of every kind are cut on trial. Where an integer of the code would come out wrong, the dimension it makes is
    bound to the one it is computed from; where that is not possible or has not helped, what it speaks of is fixed, with
    the line. Then all is solved again.

    Args:
        model: The model that was recorded.
        record: Its forward pass.
        fixed: Dimensions that shall lose nothing in any case.
        cross_norms: As for `solve`.
        deadline: As for `solve`; looked at in every round too.

    Returns:
        The labels.
    """
    stays = {**scales(record), **(fixed or {})}
    bindings = asked_by_classes(model, record)
    solution = solve(record, fixed=stays, bindings=bindings, cross_norms=cross_norms, deadline=deadline)
    for done in range(ROUNDS):
        if deadline is not None:
            deadline.check(_stage, done, stays)
        groups = coupled(solution)
        trials = [_tried(model, solution, seed, groups) for seed in range(2)]  # a coincidence of one hides no misfit
        new = {one: why for found in trials for one, why in _bindings(*found) if one not in bindings}
        misfits = {} if new else dict(place for found in trials for place in _misfits(*found))
        if not new and not misfits.keys() - stays.keys():
            break
        bindings |= new
        stays = {**misfits, **stays}
        solution = solve(record, fixed=stays, bindings=bindings, cross_norms=cross_norms, deadline=deadline)
    return solution


def scales(record: Record) -> dict[Place, Reason]:
    """Sizes of heads by whose root attention divides of itself.

    Args:
        record: A forward pass.

    Returns:
        Dimensions that have to stay, and why.
    """
    return {(use.value, use.dim): _reason(SCALE, use) for use in record.sizes if use.kind == "scale"}


def _reason(text: str, use: SizeUse | Amount) -> Reason:
    return Reason(text, "", use.module, use.line)


def _stage(done: int, stays: Mapping[Place, Reason]) -> str:
    last = f", the last: {next(iter(stays.values()))}" if stays else ""
    return f"sizes were still being fitted to the model's code: {done} rounds, {len(stays)} dimensions held{last}"


def trial(solution: Solution, seed: int, groups: Sequence[Coupled] | None = None) -> Cut:
    """A cut through every group, each by another part.

    Args:
        solution: The labels.
        seed: Of the choice.
        groups: What `coupled` found, to save work.

    Returns:
        The cut; at least one unit of each group stays and one leaves.
    """
    random = np.random.default_rng(seed)
    found = [group.roots for group in (coupled(solution) if groups is None else groups) if len(group.roots) > 1]
    chosen = [random.choice(roots, random.integers(1, len(roots)), replace=False) for roots in found]
    return Cut(solution, np.concatenate([np.empty(0, np.int64), *chosen]).astype(np.int64))


def _tried(model: nn.Module, solution: Solution, seed: int, groups: Sequence[Coupled]) -> tuple[Cut, Rewrites]:
    cut = trial(solution, seed, groups)
    return cut, rewrites(model, cut)


def _misfits(cut: Cut, found: Rewrites) -> Iterator[tuple[Place, Reason]]:
    for use, _ in found.misfits:
        for place in _speaks_of(cut, use):
            yield place, _borrowed(use)
    for one in found.amounts:
        reason = _reason(f"its size is computed with: {text(one.expression)}", one)
        for place in _read_for(cut, one.expression):
            yield place, reason


def _borrowed(use: SizeUse) -> Reason:
    return _reason(f"its size is borrowed: {text(use.expression)}", use)


def _speaks_of(cut: Cut, use: SizeUse) -> list[Place]:
    """The dimension if it changes; else what its expression speaks of."""
    if cut.kept(use.value, use.dim) is not None:
        return [(use.value, use.dim)]
    return _read_for(cut, use.expression)


def _read_for(cut: Cut, expression: Expression) -> list[Place]:
    """The sizes read for an integer; else those that its attributes are."""
    sizes = [(one.value, one.dim) for one in sizes_in(expression) if cut.kept(one.value, one.dim) is not None]
    if sizes:
        return sizes
    read_here = set(attributes_in(expression))
    return [
        (other.value, other.dim)
        for other in cut.solution.record.sizes
        if other.expression in read_here and cut.kept(other.value, other.dim) is not None
    ]


def _bindings(cut: Cut, found: Rewrites) -> Iterator[tuple[Binding, Reason]]:
    """For each size that comes out wrong, the first width in its expression to which it could be bound."""
    for use, _ in found.misfits:
        if use.kind == "size":
            widths = (width for leaf in _leaves(use.expression) for width in _widths(cut, use, leaf))
            options = (Binding(width, use.value, run) for width in widths if (run := _run(cut, use, width)))
            one = next((one for one in options if can_bind(cut.solution.partition, one, cut.solution.values)), None)
            if one is not None:
                yield one, _borrowed(use)


def _leaves(expression: Expression) -> tuple[Size | Attribute, ...]:
    """What can be a width: of a quotient what is divided, of a product any factor."""
    if isinstance(expression, Operation):
        sides = {"*": (expression.left, expression.right), "//": (expression.left,)}.get(expression.op, ())
        return tuple(leaf for side in sides for leaf in _leaves(side))
    return () if isinstance(expression, int) else (expression,)


def _widths(cut: Cut, use: SizeUse, leaf: Size | Attribute) -> Iterator[Place]:
    """The dimension that a size was read of, or those that an attribute makes."""
    if isinstance(leaf, Size):
        yield leaf.value, leaf.dim
        return
    for other in cut.solution.record.sizes:
        if other.kind == "size" and other.expression == leaf and (other.value, other.dim) != (use.value, use.dim):
            yield other.value, other.dim


def _run(cut: Cut, use: SizeUse, width: Place) -> tuple[int, ...] | None:
    """The dimensions beside one that together are as long as a width, such as heads and places in a head."""
    shape = cut.solution.record.values[use.value].shape
    size = cut.solution.record.values[width[0]].shape[width[1]]
    if shape[use.dim] % size == 0:
        return (use.dim,)
    for last in range(use.dim, len(shape)):
        for first in range(use.dim, -1, -1):
            if prod(shape[first : last + 1]) == size:
                return tuple(range(first, last + 1))
    return None
