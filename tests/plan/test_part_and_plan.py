from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import secateur as sc
from secateur import allocation, granularity
from secateur.index_maps import Arange
from tests.small import FIXED, GRANULARITIES, network, pruner, same_masks


def test_a_part_counts_units_and_weights() -> None:
    units = granularity.filter()(nn.Linear(3, 4))["weight"]
    part = sc.Part("fc", units, torch.tensor([True, False, True, False]))
    assert (part.kept, part.sparsity, part.weights, part.weights_removed) == (2, 0.5, 12, 6)
    assert part.row() == ["fc", "4x3", "2 of 4", "50.0 %", "6 (50.0 %)", "all", ""]


def test_keep_of_another_length_or_type_is_refused() -> None:
    units = granularity.filter()(nn.Linear(3, 4))["weight"]
    with pytest.raises(sc.PlanError, match=r"expected bool of \(4,\)"):
        sc.Part("fc", units, torch.ones(3, dtype=torch.bool))
    with pytest.raises(sc.PlanError, match="float32"):
        sc.Part("fc", units, torch.ones(4))


@pytest.mark.parametrize("name", [*GRANULARITIES, *FIXED])
def test_weights_removed_is_what_the_masks_remove(name: str) -> None:
    chosen = (GRANULARITIES | FIXED)[name]
    budget = None if name in FIXED else sc.Budget(sparsity=0.6)
    plan = pruner(chosen, allocation.uniform()).plan(network(), budget)
    assert plan.weights_removed == sum(int((~mask).sum()) for mask in plan.masks().values())
    assert plan.nonzeros == plan.weights - plan.weights_removed


def test_the_table_names_every_group_and_every_reason() -> None:
    model = network()
    text = str(pruner(granularity.pattern(2, 4), allocation.uniform(), exclude=("8",)).plan(model))
    assert "1 input channel, not divisible by 4" in text
    assert "excluded by 8" in text
    assert "72 of 4, 2 kept of each" in text
    assert text.splitlines()[-1].split()[:3] == ["total", "50.0", "%"]


def test_an_unknown_group_is_refused_with_those_there_are() -> None:
    plan = pruner().plan(network(), sc.Budget(sparsity=0.5))
    with pytest.raises(sc.PlanError, match=r"no group 'conv9'; it has \['0', '2', '6', '8'\]"):
        plan["conv9"]


def test_and_unites_removals() -> None:
    model = network()
    rows = pruner(granularity.filter(), allocation.uniform()).plan(model, sc.Budget(sparsity=0.25))
    columns = pruner(granularity.input_channel(), allocation.uniform()).plan(model, sc.Budget(sparsity=0.25))
    both, masks = rows & columns, rows.masks()
    for name, mask in columns.masks().items():
        expected = mask & masks[name] if name in masks else mask
        assert torch.equal(both.masks()[name], expected)
    assert both.weights_removed == sum(int((~mask).sum()) for mask in both.masks().values())


def test_and_of_equal_units_makes_one_part() -> None:
    model = network()
    first = pruner().plan(model, sc.Budget(sparsity=0.3))
    second = pruner(criterion=sc.criteria.random(3)).plan(model, sc.Budget(sparsity=0.3))
    both = first & second
    assert [part.name for part in both.parts] == [part.name for part in first.parts]
    assert same_masks(both, second & first)


def test_and_refuses_a_fixed_pattern_with_another_removal() -> None:
    model = network()
    fixed = pruner(granularity.pattern(2, 4), allocation.uniform()).plan(model)
    columns = pruner(granularity.input_channel(), allocation.uniform()).plan(model, sc.Budget(sparsity=0.5))
    with pytest.raises(sc.PlanError, match=r"use first\.then\(second\)"):
        _ = fixed & columns


def test_and_refuses_plans_of_other_shapes() -> None:
    first = pruner().plan(nn.Sequential(nn.Linear(3, 4)), sc.Budget(sparsity=0.5))
    second = pruner().plan(nn.Sequential(nn.Linear(3, 5)), sc.Budget(sparsity=0.5))
    with pytest.raises(sc.PlanError, match=r"\(4, 3\) and \(5, 3\)"):
        _ = first & second


def without_dead_channels(model: nn.Sequential, plan: sc.Plan) -> nn.Sequential:
    """Linear layers with the rows that the plan empties cut out, and the columns that read them."""
    small = nn.Sequential(*(nn.Linear(4, 4) if isinstance(layer, nn.Linear) else nn.ReLU() for layer in model))
    masks = plan.masks()
    for name, layer in model.named_children():
        if not isinstance(layer, nn.Linear):
            continue
        mask = masks.get(f"{name}.weight", torch.ones_like(layer.weight, dtype=torch.bool))
        kept = layer.weight.detach()[mask.any(1)][:, mask.any(0)]
        new = nn.Linear(kept.shape[1], kept.shape[0])
        new.weight = nn.Parameter(kept)
        small[int(name)] = new
    return small


