"""Labels go along a record: first to see which way a split has to be taken, then to unite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
from torch._ops import OpOverload

from secateur.dependency.binding import Binding, Place, bound
from secateur.dependency.deadline import Deadline
from secateur.dependency.facets import Labelled, along, collapsed
from secateur.dependency.labels import Numbers
from secateur.dependency.partition import Partition, Reason
from secateur.dependency.record import Call, Record, Reference, RootMeanSquare, references, replaced
from secateur.dependency.rules import is_move, rule_for
from secateur.dependency.step import Step
from secateur.dependency.unused import unused

OUTPUT = Reason("it is the model's output")
UNREAD = Reason("no operation reads it")


@dataclass(frozen=True)
class Solution:
    """Which slices leave together.

    Args:
        record: The forward pass.
        partition: The labels.
        values: The labels of every value of the record, by its number.
        state: The labels that parameters and buffers were given, by their number.
        lifted: Norms by root mean squares over channels that may leave.
    """

    record: Record
    partition: Partition
    values: tuple[Labelled, ...]
    state: Mapping[int, Labelled]
    lifted: tuple[RootMeanSquare, ...] = ()

    def labels(self, number: int, dim: int) -> Numbers:
        """The labels of a parameter or buffer along a dimension.

        Args:
            number: Of the value.
            dim: The dimension.

        Returns:
            A label for each position; none if the dimension has size 1.
        """
        for facet in self.state[number].facets:
            if along(facet.core) == {dim}:
                return facet.core.ravel()
        return self.partition.labels.fresh(0)


@dataclass(frozen=True)
class Ties:
    """What the code of a model asks of labels beside its operations.

    Args:
        fixed: Dimensions of values that shall lose nothing, and why.
        bindings: Dimensions that shall lose alike, and why if they stay.
    """

    fixed: Mapping[Place, Reason] = field(default_factory=dict)
    bindings: Mapping[Binding, Reason] = field(default_factory=dict)

    def at(self, number: int) -> tuple[list[tuple[int, Reason]], list[tuple[Binding, Reason]]]:
        """What is asked once a value is there.

        Args:
            number: Of the value.

        Returns:
            Dimensions of it that are fixed, and bindings of which it is the later side.
        """
        return self._sorted[0].get(number, []), self._sorted[1].get(number, [])

    @cached_property
    def _sorted(self) -> tuple[dict[int, list[tuple[int, Reason]]], dict[int, list[tuple[Binding, Reason]]]]:
        stays: dict[int, list[tuple[int, Reason]]] = {}
        tied: dict[int, list[tuple[Binding, Reason]]] = {}
        for (number, dim), reason in self.fixed.items():
            stays.setdefault(number, []).append((dim, reason))
        for one, reason in self.bindings.items():
            tied.setdefault(max(one.number, one.width[0]), []).append((one, reason))
        return stays, tied


def solve(
    record: Record,
    *,
    fixed: Mapping[Place, Reason] | None = None,
    bindings: Mapping[Binding, Reason] | None = None,
    cross_norms: bool = False,
    deadline: Deadline | None = None,
) -> Solution:
    """Find out which slices of which parameters have to leave together.

    Args:
        record: A forward pass.
        fixed: Dimensions of values that shall lose nothing, and why.
        bindings: Dimensions of values that shall lose alike, and why if they cannot.
        cross_norms: Whether channels may leave over which a mean or variance is taken.
        deadline: When it has to be done; looked at with every operation.

    Returns:
        The labels of everything.

    Example:
        >>> import torch
        >>> from secateur.dependency import record
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
        >>> solution = solve(record(model, torch.zeros(1, 2)))
        >>> first, second = (solution.record.numbers("parameter")[at] for at in (0, 2))
        >>> solution.partition.seen(solution.labels(first, 0)), solution.partition.seen(solution.labels(second, 1))
        (array([0, 1, 2]), array([0, 1, 2]))
        >>> str(solution.partition.reason(int(solution.labels(second, 0)[0])))
        "it is the model's output"
    """
    return _solved(record, Ties(fixed or {}, bindings or {}), cross_norms, record.norms, deadline)


def _solved(
    record: Record,
    ties: Ties,
    cross_norms: bool,
    norms: tuple[RootMeanSquare, ...],
    deadline: Deadline | None,
) -> Solution:
    """A solution in which some norms may be made up for; for all that share a weight, or for none."""
    partition = Partition(cross=cross_norms, liftable=[norm.mean for norm in norms])
    state = _state(record, partition)
    partition.chosen |= bool(ties.bindings)
    values = _pass(record, partition, state, ties, deadline)
    if partition.settle():
        values = _pass(record, partition, state, ties, deadline)
    else:
        values = [partition.normal(one) for one in values]
    _unread(record, partition, state, values)
    while _rectangular(partition, values):
        partition.crossed.clear()
        partition.heads.clear()
        values = _pass(record, partition, state, ties, deadline)
    failed = {norm.weight for norm in norms if norm.mean not in partition.lifted}
    if failed:
        left = tuple(norm for norm in norms if norm.weight not in failed)
        return _solved(record, ties, cross_norms, left, deadline)
    return Solution(record, partition, tuple(values), state, norms)


def _state(record: Record, partition: Partition) -> dict[int, Labelled]:
    """Parameters and buffers carry labels, inputs and constants do not."""
    found = {}
    for number, value in enumerate(record.values):
        if value.source in ("parameter", "buffer"):
            found[number] = partition.fresh(
                value.shape, zero=value.source == "parameter", loose=value.source == "buffer"
            )
        elif value.source != "computed":
            found[number] = Labelled(value.shape)
    return found


def _unread(record: Record, partition: Partition, state: Mapping[int, Labelled], values: Sequence[Labelled]) -> None:
    """What no operation reads stays, also the part of a table that is cut off: a longer input may need it."""
    moved = set(state)
    read = list(record.outputs)
    for call in record.calls:
        taken = references(call)
        if is_move(call.op) and moved.issuperset(taken):
            moved.update(number for number in call.results if number is not None)
        else:
            read += moved.intersection(taken)
    cores = [facet.core.ravel() for number in dict.fromkeys(read) for facet in values[number].facets]
    seen = np.zeros(len(partition.labels), np.bool_)
    seen[partition.labels.find(np.concatenate([np.empty(0, np.int64), *cores]))] = True
    for one in state.values():
        for facet in one.facets:
            lost = ~seen[partition.labels.find(facet.core)]
            if lost.any():
                partition.freeze(facet.core[lost], UNREAD)


def _pass(
    record: Record,
    partition: Partition,
    state: Mapping[int, Labelled],
    ties: Ties,
    deadline: Deadline | None,
) -> list[Labelled]:
    values: dict[int, Labelled] = dict(state)
    for number in state:
        _tied(partition, values, number, ties)
    dropped = unused(record)
    for at, call in enumerate(record.calls):
        if deadline is not None:
            deadline.check(_stage, record, at, call)
        step = _step(record, call, partition, values, at not in dropped)
        results: Any = rule_for(call.op)(step)
        results = [results] if isinstance(results, Labelled) else results
        if call.op._schema.name.endswith("_"):
            _spoil(partition, step, results)
        for made, result in zip(call.results, results, strict=True):
            if made is not None:
                values[made] = partition.normal(result or Labelled(record.values[made].shape))
                _tied(partition, values, made, ties)
    for number in record.outputs:
        partition.fix(values[number], range(len(values[number].shape)), OUTPUT)
    return [values.get(number, Labelled(value.shape)) for number, value in enumerate(record.values)]


def _stage(record: Record, at: int, call: Call) -> str:
    where = " ".join(part for part in (call.module and f"in {call.module}", call.line) if part)
    return (
        f"labels were still going along the record: {at} of {len(record.calls)} operations in this round, the next is "
        f"{call.op.overloadpacket} {where}".rstrip()
    )


def _spoil(partition: Partition, step: Step, results: Sequence[Labelled | None]) -> None:
    """What is written in place and not zero where it is masked shows through views that were."""
    before = [facet for one in step.tensors()[:1] for facet in one.facets if facet.zero]
    for facet in results[0].facets if results and results[0] else ():
        if not facet.zero and any(along(facet.core) & along(one.core) for one in before):
            partition.spoil(facet.core)


def _tied(partition: Partition, values: dict[int, Labelled], number: int, ties: Ties) -> None:
    """A value has been made: what is asked of it; bindings wait until it is known which way a split is taken."""
    stays, bindings = ties.at(number)
    for dim, reason in stays:
        values[number] = partition.fix(values[number], [dim], reason)
    for one, reason in () if partition.looking else bindings:
        values |= bound(partition, one, values, reason)


def _step(record: Record, call: Call, partition: Partition, values: Mapping[int, Labelled], needed: bool) -> Step:
    def labelled(one: Reference) -> Labelled:
        return replace(values[one.number], dtype=record.values[one.number].dtype)

    names, defaults = _schema(call.op)
    given = [replaced(one, Reference, labelled) for one in call.arguments]
    keywords = {name: replaced(one, Reference, labelled) for name, one in call.keywords.items()}
    arguments = {**defaults, **dict(zip(names, given, strict=False)), **keywords}
    shapes = tuple(None if number is None else record.values[number].shape for number in call.results)
    return Step(partition, call, arguments, shapes, needed)


@cache
def _schema(op: OpOverload[..., Any]) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """Names of an operation's arguments, and their defaults."""
    arguments = op._schema.arguments
    defaults = {one.name: one.default_value for one in arguments if one.has_default_value()}
    return tuple(one.name for one in arguments), defaults


def _rectangular(partition: Partition, values: Sequence[Labelled]) -> bool:
    """What still varies along several dimensions of a tensor varies along the longest only; whether any did."""
    found = False
    for value in values:
        for facet in partition.normal(value).facets:
            dims = along(facet.core)
            if len(dims) > 1:
                longest = max(dims, key=lambda dim: (facet.core.shape[dim], -dim))
                partition.unite(facet.core, collapsed(facet.core, dims - {longest}))
                found = True
    return found
