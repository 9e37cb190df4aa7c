"""SparseGPT against least squares, against removal one by one, and against what it says of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, granularity
from secateur.granularity import weight_layers
from secateur.granularity.layers import LayerWeight
from secateur.ranking import keep_best_per_row
from secateur.reconstruction import sparsegpt
from secateur.reconstruction.matrix import as_matrix, from_matrix, input_rows
from secateur.reconstruction.sparsegpt import inverse_factor, sweep
from tests.nets import LAYERS, layer

seeds = st.integers(0, 100)
CONVOLUTIONS = [kind for kind in LAYERS if "transposed" not in kind]

STRIDES: dict[str, Callable[[], nn.Module]] = {
    "strides and padding": lambda: nn.Conv2d(4, 3, (3, 2), stride=(2, 1), padding=(1, 2)),
    "dilation": lambda: nn.Conv2d(4, 3, (3, 2), dilation=(2, 3)),
    "same": lambda: nn.Conv2d(4, 3, (4, 2), padding="same", dilation=(2, 2)),
    "circular": lambda: nn.Conv1d(4, 3, 3, padding=2, padding_mode="circular"),
    "reflect": lambda: nn.Conv2d(4, 3, 3, padding=(1, 2), padding_mode="reflect"),
    "depthwise": lambda: nn.Conv2d(4, 8, 3, groups=4),
    **{kind: LAYERS[kind] for kind in CONVOLUTIONS},
}


def inputs_for(module: Any, draw: torch.Generator, batch: int = 5) -> Tensor:
    if isinstance(module, nn.Linear):
        return torch.randn(batch, 7, module.in_features, generator=draw)
    sizes = (batch, module.in_channels, *(8, 7, 6)[: len(module.kernel_size)])
    return torch.randn(sizes, generator=draw)


def described(module: nn.Module) -> LayerWeight:
    return next(iter(weight_layers(module)))


def planned(
    model: nn.Module, inputs: Any, budget: sc.Budget | None, units: Any = None, **options: Any
) -> tuple[sc.Plan, sc.Pruner]:
    pruner = sc.Pruner(sparsegpt(**options), units or granularity.weight(), allocation.uniform())
    return pruner.plan(model, budget, data=[(one, None) for one in inputs]), pruner


def correlated(draw: torch.Generator, positions: int, width: int) -> Tensor:
    """Rows that a few directions explain in part."""
    mixed = torch.randn(positions, 3, generator=draw) @ torch.randn(3, width, generator=draw)
    return (mixed + torch.randn(positions, width, generator=draw)).double()


def least_squares(row: Tensor, X: Tensor, keep: Tensor) -> Tensor:
    """The weights that stay, such that the output changes least."""
    best = torch.zeros_like(row)
    best[keep] = torch.linalg.lstsq(X[:, keep], (X @ row)[:, None]).solution[:, 0]
    return best


def one_by_one(row: Tensor, X: Tensor, removed: int) -> Tensor:
    """Optimal brain surgeon: the cheapest weight leaves, all others make up for it, and again."""
    row, gone = row.clone(), torch.zeros(len(row), dtype=torch.bool)
    for _ in range(removed):
        left = ~gone
        inverse = torch.zeros(len(row), len(row), dtype=row.dtype)
        inverse[left.outer(left)] = torch.linalg.inv(X[:, left].T @ X[:, left]).flatten()
        costs = (row.square() / inverse.diagonal()).masked_fill(gone, torch.inf)
        worst = int(costs.argmin())
        row -= row[worst] / inverse[worst, worst] * inverse[worst]
        gone[worst], row[worst] = True, 0
    return row.masked_fill(gone, 0)


def lost(before: Tensor, after: Tensor, X: Tensor) -> Tensor:
    """Squared change of the outputs of every row."""
    return (X @ (before - after).mT).square().sum(0)


# --------------------------------------------------------------------------------- the layer as matrices


@pytest.mark.parametrize("kind", STRIDES)
def test_rows_times_columns_are_the_layers_output(kind: str, seeded: torch.Generator) -> None:
    module: Any = STRIDES[kind]()
    module.bias = None
    values = inputs_for(module, seeded)
    wanted = module(values)
    channels_last = wanted if isinstance(module, nn.Linear) else wanted.movedim(1, -1)
    its = described(module)
    rows = torch.cat(list(input_rows(its, module, values)), 1)
    found = (rows @ as_matrix(its, module.weight).mT).transpose(0, 1).flatten(1)
    torch.testing.assert_close(found, channels_last.reshape(found.shape))


@pytest.mark.parametrize("kind", LAYERS)
def test_a_matrix_goes_back(kind: str) -> None:
    its = described(layer(kind))
    weight = torch.randn(its.shape)
    assert torch.equal(from_matrix(its, as_matrix(its, weight)), weight)


def test_a_sample_without_a_batch_is_a_batch_of_one(seeded: torch.Generator) -> None:
    conv = nn.Conv2d(2, 3, 3)
    one = torch.randn(2, 6, 6, generator=seeded)
    assert torch.equal(*(next(input_rows(described(conv), conv, its)) for its in (one, one[None])))


# --------------------------------------------------------------------------------- the sweep


@given(seeds, st.integers(1, 12))
def test_the_factor_is_that_of_the_inverse(seed: int, size: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    X = torch.randn(2 * size + 3, size, generator=draw, dtype=torch.float64)
    upper = inverse_factor(X.T @ X)
    assert upper is not None
    assert torch.equal(upper, upper.triu())
    torch.testing.assert_close(upper.T @ upper @ X.T @ X, torch.eye(size, dtype=torch.float64))


def test_a_singular_matrix_has_no_factor() -> None:
    assert inverse_factor(torch.ones(3, 3, dtype=torch.float64)) is None
    assert inverse_factor(torch.zeros(2, 2)) is None


def swept(seed: int, block: int, step: int, removed: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
    """X, a weight before and after, what stayed, and the costs at which columns were chosen."""
    draw = torch.Generator().manual_seed(seed)
    X, weight = correlated(draw, 60, 12), torch.randn(4, 12, generator=draw, dtype=torch.float64)
    costs: list[Tensor] = []

    def choose(first: int, its: Tensor) -> Tensor:
        costs.append(its)
        return keep_best_per_row(its, its.shape[1] - max(1, round(removed * its.shape[1] / 12)))

    upper = inverse_factor(2 * X.T @ X)
    assert upper is not None
    after, keep = sweep(weight, upper, choose, block, step)
    return X, weight, after, keep, costs


@given(seeds, st.sampled_from([(12, 12), (12, 4), (4, 4), (8, 2), (100, 12)]))
def test_no_mask_is_mended_better_than_least_squares(seed: int, how: tuple[int, int]) -> None:
    X, before, after, keep, _ = swept(seed, *how)
    best = torch.stack([least_squares(row, X, mask) for row, mask in zip(before, keep, strict=True)])
    assert bool((lost(before, after, X) >= lost(before, best, X) * (1 - 1e-9)).all())
    assert bool((after[~keep] == 0).all())


@given(seeds)
def test_where_only_the_first_columns_leave_it_is_least_squares(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    X, weight = correlated(draw, 60, 12), torch.randn(4, 12, generator=draw, dtype=torch.float64)
    keep = torch.arange(12).expand(4, 12) >= torch.tensor([[0], [3], [7], [11]])
    upper = inverse_factor(2 * X.T @ X)
    assert upper is not None
    after, _ = sweep(weight, upper, lambda first, costs: keep[:, first : first + costs.shape[1]], 5, 5)
    best = torch.stack([least_squares(row, X, mask) for row, mask in zip(weight, keep, strict=True)])
    torch.testing.assert_close(after, best)


@given(seeds, st.sampled_from([1, 3, 12]))
def test_the_output_changes_by_what_the_removed_weights_cost(seed: int, block: int) -> None:
    """With the mask chosen column by column the costs are those at the time: their sum is `1/2 tr(D H D^T)` twice."""
    draw = torch.Generator().manual_seed(seed)
    X, weight = correlated(draw, 60, 12), torch.randn(4, 12, generator=draw, dtype=torch.float64)
    keep = torch.rand(4, 12, generator=draw) < 0.5
    paid: list[Tensor] = []

    def choose(first: int, costs: Tensor) -> Tensor:
        paid.append(costs[~keep[:, first : first + 1]].sum())
        return keep[:, first : first + 1]

    upper = inverse_factor(X.T @ X)
    assert upper is not None
    after, _ = sweep(weight, upper, choose, block, 1)
    torch.testing.assert_close(lost(weight, after, X).sum(), torch.stack(paid).sum())


@pytest.mark.parametrize("block", [1, 4, 7, 12, 50])
def test_corrections_may_be_put_off_to_the_end_of_a_block(block: int) -> None:
    """With one given mask the size of the blocks makes no difference."""
    draw = torch.Generator().manual_seed(3)
    X, weight = correlated(draw, 60, 12), torch.randn(4, 12, generator=draw, dtype=torch.float64)
    keep = torch.rand(4, 12, generator=draw) < 0.5
    upper = inverse_factor(X.T @ X)
    assert upper is not None

    def choose(first: int, costs: Tensor) -> Tensor:
        return keep[:, first : first + costs.shape[1]]

    found, plain = (sweep(weight, upper, choose, size, 1)[0] for size in (block, 1))
    torch.testing.assert_close(found, plain)


def test_removal_one_by_one_is_least_squares_on_its_own_mask() -> None:
    """The reference against itself."""
    draw = torch.Generator().manual_seed(0)
    X, row = correlated(draw, 60, 12), torch.randn(12, generator=draw, dtype=torch.float64)
    found = one_by_one(row, X, 6)
    torch.testing.assert_close(found, least_squares(row, X, found != 0))


def test_on_average_it_lies_between_removal_one_by_one_and_a_mask_alone() -> None:
    totals = torch.zeros(3, dtype=torch.float64)
    for seed in range(20):
        X, before, after, _, _ = swept(seed, 12, 12)
        exact = torch.stack([one_by_one(row, X, 6) for row in before])
        norms = before.abs() * X.square().sum(0).sqrt()
        alone = before.masked_fill(~keep_best_per_row(norms, 6), 0)
        totals += torch.stack([lost(before, its, X).sum() for its in (exact, after, alone)])
    one_at_a_time, found, masked = totals.tolist()
    assert one_at_a_time < found < masked
