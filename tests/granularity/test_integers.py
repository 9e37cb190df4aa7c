"""The integers of every granularity, written out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from secateur import granularity
from secateur.errors import BudgetError, PlanError, UnknownNameError
from secateur.units import Units
from tests.nets import numbers


def units_of(build: granularity.Granularity, model: nn.Module) -> Units:
    (units,) = build(model).values()
    return units


LINEAR = [
    (granularity.weight(), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]),
    (granularity.weight(per_output=True), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]),
    (granularity.filter(), [[0] * 4, [1] * 4, [2] * 4, [3] * 4]),
    (granularity.input_channel(), [[0, 1, 2, 3]] * 4),
    (granularity.block(2, 2), [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]),
    (granularity.block(3, 1), [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]]),
    (granularity.block(1, 3), [[0, 0, 0, 1], [2, 2, 2, 3], [4, 4, 4, 5], [6, 6, 6, 7]]),
    (granularity.block(9, 9), [[0] * 4] * 4),
    (granularity.pattern(2, 4), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]),
]


@pytest.mark.parametrize(("build", "wanted"), LINEAR, ids=[str(build) for build, _ in LINEAR])
def test_4x4_linear(build: granularity.Granularity, wanted: list[list[int]]) -> None:
    assert numbers(units_of(build, nn.Linear(4, 4))).tolist() == wanted


def filled(value: int) -> list[list[int]]:
    return [[value] * 3] * 3


def grid(first: int) -> list[list[int]]:
    return [[first, first + 1, first + 2], [first + 3, first + 4, first + 5], [first + 6, first + 7, first + 8]]


def rows(first: int) -> list[list[int]]:
    return [[first] * 3, [first + 1] * 3, [first + 2] * 3]


def columns(first: int) -> list[list[int]]:
    return [[first, first + 1, first + 2]] * 3


CONV = [  # 2 output channels, 4 input channels, 3 x 3
    (granularity.weight(), [[grid(0), grid(9), grid(18), grid(27)], [grid(36), grid(45), grid(54), grid(63)]]),
    (granularity.vector("row"), [[rows(0), rows(3), rows(6), rows(9)], [rows(12), rows(15), rows(18), rows(21)]]),
    (
        granularity.vector("column"),
        [[columns(0), columns(3), columns(6), columns(9)], [columns(12), columns(15), columns(18), columns(21)]],
    ),
    (
        granularity.kernel(),
        [[filled(0), filled(1), filled(2), filled(3)], [filled(4), filled(5), filled(6), filled(7)]],
    ),
    (granularity.filter(), [[filled(0)] * 4, [filled(1)] * 4]),
    (granularity.input_channel(), [[filled(0), filled(1), filled(2), filled(3)]] * 2),
    # Blocks of the 2 x 36 im2col matrix: 36 columns, kernel position by kernel position, four input channels in each.
    (granularity.block(2, 4), [[grid(0)] * 4] * 2),
    (
        granularity.block(1, 2),
        [
            [
                [[0, 2, 4], [6, 8, 10], [12, 14, 16]],
                [[0, 2, 4], [6, 8, 10], [12, 14, 16]],
                [[1, 3, 5], [7, 9, 11], [13, 15, 17]],
                [[1, 3, 5], [7, 9, 11], [13, 15, 17]],
            ],
            [
                [[18, 20, 22], [24, 26, 28], [30, 32, 34]],
                [[18, 20, 22], [24, 26, 28], [30, 32, 34]],
                [[19, 21, 23], [25, 27, 29], [31, 33, 35]],
                [[19, 21, 23], [25, 27, 29], [31, 33, 35]],
            ],
        ],
    ),
    # Column 4 p + i is input channel i at kernel position p; 16 columns to a block, the last block has 4.
    (granularity.block(2, 16), [[[[0, 0, 0], [0, 1, 1], [1, 1, 2]]] * 4] * 2),
    (
        granularity.pattern(2, 4),
        [
            [
                [[0, 4, 8], [12, 16, 20], [24, 28, 32]],
                [[1, 5, 9], [13, 17, 21], [25, 29, 33]],
                [[2, 6, 10], [14, 18, 22], [26, 30, 34]],
                [[3, 7, 11], [15, 19, 23], [27, 31, 35]],
            ],
            [
                [[36, 40, 44], [48, 52, 56], [60, 64, 68]],
                [[37, 41, 45], [49, 53, 57], [61, 65, 69]],
                [[38, 42, 46], [50, 54, 58], [62, 66, 70]],
                [[39, 43, 47], [51, 55, 59], [63, 67, 71]],
            ],
        ],
    ),
]


@pytest.mark.parametrize(("build", "wanted"), CONV, ids=[str(build) for build, _ in CONV])
def test_2x4x3x3_convolution(build: granularity.Granularity, wanted: Any) -> None:
    assert numbers(units_of(build, nn.Conv2d(4, 2, 3))).tolist() == wanted


def test_kernel_patterns_of_a_2x4x3x3_convolution() -> None:
    """Two patterns, the upper two rows and the lower two: kernel k has units 2 k and 2 k + 1."""
    units = units_of(granularity.kernel_pattern([(0, 1, 2, 3, 4, 5), (3, 4, 5, 6, 7, 8)]), nn.Conv2d(4, 2, 3))
    upper, lower = numbers(units).tolist()
    assert upper[0][0] == [[0, 0, 0], [0, 0, 0], [-1, -1, -1]]
    assert lower[0][0] == [[-1, -1, -1], [1, 1, 1], [1, 1, 1]]
    assert upper[1][2] == [[12, 12, 12], [12, 12, 12], [-1, -1, -1]]
    assert lower[1][3] == [[-1, -1, -1], [15, 15, 15], [15, 15, 15]]
    assert units.scope.numbers().tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]
    assert units.keep_per_scope == 1


GROUPED = [  # 4 output channels, 4 input channels in two groups: a weight of 4 x 2 x 1 x 2
    (granularity.filter(), [[[[0, 0]]] * 2, [[[1, 1]]] * 2, [[[2, 2]]] * 2, [[[3, 3]]] * 2]),
    # The second group reads input channels 2 and 3.
    (granularity.input_channel(), [[[[0, 0]], [[1, 1]]]] * 2 + [[[[2, 2]], [[3, 3]]]] * 2),
    (
        granularity.kernel(),
        [[[[0, 0]], [[1, 1]]], [[[2, 2]], [[3, 3]]], [[[4, 4]], [[5, 5]]], [[[6, 6]], [[7, 7]]]],
    ),
    # Three rows would cross the groups; they do not.
    (granularity.block(3, 2), [[[[0, 1]]] * 2] * 2 + [[[[2, 3]]] * 2] * 2),
    (
        granularity.pattern(1, 2),
        [[[[0, 2]], [[1, 3]]], [[[4, 6]], [[5, 7]]], [[[8, 10]], [[9, 11]]], [[[12, 14]], [[13, 15]]]],
    ),
]


@pytest.mark.parametrize(("build", "wanted"), GROUPED, ids=[str(build) for build, _ in GROUPED])
def test_grouped_convolution(build: granularity.Granularity, wanted: Any) -> None:
    assert numbers(units_of(build, nn.Conv2d(4, 4, (1, 2), groups=2))).tolist() == wanted


TRANSPOSED = [  # 2 input channels first, then 3 output channels, kernel of 2
    (granularity.filter(), [[[0, 0], [1, 1], [2, 2]]] * 2),
    (granularity.input_channel(), [[[0, 0]] * 3, [[1, 1]] * 3]),
    (granularity.kernel(), [[[0, 0], [1, 1], [2, 2]], [[3, 3], [4, 4], [5, 5]]]),
    # Rows of the im2col matrix are output channels: o has columns (position 0: i0, i1), (position 1: i0, i1).
    (granularity.weight(per_output=True), [[[0, 2], [4, 6], [8, 10]], [[1, 3], [5, 7], [9, 11]]]),
    (granularity.pattern(1, 2), [[[0, 2], [4, 6], [8, 10]], [[1, 3], [5, 7], [9, 11]]]),
    (granularity.block(2, 2), [[[0, 1], [0, 1], [2, 3]]] * 2),
]


@pytest.mark.parametrize(("build", "wanted"), TRANSPOSED, ids=[str(build) for build, _ in TRANSPOSED])
def test_transposed_convolution(build: granularity.Granularity, wanted: Any) -> None:
    assert numbers(units_of(build, nn.ConvTranspose1d(2, 3, 2))).tolist() == wanted


GROUPED_TRANSPOSED = [  # 4 input channels in two groups, 2 output channels in each: a weight of 4 x 2 x 1
    (granularity.filter(), [[[0], [1]]] * 2 + [[[2], [3]]] * 2),
    (granularity.input_channel(), [[[0]] * 2, [[1]] * 2, [[2]] * 2, [[3]] * 2]),
    (granularity.pattern(1, 2), [[[0], [2]], [[1], [3]], [[4], [6]], [[5], [7]]]),
]


@pytest.mark.parametrize(("build", "wanted"), GROUPED_TRANSPOSED, ids=[str(build) for build, _ in GROUPED_TRANSPOSED])
def test_grouped_transposed_convolution(build: granularity.Granularity, wanted: Any) -> None:
    assert numbers(units_of(build, nn.ConvTranspose1d(4, 4, 1, groups=2))).tolist() == wanted


def test_a_filter_is_what_makes_one_output_and_an_input_channel_what_reads_one_input() -> None:
    """Said by the layer itself, grouped and transposed: where a gradient reaches."""
    module = nn.ConvTranspose2d(4, 6, 2, groups=2)
    filters = numbers(units_of(granularity.filter(), module))
    outputs = module(torch.rand(1, 4, 3, 3))
    for channel in range(6):
        (gradient,) = torch.autograd.grad(outputs[:, channel].sum(), module.weight, retain_graph=True)
        assert torch.equal(gradient != 0, filters.expand_as(gradient) == channel)
    readers = numbers(units_of(granularity.input_channel(), module))
    for channel in range(4):
        image = torch.zeros(1, 4, 3, 3)
        image[:, channel] = 1
        (gradient,) = torch.autograd.grad(module(image).sum(), module.weight)
        assert torch.equal(gradient != 0, readers.expand_as(gradient) == channel)


def test_vectors_of_other_dimensions() -> None:
    flat = nn.Conv1d(1, 2, 3)
    assert numbers(units_of(granularity.vector("row"), flat)).tolist() == [[[0, 0, 0]], [[1, 1, 1]]]
    assert numbers(units_of(granularity.vector("column"), flat)).tolist() == [[[0, 1, 2]], [[3, 4, 5]]]
    solid = nn.Conv3d(1, 1, 2)
    assert numbers(units_of(granularity.vector("row"), solid)).flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert numbers(units_of(granularity.vector("column"), solid)).flatten().tolist() == [0, 1, 0, 1, 2, 3, 2, 3]


def test_roles_and_scopes() -> None:
    model = nn.Conv2d(4, 2, 3)
    assert set(units_of(granularity.input_channel(), model).role.values()) == {"in"}
    assert set(units_of(granularity.filter(), model).role.values()) == {"out"}
    rows = units_of(granularity.weight(per_output=True), model).scope
    assert rows.numbers().tolist() == [0] * 36 + [1] * 36
    free = [build for build, _ in CONV if "pattern" not in str(build)]
    assert all(units_of(build, model).scope.n_units == 1 for build in free)
    two_of_four = units_of(granularity.pattern(2, 4), model)
    assert (two_of_four.keep_per_scope, two_of_four.scope.n_units, two_of_four.full_sparsity) == (2, 18, 0.5)


@pytest.mark.parametrize("n_m", [(3, 2), (0, 4), (-1, 4)])
def test_pattern_keeps_n_of_m(n_m: tuple[int, int]) -> None:
    with pytest.raises(BudgetError, match=f"given: {n_m[0]}:{n_m[1]}"):
        granularity.pattern(*n_m)


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0), (-2, 3)])
def test_blocks_have_a_size(sizes: tuple[int, int]) -> None:
    with pytest.raises(BudgetError, match=f"given: {sizes[0]} x {sizes[1]}"):
        granularity.block(*sizes)


def test_vectors_are_rows_or_columns() -> None:
    with pytest.raises(UnknownNameError, match="no vector axis is named 'rows'; nearest: row"):
        granularity.vector("rows")  # type: ignore[arg-type]


@pytest.mark.parametrize("patterns", [[(0, 9)], [(0, 1), ()], [(0, 0)], [(0, 1)]])
def test_patterns_fit_the_kernel(patterns: list[tuple[int, ...]]) -> None:
    with pytest.raises(PlanError):
        granularity.kernel_pattern(patterns)
