"""Every index map against its own integers, looked at one weight at a time."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur.index_maps import Embedded, How, IndexMap
from tests.strategies import aranges, covers, embedded, index_maps, stored


def layers(index: IndexMap) -> Tensor:
    """The integers in full, one row for each layer of them."""
    numbers = index.numbers()
    front = numbers.shape[: numbers.ndim - len(index.shape)]
    return numbers.expand(*front, *index.shape).reshape(-1, math.prod(index.shape))


def members(index: IndexMap) -> dict[int, list[int]]:
    """The weights of each unit."""
    found: dict[int, list[int]] = defaultdict(list)
    for layer in layers(index).tolist():
        for place, unit in enumerate(layer):
            if unit >= 0:
                found[unit].append(place)
    return found


@given(index_maps)
def test_numbers_are_int64_and_between_minus_one_and_the_number_of_units(index: IndexMap) -> None:
    numbers = layers(index)
    assert numbers.dtype == torch.int64
    assert int(numbers.min()) >= -1
    assert int(numbers.max()) < index.n_units


@given(index_maps)
def test_counts(index: IndexMap) -> None:
    held = members(index)
    assert index.counts().tolist() == [len(held[unit]) for unit in range(index.n_units)]


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
@given(index_maps, st.integers(0, 100))
def test_reduce(how: How, index: IndexMap, seed: int) -> None:
    values = torch.randint(-9, 9, index.shape, generator=torch.Generator().manual_seed(seed)).double()
    flat, held, found = values.flatten().tolist(), members(index), index.reduce(values, how).tolist()
    assert len(found) == index.n_units
    for unit, places in held.items():
        inside = [flat[place] for place in places]
        if not inside:
            continue
        wanted = max(inside) if how == "max" else sum(inside) / (len(inside) if how == "mean" else 1)
        assert found[unit] == wanted


@given(index_maps)
def test_reduce_takes_what_broadcasts(index: IndexMap) -> None:
    one = torch.tensor(2.0).reshape((1,) * len(index.shape))
    assert torch.equal(index.reduce(one), index.reduce(torch.full(index.shape, 2.0)))


@given(index_maps, st.integers(0, 100))
def test_mask(index: IndexMap, seed: int) -> None:
    keep = torch.rand(index.n_units, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask = index.mask(keep)
    assert mask.dtype == torch.bool
    assert mask.shape == index.shape
    columns = layers(index).T.tolist()
    wanted = [all(u < 0 for u in units) or any(keep[u] for u in units if u >= 0) for units in columns]
    assert mask.flatten().tolist() == wanted


@given(st.one_of(aranges(), covers()))
def test_maps_with_a_rule_leave_no_unit_without_weight(index: IndexMap) -> None:
    assert int(index.counts().min()) >= 1
    assert int(layers(index).max(0).values.min()) >= 0


@given(aranges())
def test_a_rule_makes_a_partition(index: IndexMap) -> None:
    assert int(index.counts().sum()) == math.prod(index.shape)


@given(embedded())
def test_what_is_set_into_a_larger_shape_is_what_is_cut_out_of_it(index: Embedded) -> None:
    numbers = index.numbers()
    cut = numbers
    first = numbers.ndim - len(index.shape)
    for dim, positions in enumerate(index.kept):
        cut = cut.index_select(first + dim, positions)
    assert torch.equal(cut, index.inner.numbers().expand_as(cut))
    assert int((numbers >= 0).sum()) == int((cut >= 0).sum())


@given(st.one_of(aranges(), stored()), st.integers(0, 100))
def test_half_precision_values_keep_their_type(index: IndexMap, seed: int) -> None:
    values = torch.randint(-2, 3, index.shape, generator=torch.Generator().manual_seed(seed))
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        assert index.reduce(values.to(dtype)).dtype == dtype
