"""Random scores, and criteria made of criteria."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from secateur import criteria
from secateur.criteria import Criterion, Group, normalized, weighted
from secateur.errors import SecateurError, UnknownNameError
from tests.nets import WEIGHT, one_scope


def group(n: int = 6, name: str = "it") -> Group:
    return Group(name, one_scope(n), {WEIGHT: torch.ones(n)})


def fixed(*scores: float) -> Criterion:
    return Criterion("fixed", lambda _: torch.tensor(scores))


def test_random_depends_on_seed_and_group_alone() -> None:
    same = criteria.random(1).score(group())
    assert torch.equal(same, criteria.random(1).score(Group("it", one_scope(6), {WEIGHT: torch.zeros(6)})))
    assert not torch.equal(same, criteria.random(2).score(group()))
    assert not torch.equal(same, criteria.random(1).score(group(name="other")))


def test_random_is_uniform_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    scores = criteria.random(-5).score(group(20_000))
    assert torch.equal(before, torch.get_rng_state())
    assert 0 <= float(scores.min()) < 0.001
    assert 0.999 < float(scores.max()) < 1
    assert float(scores.mean()) == pytest.approx(0.5, abs=4 / math.sqrt(12 * 20_000))  # four standard errors


@pytest.mark.parametrize(
    ("by", "size"), [("mean", 2.0), ("max", 4.0), ("sum", 8.0), ("std", math.sqrt(1.5)), ("norm", math.sqrt(22))]
)
def test_normalized_divides_by_a_number_of_the_group(by, size: float) -> None:
    scores = torch.tensor([1.0, 2.0, 1.0, 4.0])
    found = normalized(fixed(1.0, 2.0, 1.0, 4.0), by).score(group())
    assert torch.allclose(found, scores / size)


@pytest.mark.parametrize("by", ["mean", "max", "sum", "std", "norm"])
def test_scores_of_size_zero_stay(by) -> None:
    assert normalized(fixed(0.0, 0.0), by).score(group()).tolist() == [0, 0]


@pytest.mark.parametrize("by", ["mean", "max", "sum", "std", "norm"])
def test_negative_scores_keep_their_order(by) -> None:
    """Divided by their own sum, which is negative, the worst unit would become the best."""
    found = normalized(fixed(-3.0, -1.0, -2.0), by).score(group())
    assert found.argsort().tolist() == [0, 2, 1]


def test_one_unit_has_no_spread_and_keeps_its_score() -> None:
    assert normalized(fixed(3.0), "std").score(group()).tolist() == [3]


def test_normalized_needs_and_names_what_it_wraps() -> None:
    inner = Criterion("taylor", lambda _: torch.ones(1), frozenset({"gradient"}))
    found = normalized(inner, "max")
    assert found.needs == {"gradient"}
    assert str(found) == "normalized(taylor, by=max)"
    with pytest.raises(UnknownNameError, match="no way to normalise is named 'maximum'"):
        normalized(inner, "maximum")  # type: ignore[arg-type]


def test_weighted_adds_up_and_needs_what_its_terms_need() -> None:
    def needing(*needs: str) -> Criterion:
        return Criterion(needs[0], lambda _: torch.tensor([1.0, -1.0]), frozenset(needs))

    both = weighted((2.0, fixed(1.0, 2.0)), (-0.5, needing("gradient")), (1, needing("zeros", "gradient")))
    assert both.score(group()).tolist() == [2 - 0.5 + 1, 4 + 0.5 - 1]
    assert both.needs == {"gradient", "zeros"}
    assert str(both) == "weighted(2 fixed + -0.5 gradient + 1 zeros)"


def test_weighted_of_nothing_is_refused() -> None:
    with pytest.raises(SecateurError, match="at least one pair"):
        weighted()


def test_a_criterion_does_not_change_what_it_is_given() -> None:
    kept: list[Tensor] = [torch.tensor([1.0, 3.0])]
    once = Criterion("kept", lambda _: kept[0])
    normalized(once).score(group())
    weighted((3.0, once), (1.0, once)).score(group())
    assert kept[0].tolist() == [1, 3]
