"""Units by hand: what they refuse, how values are folded, and which stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from secateur import granularity
from secateur.errors import BudgetError, PlanError
from secateur.index_maps import Arange, Stored
from secateur.units import ParameterAxis, Units, fold, kept_units, removed_units, select
from tests.nets import WEIGHT, one_scope

BIAS = ParameterAxis("bias", 0)


def coupled() -> Units:
    """Three channels: rows of a 3 x 2 weight, each with its bias."""
    index = {WEIGHT: Arange((3, 2), repeat=(1, 2)), BIAS: Arange((3,))}
    return Units(index, Arange((3,), repeat=(3,)), {WEIGHT: "out", BIAS: "bias"})


def test_weights_are_counted_over_all_parameters() -> None:
    assert coupled().weights_per_unit.tolist() == [3, 3, 3]
    assert coupled().shape == (3, 2)


def test_values_are_folded_within_and_across_parameters() -> None:
    values = {WEIGHT: torch.tensor([[1.0, 5.0], [2.0, 2.0], [0.0, -1.0]]), BIAS: torch.tensor([10.0, -20.0, 30.0])}
    assert coupled().reduce(values).tolist() == [16, -16, 29]
    assert coupled().reduce(values, "mean", "sum").tolist() == [13, -18, 29.5]
    assert coupled().reduce(values, "max", "max").tolist() == [10, 2, 30]
    assert coupled().reduce(values, "sum", "mean").tolist() == [8, -8, 14.5]
    assert coupled().reduce({BIAS: values[BIAS]}).tolist() == [10, -20, 30]


@pytest.mark.parametrize("saliency", [{}, {ParameterAxis("weight", 0): torch.ones(3, 2)}])
def test_values_of_other_parameters_are_refused(saliency: Any) -> None:
    with pytest.raises(PlanError, match="cannot be reduced over"):
        coupled().reduce(saliency)


def test_a_decision_reaches_every_parameter() -> None:
    masks = coupled().expand(torch.tensor([True, False, True]))
    assert masks[WEIGHT].tolist() == [[True, True], [False, False], [True, True]]
    assert masks[BIAS].tolist() == [True, False, True]
    with pytest.raises(PlanError, match=r"keep has shape \(2,\), expected \(3,\)"):
        coupled().expand(torch.tensor([True, False]))


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
def test_fold_of_one_is_itself(how: Any) -> None:
    assert fold([torch.tensor([1.0, -2.0])], how).tolist() == [1.0, -2.0]


ROWS = Arange((2, 3), repeat=(1, 3))
TWO = Arange((2,), repeat=(2,))


@pytest.mark.parametrize(
    ("index", "scope", "role", "keep", "why"),
    [
        ({}, TWO, {}, None, "a role for each of"),
        ({WEIGHT: ROWS}, TWO, {}, None, "a role for each of"),
        ({WEIGHT: ROWS}, TWO, {BIAS: "out"}, None, "a role for each of"),
        ({WEIGHT: ROWS}, Arange((2, 1)), {WEIGHT: "out"}, None, "a scope over one dimension"),
        ({WEIGHT: ROWS}, Arange((3,)), {WEIGHT: "out"}, None, "numbers 2 units, the scope 3"),
        ({WEIGHT: ROWS}, TWO, {WEIGHT: "out"}, 3, "keeping 3 units of every scope"),
        ({WEIGHT: ROWS}, TWO, {WEIGHT: "out"}, 0, "keeping 0 units of every scope"),
        ({WEIGHT: ROWS}, Stored((2,), torch.tensor([0, 0]), 1), {WEIGHT: "out"}, 1, "consecutive scopes"),
        ({WEIGHT: Arange((3,))}, Arange((3,), repeat=(2,)), {WEIGHT: "out"}, 1, "of one larger size"),
    ],
)
def test_units_that_contradict_themselves_are_refused(index: Any, scope: Any, role: Any, keep: Any, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        Units(index, scope, role, keep)


@pytest.mark.parametrize(
    ("count", "sparsity", "kept"),
    [(10, 0.0, 10), (10, 0.3, 7), (10, 0.34, 7), (10, 0.36, 6), (10, 0.99, 1), (10, 1.0, 1), (1, 1.0, 1), (3, 0.5, 1)],
)
def test_kept_units(count: int, sparsity: float, kept: int) -> None:
    assert kept_units(count, sparsity) == kept


def test_scopes_of_different_sizes_lose_their_own_share() -> None:
    scope = Stored((8,), torch.tensor([0, 1, 0, 1, 0, 1, 0, 2]), 3)
    units = one_scope(8, scope)
    scores = torch.tensor([1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0, 0.0])
    # Four units lose two, three lose two (1.5 rounds to the even 2), one loses none: it is the last of its scope.
    assert select(units, scores, 0.5).tolist() == [False, True, False, False, True, False, True, True]
    assert removed_units(units, 0.5) == 4


def test_of_equal_scores_the_first_stay() -> None:
    assert select(one_scope(5), torch.zeros(5), 0.6).tolist() == [True, True, False, False, False]
    two = one_scope(6, Arange((6,), repeat=(3,)))
    assert select(two, torch.zeros(6), 0.34).tolist() == [True, True, False, True, True, False]


def test_what_must_go_first_goes_first() -> None:
    scores = torch.tensor([-torch.inf, 5.0, -torch.inf, -9.0])
    assert select(one_scope(4), scores, 0.5).tolist() == [False, True, False, True]
    assert select(one_scope(4), torch.full((4,), -torch.inf), 1.0).tolist() == [True, False, False, False]


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, float("nan"), float("inf")])
def test_sparsity_is_a_fraction(sparsity: float) -> None:
    with pytest.raises(BudgetError, match="between 0 and 1; given"):
        select(one_scope(3), torch.ones(3), sparsity)


def test_scores_that_do_not_fit_are_refused() -> None:
    with pytest.raises(PlanError, match=r"3 units need as many scores; given: \(4,\)"):
        select(one_scope(3), torch.ones(4), 0.5)
    with pytest.raises(PlanError, match="scores hold NaN"):
        select(one_scope(3), torch.tensor([1.0, torch.nan, 2.0]), 0.5)


def test_more_than_a_pattern_can_remove_is_refused() -> None:
    units = granularity.pattern(3, 4)(nn.Linear(8, 2))["weight"]
    with pytest.raises(BudgetError, match=r"keeps 3 of every 4 units, so at most 0\.25 of them can go; 0\.5 was asked"):
        select(units, torch.rand(16), 0.5)


def test_frozen_units_stay_whatever_is_asked() -> None:
    units = one_scope(4, frozen="because")
    assert bool(select(units, torch.ones(4), 0.9).all())
    assert removed_units(units, 0.9) == 0


def test_full_sparsity() -> None:
    assert one_scope(4).full_sparsity is None
    assert one_scope(8, Arange((8,), repeat=(4,)), keep=1).full_sparsity == 0.75
    assert one_scope(4, Arange((4,), repeat=(2,)), keep=2).full_sparsity == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_scores_of_any_precision(dtype: torch.dtype) -> None:
    scores = torch.tensor([3.0, 1.0, 2.0, 1.0], dtype=dtype)
    assert select(one_scope(4), scores, 0.5).tolist() == [True, False, True, False]
