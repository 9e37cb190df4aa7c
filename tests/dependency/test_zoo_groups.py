"""Which slices leave together in every network of the zoo, beside what was found by pencil."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from secateur.dependency import coupled, fitted, record, replay, solve, stays
from secateur.dependency.fitting import trial
from secateur.dependency.record import Record
from secateur.dependency.rewrites import rewrites
from secateur.dependency.solver import Solution
from tests.zoo.specimen import Specimen, tensors
from tests.zoo.table import ZOO

Found = dict[str, dict[int, NDArray[np.int64]]]


def axes_of(solution: Solution) -> Found:
    """By axis, under all names of a parameter: the groups that it is in, and there the unit of each position."""
    found: Found = {}
    for number, group in enumerate(coupled(solution)):
        for slot, units in group.index.items():
            for name in solution.record.values[slot.number].names:
                found.setdefault(f"{name}:{slot.dim}", {})[number] = units
    return found


def solved(specimen: Specimen) -> Solution:
    model, example = specimen.build()
    return fitted(model, record(model, example))


@pytest.mark.parametrize("name", ZOO)
def test_groups_are_those_found_by_pencil(name: str) -> None:
    solution = solved(ZOO[name])
    free = axes_of(solution)
    why = {f"{slot.name}:{slot.dim}": str(reason) for slot, reason in stays(solution)}
    assert not free.keys() & set(ZOO[name].frozen)
    assert {axis: why.get(axis) for axis in set(ZOO[name].prunable) - free.keys()} == {}
    for axes in ZOO[name].together:
        assert set.intersection(*(set(free[axis]) for axis in axes)), axes
    for axis, count in ZOO[name].units.items():
        units = [np.unique(units[units >= 0]) for units in free.get(axis, {}).values()]
        assert sum(map(len, units)) == count, axis


@pytest.mark.parametrize("name", ZOO)
def test_every_axis_has_a_group_or_a_reason(name: str) -> None:
    solution = solved(ZOO[name])
    for number in solution.record.numbers("parameter"):
        for dim, size in enumerate(solution.record.values[number].shape):
            if size > 1:
                labels = solution.labels(number, dim)
                fixed = solution.partition.seen(labels) == -1
                assert all(solution.partition.reason(int(label)) for label in labels[fixed])


@pytest.mark.parametrize("name", ZOO)
def test_the_record_without_slices_equals_the_masked_record(name: str) -> None:
    """Without the model's own code, so also where that could not follow; on other weights and inputs."""
    model, example = ZOO[name].build()
    solution = solve(record(model, example, compute=True))
    if not ZOO[name].looks:
        model, example = ZOO[name].build(1)
    cut = trial(solution, 0)
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    masked, small = dict(state), dict(state)
    for number in solution.record.numbers("parameter", "buffer"):
        held = next(state[one] for one in solution.record.values[number].names if one in state)
        for alias in solution.record.values[number].names:
            small[alias] = cut.sliced(number, held.detach())
            masked[alias] = cut.masked(number, held.detach()) if is_parameter(solution.record, number) else held
    inputs = tensors(example)
    for one, other in zip(replay(solution.record, masked, inputs), replay(cut.record(), small, inputs), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4 * float(one.abs().max()))


def is_parameter(found: Record, number: int) -> bool:
    return found.values[number].source == "parameter"


@pytest.mark.parametrize("name", ZOO)
def test_the_code_can_follow_every_cut(name: str) -> None:
    model, example = ZOO[name].build()
    solution = fitted(model, record(model, example))
    for seed in range(5, 8):
        assert rewrites(model, trial(solution, seed)).misfits == ()


def test_a_cut_leaves_one_unit_and_takes_one() -> None:
    solution = solved(ZOO["mlp"])
    cut = trial(solution, 0)
    for group in coupled(solution):
        gone = np.isin(group.roots, cut.removed).sum()
        assert 1 <= gone < len(group.roots)
