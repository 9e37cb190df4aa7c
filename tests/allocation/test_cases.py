"""Allocations by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from secateur.allocation import Allocation, Scored, erdos_renyi, fixed, global_, lamp, uniform
from secateur.allocation.lamp import lamp_scores
from secateur.allocation.scored import along
from secateur.errors import BudgetError, UnknownNameError


def scored(*scores: float, shape: tuple[int, ...] = (), least: float = 0.0, most: float | None = None) -> Scored:
    n = len(scores)
    return Scored(torch.tensor(scores), n, torch.ones(n), shape or (n,), least, 1 - 1 / n if most is None else most)


def layer(*shape: int, most: float = 1.0) -> Scored:
    n = int(torch.Size(shape).numel())
    return Scored(torch.ones(n), n, torch.ones(1).expand(n), shape, most=most)


def counts(allocation: Allocation, groups: dict[str, Scored], sparsity: float) -> dict[str, float]:
    return {name: round(share * groups[name].n_units, 6) for name, share in allocation(groups, sparsity).items()}


# ------------------------------------------------------------------------------------------------------------- global


def test_one_threshold_over_all() -> None:
    groups = {"a": scored(1.0, 5.0, 9.0, 2.0), "b": scored(4.0, 6.0, 7.0, 8.0)}
    assert counts(global_(), groups, 3 / 8) == {"a": 2, "b": 1}
    assert counts(global_(), groups, 0) == {"a": 0, "b": 0}


def test_of_equal_scores_those_of_the_first_groups_go() -> None:
    groups = {"a": scored(1.0, 1.0, 1.0, 2.0), "b": scored(1.0, 1.0, 0.0, 2.0)}
    assert counts(global_(), groups, 3 / 8) == {"a": 2, "b": 1}
    assert counts(global_(), dict(reversed(groups.items())), 3 / 8) == {"a": 0, "b": 3}


def test_the_last_unit_of_a_group_stays_and_others_go_instead() -> None:
    groups = {"a": scored(0.1, 0.2), "b": scored(1.0, 2.0, 3.0, 4.0)}
    assert counts(global_(), groups, 3 / 6) == {"a": 1, "b": 2}


def test_bounds_move_the_threshold_of_the_others() -> None:
    low, high = scored(1.0, 2.0, 3.0, 4.0, most=0.25), scored(5.0, 6.0, 7.0, 8.0)
    assert counts(global_(), {"low": low, "high": high}, 0.5) == {"low": 1, "high": 3}
    forced = scored(5.0, 6.0, 7.0, 8.0, least=0.5)
    assert counts(global_(), {"low": scored(1.0, 2.0, 3.0, 4.0), "forced": forced}, 0.5) == {"low": 2, "forced": 2}


def test_bounds_from_both_sides_at_once() -> None:
    groups = {
        "capped": scored(*range(10), most=0.2),
        "forced": scored(*range(100, 110), least=0.3),
        "free": scored(*range(50, 60)),
    }
    assert counts(global_(), groups, 0.5) == {"capped": 2, "forced": 4, "free": 9}
    assert counts(global_(), groups, 0.2) == {"capped": 2, "forced": 3, "free": 1}


def test_infinite_scores_are_ranked_too() -> None:
    groups = {"a": scored(-torch.inf, -torch.inf, 3.0), "b": scored(torch.inf, -torch.inf, 1.0)}
    assert counts(global_(), groups, 0.5) == {"a": 2, "b": 1}


# --------------------------------------------------------------------------------------------------------------- lamp


def test_lamp_scores_of_1_2_3() -> None:
    found = lamp_scores(torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64))
    assert torch.allclose(found, torch.tensor([1 / 14, 4 / 13, 1], dtype=torch.float64), rtol=1e-15, atol=0)


@pytest.mark.parametrize(
    ("scores", "wanted"),
    [
        ([0.0, 0.0], [0, 0]),
        ([5.0], [1]),
        ([-3.0, 2.0], [0, 1]),
        ([1.0, -torch.inf, 1.0], [-torch.inf, 0.5, 1]),  # of equal ones the later has less left to compare with
        ([1e-25, 1e-25], [0.5, 1]),  # squares far below single precision
    ],
)
def test_lamp_scores_at_the_edges(scores: list[float], wanted: list[float]) -> None:
    assert lamp_scores(torch.tensor(scores)).tolist() == wanted


def test_lamp_ranks_by_what_is_left_of_each_layer() -> None:
    """Squares 1, 4, 9: 1/14, 4/13, 1. Squares 100, 100: 1/2, 1. Magnitude would take all of the first group."""
    groups = {"small": scored(1.0, 2.0, 3.0, most=1.0), "large": scored(10.0, 10.0, most=1.0)}
    assert counts(lamp(), groups, 1 / 5) == {"small": 1, "large": 0}
    assert counts(lamp(), groups, 2 / 5) == {"small": 2, "large": 0}
    assert counts(lamp(), groups, 3 / 5) == {"small": 2, "large": 1}
    assert counts(global_(), groups, 3 / 5) == {"small": 3, "large": 0}


def test_lamp_does_not_depend_on_the_scale_of_a_layer() -> None:
    values = torch.rand(50, generator=torch.Generator().manual_seed(0)).tolist()
    one = {"a": scored(*values), "b": scored(*(value * value for value in values))}
    other = {"a": scored(*(1024 * value for value in values)), "b": one["b"]}
    assert lamp()(one, 0.6) == lamp()(other, 0.6)


# -------------------------------------------------------------------------------------------------------- erdos_renyi


def test_erdos_renyi_with_kernels_by_hand() -> None:
    """Raw densities (8+4+3+3)/288 = 1/16 and (10+10)/100 = 1/5; 388 weights, 194 to stay: eps = 194 / (18 + 20)."""
    groups = {"conv": layer(8, 4, 3, 3), "fc": layer(10, 10)}
    found = erdos_renyi()(groups, 0.5)
    eps = 194 / 38
    # eps / 5 is above 1: the linear layer stays whole, and the convolution keeps the other 94 of its 288.
    assert eps / 5 > 1
    assert found["fc"] == 0
    assert found["conv"] == pytest.approx(1 - 94 / 288, abs=1e-12)
    sparser = erdos_renyi()(groups, 0.9)
    eps = 38.8 / 38
    assert sparser["conv"] == pytest.approx(1 - eps / 16, abs=1e-12)
    assert sparser["fc"] == pytest.approx(1 - eps / 5, abs=1e-12)


def test_erdos_renyi_without_kernels_looks_at_channels_alone() -> None:
    """Raw densities (8+4)/32 = 3/8 and (10+10)/100 = 1/5: densities stand as 15 to 8."""
    found = erdos_renyi(kernel=False)({"conv": layer(8, 4, 3, 3), "fc": layer(10, 10)}, 0.9)
    assert (1 - found["conv"]) / (1 - found["fc"]) == pytest.approx(15 / 8, abs=1e-12)
    assert 288 * found["conv"] + 100 * found["fc"] == pytest.approx(0.9 * 388, abs=1e-9)


# ----------------------------------------------------------------------------------------------------- fixed, uniform


def test_fixed_keeps_proportions_until_a_bound() -> None:
    groups = {"a": layer(10), "b": layer(10), "c": layer(10)}
    found = fixed({"*": 0.2, "c": 0.4})(groups, 0.4)
    assert {name: round(value, 9) for name, value in found.items()} == {"a": 0.3, "b": 0.3, "c": 0.6}
    found = fixed({"*": 0.2, "c": 0.4})(groups, 0.8)
    assert {name: round(value, 9) for name, value in found.items()} == {"a": 0.7, "b": 0.7, "c": 1.0}


def test_fixed_later_entries_win() -> None:
    groups = {"conv1": layer(10), "conv2": layer(10)}
    found = fixed({"conv2": 0.9, "conv*": 0.5})(groups, 0.3)
    assert found["conv1"] == found["conv2"] == pytest.approx(0.3, abs=1e-12)


def test_fixed_cannot_remove_more_than_its_groups_have() -> None:
    groups = {"a": layer(4), "b": layer(100)}
    with pytest.raises(BudgetError, match=r"removes at most 4 of the 104 units\. Name more groups in it"):
        fixed({"a": 0.5})(groups, 0.5)


@pytest.mark.parametrize("sparsities", [{"a": 1.0}, {"a": -0.1}, {"a": float("nan")}, {"a": 0.0}, {}])
def test_fixed_takes_fractions(sparsities: dict[str, float]) -> None:
    with pytest.raises(BudgetError):
        fixed(sparsities)


def test_fixed_names_groups_that_there_are() -> None:
    with pytest.raises(UnknownNameError, match="no group is named 'conv9'; nearest: conv1; there are: conv1"):
        fixed({"conv9": 0.5})({"conv1": layer(4)}, 0.2)


def test_uniform_is_the_same_everywhere_exactly() -> None:
    assert uniform()({"a": layer(7), "b": layer(11)}, 0.3) == {"a": 0.3, "b": 0.3}


def test_uniform_shares_what_bounds_leave() -> None:
    found = uniform()({"a": layer(10, most=0.1), "b": layer(10), "c": layer(20)}, 0.5)
    assert found == {"a": 0.1, "b": pytest.approx(19 / 30, abs=1e-12), "c": pytest.approx(19 / 30, abs=1e-12)}


# ------------------------------------------------------------------------------------------------------------ the rest

EVERY = [uniform(), global_(), lamp(), erdos_renyi(), fixed({"*": 0.5})]


@pytest.mark.parametrize("allocation", EVERY, ids=str)
def test_what_the_bounds_cannot_meet_is_refused(allocation: Allocation) -> None:
    capped = {"a": scored(1.0, 2.0, 3.0, 4.0, most=0.5), "b": scored(1.0, 2.0, 3.0, 4.0, most=0.25)}
    with pytest.raises(BudgetError, match=r"sparsity 0\.75 of 8 units cannot be met.* leave 0 to 0\.375"):
        allocation(capped, 0.75)
    forced = {"a": scored(1.0, 2.0, 3.0, 4.0, least=0.5), "b": scored(1.0, 2.0, 3.0, 4.0, least=0.25)}
    with pytest.raises(BudgetError, match=r"leave 0\.375 to 0\.75"):
        allocation(forced, 0.125)


@pytest.mark.parametrize("allocation", [uniform(), erdos_renyi(), fixed({"*": 0.5})], ids=str)
def test_allocations_that_do_not_rank_need_no_scores(allocation: Allocation) -> None:
    def none() -> Tensor:
        raise AssertionError("scores were computed")

    groups = {"a": Scored(none, 10, torch.ones(10), (2, 5)), "b": Scored(none, 10, torch.ones(10), (10, 1))}
    assert sum(counts(allocation, groups, 0.5).values()) == pytest.approx(10)


@pytest.mark.parametrize("allocation", [global_(), lamp()], ids=str)
def test_lazy_scores_are_computed_when_asked(allocation: Allocation) -> None:
    ready = {"a": scored(1.0, 4.0, 2.0, 8.0), "b": scored(3.0, 5.0, 7.0, 6.0)}
    lazy = {
        name: Scored(group.values, group.n_units, group.weights_per_unit, group.shape, group.least, group.most)
        for name, group in ready.items()
    }
    assert allocation(lazy, 0.5) == allocation(ready, 0.5)


def test_along_finds_the_point_of_a_curve_with_a_jump() -> None:
    """A curve may stand still or jump; the first point at which enough goes is taken."""
    found = along({"a": layer(10)}, 0.5, lambda t: {"a": 0.0 if t < 0.25 else 0.75})
    assert found == {"a": 0.75}
