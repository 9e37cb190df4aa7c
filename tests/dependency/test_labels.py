"""Disjoint sets agree with connected components as SciPy finds them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from secateur.dependency.labels import Labels


@st.composite
def pairs(draw: st.DrawFn) -> tuple[int, list[list[tuple[int, int]]]]:
    """A number of labels, and pairs of them in several portions."""
    count = draw(st.integers(1, 40))
    label = st.integers(0, count - 1)
    return count, draw(st.lists(st.lists(st.tuples(label, label), max_size=30), max_size=4))


def smallest_of_each(count: int, joined: list[tuple[int, int]]) -> list[int]:
    rows, columns = ([pair[side] for pair in joined] for side in (0, 1))
    _, which = connected_components(coo_array((np.ones(len(joined)), (rows, columns)), shape=(count, count)))
    return [int(np.flatnonzero(which == one)[0]) for one in which]


@given(pairs())
def test_sets_are_the_connected_components(drawn: tuple[int, list[list[tuple[int, int]]]]) -> None:
    count, portions = drawn
    labels, joined = Labels(), []
    everything = labels.fresh(count)
    for portion in portions:
        joined += portion
        sides = np.array(portion, np.int64).reshape(-1, 2)
        labels.unite(sides[:, 0], sides[:, 1])
        assert labels.find(everything).tolist() == smallest_of_each(count, joined)


@given(st.lists(st.integers(0, 50), max_size=6))
def test_fresh_labels_are_the_next_integers_and_alone(counts: list[int]) -> None:
    labels = Labels()
    found = [labels.fresh(count) for count in counts]
    every = np.concatenate([np.empty(0, np.int64), *found])
    assert every.tolist() == list(range(sum(counts))) == labels.find(every).tolist()
    assert len(labels) == sum(counts)


def test_uniting_broadcasts() -> None:
    labels = Labels()
    rows, column = labels.fresh(6).reshape(3, 2), labels.fresh(3).reshape(3, 1)
    labels.unite(rows, column)
    assert labels.find(rows).tolist() == [[0, 0], [2, 2], [4, 4]]
    assert labels.find(column).ravel().tolist() == [0, 2, 4]


def test_labels_stay_in_their_sets_as_more_come() -> None:
    labels = Labels()
    first = labels.fresh(4)
    labels.unite(first[:2], first[2:])
    more = labels.fresh(1000)
    assert labels.find(first).tolist() == [0, 1, 0, 1]
    labels.unite(more, first[:1])
    assert set(labels.find(more).tolist()) == {0}


def test_a_long_chain_is_one_set() -> None:
    labels = Labels()
    chain = labels.fresh(100_000)
    labels.unite(chain[:-1], chain[1:])
    assert not labels.find(chain).any()
