"""SparseGPT on layers and models: counts, patterns, batches, stages, precisions, and what it says of itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.errors import DataError, ModelError, SecateurError
from secateur.reconstruction import sparsegpt
from secateur.reconstruction.matrix import as_matrix
from secateur.units import removed_units
from tests.nets import layer
from tests.reconstruction.language import Decoder
from tests.reconstruction.test_sparsegpt import CONVOLUTIONS, correlated, described, inputs_for, planned, seeds


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
