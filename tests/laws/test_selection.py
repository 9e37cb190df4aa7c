"""Laws of selection: exact counts, nested, no scope emptied, and as a naive reference would choose."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur import ranking
from secateur.index_maps import Arange, Stored
from secateur.ranking import keep_best, keep_best_per_row, keep_best_per_scope, kth_smallest
from secateur.units import Units, kept_units, removed_units, select
from tests.nets import one_scope

# Few different values: ties are the rule.
tied = st.sampled_from([-math.inf, -2.0, 0.0, -0.0, 1.0, 1.5, math.inf])
distinct = st.floats(-(2.0**100), 2.0**100, width=32)
score = st.one_of(tied, distinct)
sparsity = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]))


@st.composite
def scoped(draw: st.DrawFn) -> tuple[Units, Tensor]:
    """Units in one scope, in even scopes, or in scopes of any sizes in any order; with scores."""
    scopes = draw(st.integers(1, 5))
    size = draw(st.integers(1, 6))
    kind = draw(st.sampled_from(["even", "strided", "any"]))
    if kind == "even":
        units = one_scope(scopes * size, Arange((scopes * size,), repeat=(size,)))
    elif kind == "strided":
        units = one_scope(scopes * size, Stored((scopes * size,), torch.arange(scopes * size) % scopes, scopes))
    else:
        more = draw(st.lists(st.integers(0, scopes - 1), max_size=20))
        numbers = draw(st.permutations([*range(scopes), *more]))
        units = one_scope(len(numbers), Stored((len(numbers),), torch.tensor(numbers), scopes))
    scores = draw(st.lists(score, min_size=units.n_units, max_size=units.n_units))
    return units, torch.tensor(scores)


def best(scores: list[float], members: list[int], kept: int) -> set[int]:
    """The highest scores among the members; of equal ones the first."""
    return set(sorted(members, key=lambda unit: (-scores[unit], unit))[:kept])


def naive(units: Units, scores: Tensor, fraction: float) -> set[int]:
    scope, values = units.scope.numbers().tolist(), scores.tolist()
    chosen: set[int] = set()
    for number in range(units.scope.n_units):
        members = [unit for unit, its in enumerate(scope) if its == number]
        chosen |= best(values, members, max(1, len(members) - round(fraction * len(members))))
    return chosen


def kept_by(units: Units, scores: Tensor, fraction: float) -> set[int]:
    return set(select(units, scores, fraction).nonzero()[:, 0].tolist())


@given(scoped(), sparsity)
def test_select_is_the_naive_choice(problem: tuple[Units, Tensor], fraction: float) -> None:
    units, scores = problem
    assert kept_by(units, scores, fraction) == naive(units, scores, fraction)


@given(scoped(), sparsity)
def test_counts_are_exact_and_no_scope_is_emptied(problem: tuple[Units, Tensor], fraction: float) -> None:
    units, scores = problem
    keep = select(units, scores, fraction)
    assert int(keep.sum()) == units.n_units - removed_units(units, fraction)
    assert set(units.scope.numbers()[keep].tolist()) == set(range(units.scope.n_units))


@given(scoped(), sparsity, sparsity)
def test_selections_are_nested(problem: tuple[Units, Tensor], one: float, other: float) -> None:
    units, scores = problem
    less, more = sorted((one, other))
    assert kept_by(units, scores, more) <= kept_by(units, scores, less)


@given(scoped(), sparsity)
def test_scores_and_their_order_of_equals_are_not_changed(problem: tuple[Units, Tensor], fraction: float) -> None:
    units, scores = problem
    before = scores.clone()
    assert torch.equal(select(units, scores, fraction), select(units, scores, fraction))
    assert torch.equal(before, scores)


@st.composite
def patterned(draw: st.DrawFn) -> tuple[Units, Tensor]:
    scopes, size = draw(st.integers(1, 6)), draw(st.integers(2, 5))
    units = one_scope(scopes * size, Arange((scopes * size,), repeat=(size,)), keep=draw(st.integers(1, size - 1)))
    values = st.lists(st.integers(-4, 4).map(float), min_size=units.n_units, max_size=units.n_units)
    return units, torch.tensor(draw(values))


def naive_pattern(units: Units, scores: Tensor, fraction: float) -> set[int]:
    """Scopes that lose the least score follow the pattern; of equal losses, later scopes follow first."""
    kept, scopes = units.keep_per_scope, units.scope.n_units
    assert kept is not None
    size = units.n_units // scopes
    full = 1 - kept * scopes / units.n_units
    values = scores.tolist()
    rows = [list(range(row * size, (row + 1) * size)) for row in range(scopes)]
    stay = [best(values, row, kept) for row in rows]
    lost = [sum(values[unit] for unit in row if unit not in left) for row, left in zip(rows, stay, strict=True)]
    following = sorted(range(scopes), key=lambda row: (lost[row], -row))[: round(scopes * fraction / full)]
    return {unit for row in range(scopes) for unit in (stay[row] if row in following else rows[row])}


@given(patterned(), st.floats(0, 1))
def test_patterns_are_followed_where_that_costs_least(problem: tuple[Units, Tensor], part: float) -> None:
    units, scores = problem
    fraction = part * (units.full_sparsity or 0)
    chosen = kept_by(units, scores, fraction)
    assert chosen == naive_pattern(units, scores, fraction)
    assert len(chosen) == units.n_units - removed_units(units, fraction)


@given(patterned(), st.floats(0, 1), st.floats(0, 1))
def test_patterns_are_nested(problem: tuple[Units, Tensor], one: float, other: float) -> None:
    units, scores = problem
    less, more = sorted(part * (units.full_sparsity or 0) for part in (one, other))
    assert kept_by(units, scores, more) <= kept_by(units, scores, less)


# -------------------------------------------------------------------------------- order statistics, with small pieces


@pytest.fixture(scope="module", autouse=True)
def small_pieces() -> Iterator[None]:
    """A few values are already too many for one look: the sample, the bracket and the pieces all come into play."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "SAMPLE", 8)
        patch.setattr(ranking, "CHUNK", 7)
        yield


