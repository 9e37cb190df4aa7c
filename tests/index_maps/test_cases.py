"""Index maps by hand, and what they refuse."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

from secateur.errors import PlanError
from secateur.index_maps import Arange, Cover, Embedded, Stored


def test_cut_reorder_join_and_tile_by_hand() -> None:
    """Six channels in two groups of three, positions first: (2, 3, 2) -> (2, 2, 3) -> (4, 3), tiles of 1 x 2."""
    index = Arange((6, 2), split=(2, 3, 2), permute=(0, 2, 1), join=(4, 3), repeat=(1, 2))
    # Rows of the joined matrix: (group 0, position 0), (group 0, position 1), ...; two tiles in each row of three.
    assert index.grid == (4, 2)
    assert index.numbers().tolist() == [[0, 2], [0, 2], [1, 3], [4, 6], [4, 6], [5, 7]]
    assert index.counts().tolist() == [2, 1, 2, 1, 2, 1, 2, 1]
    values = torch.arange(12.0).reshape(6, 2)
    assert index.reduce(values).tolist() == [2, 4, 4, 5, 14, 10, 16, 11]
    assert index.reduce(values, "max").tolist() == [2, 4, 3, 5, 8, 10, 9, 11]
    assert index.reduce(values, "mean").tolist() == [1, 4, 2, 5, 7, 10, 8, 11]


def test_negative_values_survive_the_padding_of_the_last_tile() -> None:
    index = Arange((3,), repeat=(2,))
    assert index.reduce(torch.tensor([-1.0, -2.0, -3.0]), "max").tolist() == [-1.0, -3.0]


def test_tiles_larger_than_the_parameter_are_the_parameter() -> None:
    assert Arange((2, 3), repeat=(99, 99)) == Arange((2, 3), repeat=(2, 3))


def test_whole_dimensions_cost_no_memory() -> None:
    filters = Arange((1 << 20, 1 << 20), repeat=(1, 1 << 20))
    assert filters.mask(torch.ones(1 << 20, dtype=torch.bool)).stride() == (1, 0)
    assert filters.counts().stride() == (0,)


@pytest.mark.parametrize(
    "steps",
    [
        {"shape": (0,)},
        {"shape": (4,), "split": (2, 3)},
        {"shape": (4,), "split": (2, 2), "permute": (0, 0)},
        {"shape": (4,), "permute": (1,)},
        {"shape": (4,), "join": (2, 1)},
        {"shape": (4,), "repeat": (1, 1)},
        {"shape": (4,), "repeat": (0,)},
        {"shape": (4,), "split": (-2, -2)},
    ],
)
def test_steps_that_contradict_are_refused(steps: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="index map"):
        Arange(**steps)


def test_overlapping_patterns_by_hand() -> None:
    """Two kernels of 1 x 3, patterns left and right, which share the middle."""
    cover = Cover((2, 1, 3), (3,), ((0, 1), (1, 2)))
    assert cover.numbers().tolist() == [[[[0, 0, -1]], [[2, 2, -1]]], [[[-1, 1, 1]], [[-1, 3, 3]]]]
    assert cover.counts().tolist() == [2, 2, 2, 2]
    values = torch.tensor([[[1.0, 2.0, 4.0]], [[-1.0, -2.0, -4.0]]])
    assert cover.reduce(values).tolist() == [3, 6, -3, -6]
    assert cover.reduce(values, "max").tolist() == [2, 4, -1, -2]
    assert cover.reduce(values, "mean").tolist() == [1.5, 3, -1.5, -3]
    keep = torch.tensor([True, False, False, True])
    assert cover.mask(keep).tolist() == [[[True, True, False]], [[False, True, True]]]


@pytest.mark.parametrize(
    ("shape", "kernel", "patterns", "why"),
    [
        ((1, 1, 3), (3,), ((0, 3), (1, 2)), r"outside the kernel \(\[3\]\)"),
        ((1, 1, 3), (3,), ((0, -1), (1, 2)), r"outside the kernel \(\[-1\]\)"),
        ((1, 1, 3), (3,), ((0, 1, 2), ()), "is empty"),
        ((1, 1, 3), (3,), ((0, 0, 1, 2),), "positions twice"),
        ((1, 1, 9), (9,), ((0,), (8,)), "keep 2 of the 9 positions"),
        ((1, 1, 3), (3,), (), "keep 0 of the 3 positions"),
        ((1, 1, 3), (2,), ((0, 1),), "has no kernel"),
        ((3,), (), ((0,),), "has no kernel"),
        ((3,), (1, 3), ((0, 1, 2),), "has no kernel"),
    ],
)
def test_patterns_that_do_not_fit_are_refused(shape: Any, kernel: Any, patterns: Any, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        Cover(shape, kernel, patterns)


def test_slices_coupled_across_a_parameter() -> None:
    """Channels 0 and 2 of three leave together; channel 1 belongs to no unit; unit 1 has no weight here."""
    index = Stored((3, 2), torch.tensor([[0], [-1], [0]]), 2)
    assert index.counts().tolist() == [4, 0]
    values = torch.tensor([[1.0, 2.0], [30.0, 40.0], [5.0, -6.0]])
    assert [index.reduce(values, how).tolist() for how in ("sum", "mean", "max")] == [[2, 0], [0.5, 0], [5, 0]]
    assert index.mask(torch.tensor([False, False])).tolist() == [[False] * 2, [True] * 2, [False] * 2]


@pytest.mark.parametrize(
    ("units", "n_units"),
    [
        (torch.tensor([0, 1]), 2),
        (torch.tensor([[0], [1]]), 2),
        (torch.tensor([[0], [2], [1]]), 2),
        (torch.tensor([[0], [-2], [1]]), 2),
        (torch.tensor([[0.0], [1.0], [1.0]]), 2),
        (torch.tensor([[0], [1], [1]], dtype=torch.int32), 2),
    ],
)
def test_integers_that_do_not_fit_are_refused(units: torch.Tensor, n_units: int) -> None:
    with pytest.raises(PlanError):
        Stored((3, 2), units, n_units)


@pytest.mark.parametrize(
    "kept",
    [
        ([0, 1, 2], [0, 1]),
        ([0, 3], [0, 1]),
        ([1, 0], [0, 1]),
        ([1, 1], [0, 1]),
        ([-1, 1], [0, 1]),
        ([0],),
        ([0.0, 1.0], [0, 1]),
        ([[0], [1]], [0, 1]),
        ([False, True], [0, 1]),
    ],
)
def test_positions_that_do_not_fit_are_refused(kept: Any) -> None:
    inner = Arange((2, 2))
    assert Embedded(inner, (3, 2), (torch.tensor([0, 2]), torch.tensor([0, 1]))).n_units == 4
    with pytest.raises(PlanError, match="do not set a map"):
        Embedded(inner, (3, 2), tuple(torch.tensor(at) for at in kept))


def test_maps_can_be_sent_to_another_process() -> None:
    index = Embedded(Cover((1, 2), (2,), ((0,), (1,))), (2, 2), (torch.tensor([1]), torch.tensor([0, 1])))
    again = pickle.loads(pickle.dumps(index))  # noqa: S301  our own bytes
    assert torch.equal(again.numbers(), index.numbers())
