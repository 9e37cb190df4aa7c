"""Which units reach what stays: each layer passes on what it reads, through the weights that are not zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from secateur.dependency.facets import along
from secateur.dependency.labels import Numbers
from secateur.dependency.liveness import Tensors, watch
from secateur.dependency.partition import FIXED
from secateur.dependency.record import Call, references
from secateur.dependency.roles import PRODUCTS, roles
from secateur.dependency.rules import is_move
from secateur.dependency.solver import Solution

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Reading:
    """A sum of products: positions that are summed over, and what each is passed on to.

    Args:
        call: The operation.
        ins: The set of each position that is summed over, -1 where it stays.
        outs: The set of each position that comes out.
        passes: Whether a position is passed on, bool, ins x outs.
        folded: Positions with the same value for every input and everywhere, which a bias can take over.
        terms: What each of those adds to each position that comes out, float64, folded x outs.
    """

    call: Call
    ins: Numbers
    outs: Numbers
    passes: Tensor
    folded: Tensor
    terms: Tensor


@dataclass(frozen=True)
class Reach:
    """What reaches the outputs, or anything else that stays.

    Args:
        reaches: By the label that stands for a unit.
        readings: All sums of products, in order.
    """

    reaches: Bools
    readings: tuple[Reading, ...]

    def added(self, reading: Reading) -> Tensor:
        """What units that reach nothing otherwise add to the outputs of a reading.

        Args:
            reading: One of them.

        Returns:
            float64, `(outs,)`; zero for outputs that reach nothing themselves.
        """
        gone = torch.from_numpy(~self.reaches[reading.ins])[reading.folded]
        total = reading.terms[gone].sum(0)
        return total.masked_fill(~torch.from_numpy(self.reaches[reading.outs]), 0)


def reach(
    solution: Solution,
    state: Mapping[str, Tensor],
    inputs: tuple[Tensor, ...],
    *,
    foldable: Iterable[int] = (),
    stays: Iterable[tuple[str, int]] = (),
) -> Reach:
    """Which units reach something that stays.

    A unit does not if every layer that reads it has only zeros for it, or it is zero itself, or the layers pass it on
    only to units that reach nothing either. One that has the same value for every input reaches nothing where that
    value can go into a bias, if nothing enters it but biases and shifts.

    Args:
        solution: The labels.
        state: Parameters and buffers by name.
        inputs: Tensors of the example's shapes.
        foldable: Calls, by the number of their first result, that add a bias of their own.
        stays: Dimensions of parameters, by the first name, whose units count as reaching something.

    Returns:
        The units that do.

    Example:
        The second unit has a weight, which nothing reads; the third is read, but only its bias enters it:

        >>> from secateur.dependency import record, solve
        >>> model = torch.nn.Sequential(torch.nn.Linear(1, 3), torch.nn.Linear(3, 1))
        >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0], [1.0], [0.0]]))
        >>> _ = model[0].bias.data.fill_(2.0), model[1].weight.data.copy_(torch.tensor([[1.0, 0.0, 3.0]]))
        >>> solution = solve(record(model, torch.ones(1, 1)))
        >>> last = solution.record.calls[-1].results[0]
        >>> found = reach(solution, model.state_dict(), (torch.ones(1, 1),), foldable=[last])
        >>> units = solution.labels(solution.record.numbers("parameter")[0], 0)
        >>> found.reaches[units].tolist(), found.added(found.readings[-1]).tolist()
        ([True, False, False], [6.0])
    """
    watcher = _Watcher(solution, frozenset(foldable))
    watcher.enter(state)
    watch(solution.record, state, inputs, watcher.see)
    for name, dim in stays:
        number = next(one for one in solution.record.numbers("parameter") if name in solution.record.values[one].names)
        watcher.reaches[solution.partition.seen(solution.labels(number, dim))] = True
    _spread(watcher.reaches, watcher.readings)
    return Reach(watcher.reaches, tuple(watcher.readings))


def _spread(reaches: Bools, readings: list[Reading]) -> None:
    """Backwards, until nothing changes; at once unless units are read in circles."""
    before = -1
    while before != (before := int(reaches.sum())):
        for one in reversed(readings):
            passed = one.passes[:, torch.from_numpy(reaches[one.outs])].any(1).numpy()
            reaches[one.ins[passed]] = True


@dataclass
class _Watcher:
    solution: Solution
    foldable: frozenset[int]
    readings: list[Reading] = field(default_factory=list)

    def __post_init__(self) -> None:
        size = len(self.solution.partition.labels) + 1  # the last one answers for what stays
        self.reaches, self.entered = np.zeros(size, np.bool_), np.zeros(size, np.bool_)
        self.reaches[FIXED] = True

    def enter(self, state: Mapping[str, Tensor]) -> None:
        """Parameters that are no layer's weights are data: tokens, tables, positions."""
        record = self.solution.record
        told = roles(record)
        read = {number for (number, _), role in told.items() if role == "in"}
        for number, dim in told:
            value = record.values[number]
            if value.source == "parameter" and told[number, dim] == "out" and number not in read:
                labels = self.solution.partition.seen(self.solution.labels(number, dim))
                held = next(state[name] for name in value.names if name in state)
                if len(labels):
                    self.entered[labels[_over_others(held != 0, dim).numpy()]] = True

    def see(self, call: Call, values: Tensors, live: Tensors) -> None:
        if call.name in PRODUCTS or call.name == "convolution":
            reading = self._convolved if call.name == "convolution" else self._multiplied
            self.readings.append(self._folding(*reading(call, values, live)))
        elif not is_move(call.op):
            self._consumed(call, values, live)

    def _consumed(self, call: Call, values: Tensors, live: Tensors) -> None:
        """What no result carries has been read for something else."""
        results = call.results[1:] if call.name.startswith("_weight_norm") else call.results  # a norm reads its slices
        left = [self._sets(number, dim) for number in results if number is not None for dim in self._dims(number)]
        carried = np.unique(np.concatenate([[FIXED], *left]))
        for number in references(call):
            for dim in self._dims(number):
                sets = self._sets(number, dim)
                lost = ~np.isin(sets, carried)
                if lost.any():
                    nonzero = _over_others(live[number] | (values[number] != 0), dim).numpy()
                    self.reaches[sets[lost & nonzero]] = True

    def _dims(self, number: int) -> range:
        return range(len(self.solution.record.values[number].shape))

    def _sets(self, number: int, dim: int) -> Numbers:
        """The set of each position along a dimension."""
        shape = self.solution.record.values[number].shape
        dim %= len(shape)
        for facet in self.solution.values[number].facets:
            if along(facet.core) == {dim}:
                return self.solution.partition.seen(facet.core).ravel()
        return np.full(shape[dim], FIXED, np.int64)

    def _multiplied(self, call: Call, values: Tensors, live: Tensors) -> tuple[Any, ...]:
        """`one[..., m, k] @ other[..., k, n]`: k is passed on to n; to m if only that may leave."""
        one, other = (call.given[name].number for name in PRODUCTS[call.name])
        left, right = (live[number] | (values[number] != 0) for number in (one, other))
        ins = np.where((sets := self._sets(one, -1)) != FIXED, sets, self._sets(other, -2))
        result = call.results[0] or 0
        outs, rows = self._sets(result, -1), self._sets(result, -2)
        if (outs == FIXED).all() and (rows != FIXED).any():
            return call, ins, rows, _flat(left).any(0).T & _over_others(right, -2)[:, None], None, None
        passes = _over_others(left, -1)[:, None] & _flat(right).any(0)
        plain = values[other] if values[other].ndim == 2 and call.given.get("alpha", 1) == 1 else None
        return call, ins, outs, passes, _constant(values[one], live[one], -1), plain

    def _convolved(self, call: Call, values: Tensors, live: Tensors) -> tuple[Any, ...]:
        given = call.given
        image, weight = given["input"].number, given["weight"].number
        turned = bool(given.get("transposed"))
        nonzero = (live[weight] | (values[weight] != 0)).flatten(2).any(2)
        dense = _spread_groups(nonzero, given["groups"], turned)
        passes = _over_others(live[image] | (values[image] != 0), 1)[:, None] & dense
        inside = not turned and not any(given["padding"])  # the kernel never lies over the edge
        summed = values[weight].double().flatten(2).sum(2) if inside else None
        plain = None if summed is None else _spread_groups(summed, given["groups"], turned)
        outs = self._sets(call.results[0] or 0, 1)
        return call, self._sets(image, 1), outs, passes, _constant(values[image], live[image], 1), plain

    def _folding(
        self, call: Call, ins: Numbers, outs: Numbers, passes: Tensor, constant: Tensor | None, weight: Tensor | None
    ) -> Reading:
        """With the constants that can be folded taken out of what is passed on."""
        folded = torch.empty(0, dtype=torch.int64)
        terms = torch.empty(0, len(outs), dtype=torch.float64)
        if call.results[0] in self.foldable and constant is not None and weight is not None:
            free = torch.from_numpy(~self.entered[ins] & (ins != FIXED))
            folded = (free & constant.isfinite() & passes.any(1)).nonzero().flatten()
            terms = constant[folded, None].double() * weight[folded].double()
            passes = passes.index_fill(0, folded, False)
        self.entered[outs[passes.any(0).numpy()]] = True
        return Reading(call, ins, outs, passes.cpu(), folded.cpu(), terms.cpu())