@given(st.lists(st.lists(score, max_size=80), min_size=1, max_size=4).filter(any), st.data())
def test_kth_smallest_is_what_sorting_finds(parts: list[list[float]], data: st.DataObject) -> None:
    everything = sorted(value for part in parts for value in part)
    k = data.draw(st.integers(1, len(everything)))
    found = kth_smallest([torch.tensor(part, dtype=torch.float64) for part in parts], k)
    assert found == everything[k - 1]


@pytest.mark.parametrize("period", [2, 3, 7, 16, 25])
@pytest.mark.parametrize("peak", [-math.inf, -1.0, 1e9, math.inf])
def test_kth_smallest_of_data_in_step_with_the_sample(period: int, peak: float) -> None:
    """Every `period`-th value is far off, so a sample in step with them sees nothing else."""
    values = torch.arange(400.0) % 13
    values[::period] = peak
    ordered = values.sort().values.tolist()
    assert [kth_smallest([values], k) for k in range(1, 401, 11)] == ordered[::11]


@pytest.mark.parametrize(
    "values",
    [
        [0.0] * 50 + [1.0] * 50,
        [1.0] * 50 + [0.0] * 50,
        [0.0] * 99 + [1.0],
        [0.0, 1.0] * 40,
        [2.0] * 60,
        list(range(70)),
    ],
    ids=["steps", "steps down", "one above", "turns", "all alike", "all different"],
)
def test_kth_smallest_for_every_k(values: list[float]) -> None:
    """Where k falls on the last of what equals an end of the bracket, too."""
    found = [kth_smallest([torch.tensor(values, dtype=torch.float32)], k) for k in range(1, len(values) + 1)]
    assert found == sorted(values)


def test_the_sample_can_be_fooled_and_the_answer_is_right_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    everything = ranking._kth_of_all

    def counted(values: list[Tensor], k: int) -> float:
        looked.append(k)
        return everything(values, k)

    monkeypatch.setattr(ranking, "_kth_of_all", counted)
    monkeypatch.setattr(ranking, "SAMPLE", 256)
    values = torch.arange(4096.0)
    assert kth_smallest([values], 2048) == 2047.0
    assert looked == []  # the bracket held it
    values[::16] = -1.0  # the stride of the sample: all it sees is -1
    assert kth_smallest([values], 2048) == values.sort().values[2047].item()
    assert looked == [2048]


@given(st.lists(score, min_size=1, max_size=90), st.data())
def test_keep_best_is_the_naive_choice(values: list[float], data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, len(values)))
    keep = keep_best(torch.tensor(values), kept)
    assert set(keep.nonzero()[:, 0].tolist()) == best(torch.tensor(values).tolist(), list(range(len(values))), kept)


@given(st.integers(1, 12), st.integers(1, 9), st.data())
def test_keep_best_per_row_is_keep_best_of_each_row(rows: int, size: int, data: st.DataObject) -> None:
    values = torch.tensor(data.draw(st.lists(tied, min_size=rows * size, max_size=rows * size))).reshape(rows, size)
    kept = data.draw(st.integers(0, size))
    assert torch.equal(keep_best_per_row(values, kept), torch.stack([keep_best(row, kept) for row in values]))


@given(scoped(), sparsity)
def test_keep_best_per_scope_is_keep_best_of_each_scope(problem: tuple[Units, Tensor], fraction: float) -> None:
    units, scores = problem
    scope = units.scope.numbers()
    kept = torch.tensor([kept_units(size, fraction) for size in units.scope.counts().tolist()])
    keep = keep_best_per_scope(scores, scope, kept)
    for number in range(units.scope.n_units):
        assert torch.equal(keep[scope == number], keep_best(scores[scope == number], int(kept[number])))
