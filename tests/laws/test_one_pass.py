"""Where nothing has to be chosen, going along a record once finds what going along it twice finds."""

from __future__ import annotations

import numpy as np
import pytest

from secateur.dependency import coupled, record, solve, stays
from secateur.dependency.partition import Partition
from secateur.dependency.solver import Solution
from tests.zoo.table import ZOO


def groups_of(solution: Solution) -> list[dict[tuple[int, int], list[int]]]:
    return [
        {(slot.number, slot.dim): units.tolist() for slot, units in group.index.items()} for group in coupled(solution)
    ]


def crossed_by(solution: Solution) -> set[int]:
    seen = [solution.partition.seen(core).ravel() for core, _ in solution.partition.crossed]
    return set(np.concatenate([np.empty(0, np.int64), *seen]).tolist()) - {-1}


@pytest.mark.parametrize("cross_norms", [False, True])
@pytest.mark.parametrize("name", ZOO)
def test_once_is_as_good_as_twice(name: str, cross_norms: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, example = ZOO[name].build()
    found = record(model, example)
    once = solve(found, cross_norms=cross_norms)
    settle = Partition.settle

    def twice(partition: Partition) -> bool:
        partition.chosen = True
        return settle(partition)

    monkeypatch.setattr(Partition, "settle", twice)
    again = solve(found, cross_norms=cross_norms)
    assert groups_of(once) == groups_of(again)
    assert [slot for slot, _ in stays(once)] == [slot for slot, _ in stays(again)]
    assert crossed_by(once) == crossed_by(again)


def test_a_plain_network_is_gone_along_once() -> None:
    model, example = ZOO["bottleneck"].build()
    assert not solve(record(model, example)).partition.chosen
