"""Dimensions bound to the width that the code computes them from."""

from __future__ import annotations

import numpy as np

from secateur.dependency import coupled, fitted, record, stays
from secateur.dependency.binding import Binding, bound, can_bind
from secateur.dependency.partition import Partition, Reason
from tests.zoo.table import ZOO

WHY = Reason("asked for")


def test_a_head_leaves_with_its_block_of_the_width() -> None:
    partition = Partition()
    partition.settle()
    values = {0: partition.fresh((2, 6), [1]), 1: partition.fresh((2, 3, 2), [1])}
    found = bound(partition, Binding((0, 1), 1, (1, 2)), values, WHY)
    assert partition.seen(found[0].facets[0].core).ravel().tolist() == [0, 0, 2, 2, 4, 4]
    assert partition.seen(found[1].facets[0].core).ravel().tolist() == [0, 2, 4]


def test_a_longer_run_meets_the_width_as_often_as_it_fits() -> None:
    partition = Partition()
    partition.settle()
    values = {0: partition.fresh((2,)), 1: partition.fresh((6,))}
    found = bound(partition, Binding((0, 0), 1, (0,)), values, WHY)
    assert partition.seen(found[1].facets[0].core).tolist() == [0, 1, 0, 1, 0, 1]


def test_what_is_bound_to_something_that_stays_stays() -> None:
    partition = Partition()
    partition.settle()
    values = {0: partition.fresh((2, 6), []), 1: partition.fresh((2, 3, 2), [1])}
    binding = Binding((0, 1), 1, (1, 2))
    assert not can_bind(partition, binding, values)
    label = int(values[1].facets[0].core.ravel()[0])
    assert bound(partition, binding, values, WHY)[1].facets == ()
    assert partition.reason(label) == WHY


def test_heads_leave_with_the_width_where_norms_may_be_crossed() -> None:
    """Three heads of four places, a width of twelve under a layer norm."""
    model, example = ZOO["packed projection"].build()
    found = record(model, example)
    assert {slot.name for slot, _ in stays(fitted(model, found))} >= {"qkv.weight", "proj.weight", "norm.weight"}
    (group,) = coupled(fitted(model, found, cross_norms=True))
    sizes = {(slot.name, slot.dim): units.tolist() for slot, units in group.index.items()}
    blocks = np.repeat(np.arange(3), 4).tolist()
    assert sizes["embed.weight", 0] == sizes["norm.weight", 0] == sizes["proj.weight", 1] == blocks
    assert sizes["qkv.weight", 0] == 3 * blocks
    assert sizes["head.weight", 1] == blocks