def test_then_sets_a_plan_of_the_smaller_model_back() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 6))
    rows = pruner(granularity.filter(), allocation.uniform(), exclude=("2",)).plan(model, sc.Budget(sparsity=0.5))
    columns = pruner(granularity.input_channel(), allocation.uniform(), exclude=("0",)).plan(
        model, sc.Budget(sparsity=0.5)
    )
    channels = rows & columns
    small = without_dead_channels(model, channels)
    assert small[0].weight.shape == (8, 8)
    second = pruner(granularity.pattern(2, 4), allocation.uniform()).plan(small)
    both = channels.then(second)
    for name, layer in (("0.weight", model[0]), ("2.weight", model[2])):
        assert isinstance(layer, nn.Linear)
        first_mask, mask = channels.masks()[name], both.masks()[name]
        assert torch.equal(mask[first_mask.any(1)][:, first_mask.any(0)], second.masks()[name])
        assert not bool(mask[~first_mask].any())
    assert both.weights_removed == sum(int((~mask).sum()) for mask in both.masks().values())


def test_then_refuses_a_plan_of_the_large_model() -> None:
    model = nn.Sequential(nn.Linear(8, 16))
    rows = pruner(granularity.filter(), allocation.uniform()).plan(model, sc.Budget(sparsity=0.5))
    with pytest.raises(sc.PlanError, match=r"\(16, 8\) in the second plan; the first one leaves \(8, 8\)"):
        rows.then(pruner(granularity.pattern(2, 4), allocation.uniform()).plan(model))


def test_then_lifts_new_values() -> None:
    model = nn.Sequential(nn.Linear(2, 4))
    rows = pruner(granularity.filter(), allocation.uniform()).plan(model, sc.Budget(sparsity=0.5))
    smaller = sc.Plan((), {"0.weight": torch.ones(2, 2)})
    lifted = rows.then(smaller).updates["0.weight"]
    assert torch.equal(lifted, rows.masks()["0.weight"].float())


def test_then_leaves_alone_what_the_first_plan_says_nothing_about() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 3))
    rows = granularity.filter()(model)
    first = sc.Plan((sc.Part("0", rows["0"], torch.tensor([True, False, True, True])),))
    second = sc.Plan((sc.Part("1", rows["1"], torch.tensor([False, True, True])),), {"1.bias": torch.ones(3)})
    both = first.then(second)
    assert both["1"].units.index == rows["1"].index
    assert torch.equal(both.updates["1.bias"], torch.ones(3))
    assert both.weights_removed == 2 + 4


def test_index_maps_of_ones_own_work_but_are_not_saved(tmp_path: Path) -> None:
    class Elsewhere:
        """A map that is no class of the library's, though it does nothing new."""

        def __init__(self, inner: Arange) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    axis = sc.ParameterAxis("weight")
    index: Any = Elsewhere(Arange((2, 2), repeat=(1, 2)))
    units = sc.Units({axis: index}, Arange((2,), repeat=(2,)), {axis: "out"})
    made = pruner(lambda _: {"weight": units}, allocation.uniform())
    plan = made.plan(nn.Linear(2, 2), sc.Budget(sparsity=0.5))
    assert plan.weights_removed == 2
    with pytest.raises(sc.PlanError, match="of type Elsewhere cannot be saved: use those of"):
        plan.save(tmp_path / "plan.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_and_refuses_to_leave_a_scope_too_few_units() -> None:
    model = nn.Linear(4, 2, bias=False)
    units = granularity.filter()(model)["weight"]
    first, second = (
        sc.Plan((sc.Part("weight", units, torch.tensor(keep)),)) for keep in ([True, False], [False, True])
    )
    with pytest.raises(sc.PlanError, match="leave fewer than 1 of the units of a scope"):
        _ = first & second
    pairs = granularity.pattern(2, 4)(model)["weight"]
    keeps = ([True, True, False, False] * 2, [True, False, True, False] * 2)
    first, second = (sc.Plan((sc.Part("weight", pairs, torch.tensor(keep)),)) for keep in keeps)
    with pytest.raises(sc.PlanError, match="leave fewer than 2 of the units of a scope"):
        _ = first & second
    assert same_masks(first & first, first)


def test_then_leaves_kernels_their_size() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3))
    kept = torch.zeros(4, 4, 1, 3, dtype=torch.bool)
    kept[..., 1] = True  # only the middle column of every kernel
    columns = granularity.vector("column")(model)["0"]
    first = sc.Plan((sc.Part("0", columns, kept.flatten()),))
    second = pruner(granularity.weight(), allocation.uniform()).plan(model, sc.Budget(sparsity=0.5))
    assert same_masks(first.then(second), first & second)
