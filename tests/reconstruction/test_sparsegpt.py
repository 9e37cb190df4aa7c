"""SparseGPT against least squares, against removal one by one, and against what it says of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.errors import DataError, ModelError, SecateurError
from secateur.granularity import weight_layers
from secateur.granularity.layers import LayerWeight
from secateur.ranking import keep_best_per_row
from secateur.reconstruction import sparsegpt
from secateur.reconstruction.matrix import as_matrix, from_matrix, input_rows
from secateur.reconstruction.sparsegpt import inverse_factor, sweep
from secateur.units import removed_units
from tests.nets import LAYERS, layer
from tests.reconstruction.language import Decoder

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


# --------------------------------------------------------------------------------- the method


@given(seeds)
@settings(max_examples=20)
def test_inputs_that_are_orthogonal_leave_nothing_to_mend(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    fc = nn.Linear(8, 6)
    fc.weight.data = torch.randn(6, 8, generator=draw)
    inputs = torch.diag(0.5 + torch.rand(8, generator=draw))
    plan, _ = planned(fc, [inputs], sc.Budget(sparsity=0.5), damping=0.0, block=8)
    wanda = criteria.elementwise(lambda w, norm: w.abs() * norm, needs=("input_norm",), name="wanda")
    pruner = sc.Pruner(wanda, granularity.weight(), allocation.uniform())
    other = pruner.plan(fc, sc.Budget(sparsity=0.5), data=[(inputs, None)])
    keep = plan.masks()["weight"]
    assert torch.equal(keep, other.masks()["weight"])
    assert torch.equal(plan.updates["weight"], fc.weight.detach() * keep)


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_nothing_pruned_is_nothing_changed(kind: str, seeded: torch.Generator) -> None:
    module = layer(kind)
    plan, _ = planned(module, [inputs_for(module, seeded, 30)], sc.Budget(sparsity=0.0))
    assert torch.equal(plan.updates["weight"], module.weight)
    assert plan.masks() == {}
    assert plan.parts[0].reason == "nothing allocated"
    assert plan.made_by["relative_error"] == {"weight": 0.0}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@settings(max_examples=8)
@given(sparsity=st.floats(0, 0.99), block=st.integers(1, 60), seed=seeds)
def test_as_many_leave_as_were_asked(kind: str, sparsity: float, block: int, seed: int) -> None:
    module = layer(kind, seed)
    draw = torch.Generator().manual_seed(seed)
    plan, pruner = planned(module, [inputs_for(module, draw, 30)], sc.Budget(sparsity=sparsity), block=block)
    (units,) = pruner.groups(module).values()
    kept = plan.parts[0].keep
    assert int((~kept).sum()) == removed_units(units, sparsity)
    assert torch.equal(plan.updates["weight"] != 0, units.expand(kept)[next(iter(units.index))])


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2), (3, 4), (4, 4)])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_pattern_holds_in_every_scope(kind: str, n: int, m: int, seeded: torch.Generator) -> None:
    module = layer(kind)
    inputs = [inputs_for(module, seeded, 30)]
    plan, _ = planned(module, inputs, None, granularity.pattern(n, m), block=3)
    (part,) = plan.parts
    assert bool((part.keep.reshape(-1, m).sum(1) == n).all())
    scopes = as_matrix(described(module), plan.updates["weight"]).unflatten(-1, (-1, m))
    assert bool((scopes.count_nonzero(-1) <= n).all())


def test_a_part_of_a_pattern_is_followed_by_a_part_of_the_scopes(seeded: torch.Generator) -> None:
    fc = nn.Linear(16, 5)
    inputs = [(torch.randn(50, 16, generator=seeded), None)]
    pruner = sc.Pruner(sparsegpt(), granularity.pattern(2, 4), allocation.uniform())
    plan = pruner.plan(fc, data=inputs, fraction=0.5)
    kept = plan.parts[0].keep.reshape(-1, 4).sum(1)
    assert sorted(kept.tolist()) == [2] * 10 + [4] * 10


@pytest.mark.parametrize("kind", ["linear", "conv2d", "grouped"])
def test_weights_can_compete_per_output(kind: str, seeded: torch.Generator) -> None:
    """Every output loses as much, as in Wanda."""
    module = layer(kind)
    units = granularity.weight(per_output=True)
    plan, _ = planned(module, [inputs_for(module, seeded, 30)], sc.Budget(sparsity=0.4), units, block=3)
    columns = module.weight[0].numel()
    assert plan.masks()["weight"].flatten(1).sum(1).unique().tolist() == [columns - round(0.4 * columns)]


def test_the_error_it_tells_is_that_of_the_output(seeded: torch.Generator) -> None:
    conv = layer("grouped").double()
    values = inputs_for(conv, seeded, 30).double()
    conv.bias = None
    plan, _ = planned(conv, [values], sc.Budget(sparsity=0.5))
    with torch.no_grad():
        before, after = conv(values), sc.mask(conv, plan)(values)
    told = plan.made_by["relative_error"]["weight"]
    assert told == pytest.approx(float((before - after).square().sum() / before.square().sum()))
    assert 0 < told < 1


def test_mended_is_nearer_than_masked(seeded: torch.Generator) -> None:
    fc = nn.Linear(24, 10)
    values = correlated(seeded, 200, 24).float()
    plan, _ = planned(fc, [values], sc.Budget(sparsity=0.5))
    only_masked = sc.mask(fc, sc.Plan(plan.parts))
    with torch.no_grad():
        errors = [float((fc(values) - its(values)).square().sum()) for its in (sc.mask(fc, plan), only_masked)]
    assert errors[0] < errors[1]


def test_batches_add_up(seeded: torch.Generator) -> None:
    conv = layer("grouped")
    values = inputs_for(conv, seeded, 12)
    whole, apart = (planned(conv, its, sc.Budget(sparsity=0.5))[0] for its in ([values], values.split([5, 7])))
    assert torch.equal(whole.parts[0].keep, apart.parts[0].keep)
    torch.testing.assert_close(whole.updates["weight"], apart.updates["weight"])


@pytest.mark.parametrize("units", [granularity.weight(), granularity.pattern(2, 4)], ids=str)
def test_stages_give_what_whole_passes_give(units: Any) -> None:
    model = Decoder(blocks=3)
    words = [torch.randint(8, (3, 5), generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    budget = sc.Budget(sparsity=0.5) if str(units) == "weight" else None
    one, two = (planned(model, words, budget, units, stages=stages)[0] for stages in ("auto", None))
    assert one.updates.keys() == two.updates.keys()
    assert all(torch.equal(one.updates[name], two.updates[name]) for name in one.updates)
    assert [part.name for part in one.parts] == [part.name for part in two.parts]


def test_a_layer_is_mended_for_what_the_layers_before_put_out(seeded: torch.Generator) -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    values = torch.randn(60, 6, generator=seeded)
    plan, _ = planned(net, [values], sc.Budget(sparsity=0.5))
    before = sc.mask(net, sc.Plan((plan["0"],), {"0.weight": plan.updates["0.weight"]}))
    with torch.no_grad():
        hidden = before[:2](values)
    alone, _ = planned(net[2], [hidden], sc.Budget(sparsity=0.5))
    assert torch.equal(plan.updates["2.weight"], alone.updates["weight"])


def test_inputs_that_are_always_zero_lose_their_weights_first(seeded: torch.Generator) -> None:
    fc = nn.Linear(6, 4)
    fc.weight.data[:, 2] = 100.0
    values = torch.randn(50, 6, generator=seeded)
    values[:, 2] = 0
    plan, _ = planned(fc, [values], sc.Budget(sparsity=0.25), block=6)
    keep = plan.masks()["weight"]
    assert not bool(keep[:, 2].any())
    nothing, _ = planned(fc, [torch.zeros(50, 6)], sc.Budget(sparsity=0.25))
    assert torch.equal(nothing.updates["weight"], fc.weight * nothing.masks()["weight"])


def test_too_few_positions_are_told() -> None:
    with pytest.warns(UserWarning, match=r"weight \(3 positions for 6 inputs\)"):
        planned(nn.Linear(6, 4), [torch.randn(3, 6)], sc.Budget(sparsity=0.5))


def test_a_singular_hessian_without_damping_is_damped_and_told() -> None:
    values = torch.randn(50, 1).expand(50, 4).contiguous()
    with pytest.warns(UserWarning, match="singular at a damping of 0, raised to"):
        plan, _ = planned(nn.Linear(4, 2), [values], sc.Budget(sparsity=0.5), damping=0.0)
    assert bool(torch.isfinite(plan.updates["weight"]).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_stay(dtype: torch.dtype, seeded: torch.Generator) -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).to(dtype)
    plan, _ = planned(net, [torch.randn(50, 8, generator=seeded).to(dtype)], sc.Budget(sparsity=0.5))
    assert {value.dtype for value in plan.updates.values()} == {dtype}
    assert sc.mask(net, plan)[0].weight.count_nonzero() == 32


def test_the_model_is_left_alone(seeded: torch.Generator) -> None:
    model = Decoder(blocks=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    planned(model, [torch.randint(8, (9, 5), generator=seeded)], sc.Budget(sparsity=0.5))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_what_stays_out_is_not_touched(seeded: torch.Generator) -> None:
    model = Decoder(blocks=1)
    pruner = sc.Pruner(sparsegpt(), granularity.weight(), allocation.uniform(), exclude=("head", "*.out"))
    data = [(torch.randint(8, (9, 5), generator=seeded), None)]
    plan = pruner.plan(model, sc.Budget(sparsity=0.5), data=data)
    assert not {"head.weight", "blocks.0.out.weight"} & plan.updates.keys()
    assert plan.made_by["method"] == "sparsegpt(block=128, damping=0.01)"


def test_errors_say_what_to_do(seeded: torch.Generator) -> None:
    values = torch.randn(50, 8, generator=seeded)
    half = sc.Budget(sparsity=0.5)
    with pytest.raises(SecateurError, match=r"block is at least 1 and damping at least 0; given: 0, 0\.01"):
        sparsegpt(block=0)
    with pytest.raises(SecateurError, match="given: 128, -1"):
        sparsegpt(damping=-1)
    with pytest.raises(ModelError, match=r"a unit of 'weight' holds several: use granularity.weight\(\)"):
        planned(nn.Linear(8, 4), [values], half, granularity.filter())
    with pytest.raises(ModelError, match="'weight' is none: exclude it"):
        planned(nn.ConvTranspose1d(8, 4, 2), [torch.randn(3, 8, 5)], half)
    with pytest.raises(DataError, match="sparsegpt needs data and there was no batch"):
        planned(nn.Linear(8, 4), [], half)
    with pytest.raises(DataError, match="what 'weight' reads is not finite"):
        planned(nn.Linear(8, 4), [values / 0], half)
    with pytest.raises(DataError, match="pass data="):
        sc.Pruner(sparsegpt(), granularity.weight(), allocation.uniform()).plan(nn.Linear(8, 4), half)


def test_the_plan_goes_through_a_file(tmp_path: Any, seeded: torch.Generator) -> None:
    fc = nn.Linear(8, 4)
    plan, _ = planned(fc, [torch.randn(50, 8, generator=seeded)], None, granularity.pattern(2, 4))
    plan.save(tmp_path / "plan.safetensors")
    again = sc.Plan.load(tmp_path / "plan.safetensors")
    assert torch.equal(sc.mask(fc, plan).weight, sc.mask(fc, again).weight)
    assert again.made_by["relative_error"] == plan.made_by["relative_error"]