def _flat(value: Tensor) -> Tensor:
    """With one dimension in front of a matrix."""
    return value.reshape(-1, *value.shape[-2:])


def _over_others(value: Tensor, dim: int) -> Tensor:
    """Whether any position is true, along one dimension."""
    return value.movedim(dim, -1).reshape(-1, value.shape[dim]).any(0).cpu()


def _constant(value: Tensor, live: Tensor, dim: int) -> Tensor:
    """The one value of each position along a dimension; NaN where there are several or it is live."""
    flat = value.movedim(dim, -1).reshape(-1, value.shape[dim])
    if not len(flat):
        return torch.full((value.shape[dim],), torch.nan)
    same = (flat == flat[0]).all(0).cpu() & ~_over_others(live, dim)
    return torch.where(same, flat[0].cpu(), torch.nan)


def _spread_groups(weight: Tensor, groups: int, turned: bool) -> Tensor:
    """A convolution's weight as a matrix, ins x outs, with zeros between groups."""
    blocks = weight.reshape(groups, -1, weight.shape[1])
    dense = weight.new_zeros(groups, blocks.shape[2 - turned], groups, blocks.shape[1 + turned])
    at = torch.arange(groups)
    dense[at, :, at] = blocks if turned else blocks.transpose(1, 2)
    return dense.flatten(2).flatten(0, 1)
