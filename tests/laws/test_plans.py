"""Laws of plans: saved and loaded, united by `&`, followed by `then`."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.granularity import Granularity
from tests.strategies import free_granularities, granularities, models

sparsities = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9])


def planned(model: nn.Module, units: Granularity, sparsity: float, seed: int) -> sc.Plan:
    """A plan of random scores; the same fraction of every group, but one unit of each scope stays."""
    made = sc.Pruner(criteria.random(seed), units, allocation.uniform())
    groups = made.groups(model)
    most = {name: group.full_sparsity or 1 - group.scope.n_units / group.n_units for name, group in groups.items()}
    free = {name: min(sparsity, most[name]) for name, group in groups.items() if not group.frozen}
    return made.plan(model, sc.Budget(per_group=free), units=groups)


def full_masks(model: nn.Module, plan: sc.Plan) -> dict[str, Tensor]:
    """A mask for every parameter, all True where the plan says nothing."""
    found = plan.masks()
    return {name: found.get(name, torch.ones_like(value, dtype=torch.bool)) for name, value in model.named_parameters()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("laws") / "plan.safetensors"


def same_after_loading(plan: sc.Plan, path: Path) -> bool:
    plan.save(path)
    again = sc.Plan.load(path)
    return (
        equal(plan.masks(), again.masks())
        and [(part.name, part.reason) for part in plan.parts] == [(part.name, part.reason) for part in again.parts]
        and all(torch.equal(a.keep, b.keep) for a, b in zip(plan.parts, again.parts, strict=True))
        and equal(dict(plan.updates), dict(again.updates))
        and str(plan) == str(again)
        and plan.made_by == again.made_by
    )


@settings(max_examples=40)
@given(models(), granularities, sparsities, st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
def test_a_plan_comes_back_as_it_was(
    path: Path, model: nn.Module, units: Granularity, sparsity: float, dtype: torch.dtype
) -> None:
    try:
        plan = planned(model, units, sparsity, seed=1)
    except sc.ModelError:  # no layer that m divides
        assume(False)
    weight = next(iter(model.parameters())).detach().to(dtype)
    assert same_after_loading(sc.Plan(plan.parts, {"0.weight": weight}, plan.made_by), path)


# ------------------------------------------------------------------------------------------------------------------- &


@settings(max_examples=40)
@given(models(), st.lists(st.tuples(free_granularities, sparsities, st.integers(0, 2)), min_size=3, max_size=3))
def test_and_is_the_intersection_in_any_order_and_grouping(
    path: Path, model: nn.Module, kinds: list[tuple[Granularity, float, int]]
) -> None:
    a, b, c = (planned(model, *kind) for kind in kinds)
    masks = [full_masks(model, plan) for plan in (a, b, c)]
    two = {name: masks[0][name] & masks[1][name] for name in masks[0]}
    three = {name: two[name] & masks[2][name] for name in two}
    assert equal(full_masks(model, a & b), two)
    assert equal(full_masks(model, b & a), two)
    assert equal(full_masks(model, a & a), masks[0])
    assert equal(full_masks(model, (a & b) & c), three)
    assert equal(full_masks(model, a & (b & c)), three)
    assert ((a & b) & c).weights_removed == sum(int((~mask).sum()) for mask in three.values())
    assert same_after_loading((a & b) & c, path)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 9), min_size=3, max_size=3))
def test_and_of_overlapping_units_is_the_intersection_of_weights(path: Path, seeds: list[int]) -> None:
    """Two patterns of one kernel leave the weights that both have, which is no pattern."""
    model = nn.Sequential(nn.Conv2d(2, 2, 3))
    patterns, share = granularity.kernel_pattern(), allocation.uniform()
    a, b, c = (sc.Pruner(criteria.random(seed), patterns, share).plan(model) for seed in seeds)
    wanted = {name: mask & b.masks()[name] & c.masks()[name] for name, mask in a.masks().items()}
    assert equal((a & b & c).masks(), wanted)
    assert equal((a & (c & b)).masks(), wanted)
    assert equal((a & a).masks(), a.masks())
    assert len((a & a).parts) == 1
    assert same_after_loading(a & b & c, path)


# ---------------------------------------------------------------------------------------------------------------- then


class Chain:
    """Layers one after the other, some of whose channels leave: which, and the chain without them, really sliced."""

    def __init__(self, layers: list[nn.Module], stay: list[Tensor]) -> None:
        self.model = nn.Sequential(*layers)
        self.ins, self.outs = stay[:-1], stay[1:]

    def plan(self) -> sc.Plan:
        """Filters of each layer, and the input channels of the next that read them."""
        filters, inputs = granularity.filter()(self.model), granularity.input_channel()(self.model)
        parts = [
            part
            for place, (ins, outs) in enumerate(zip(self.ins, self.outs, strict=True))
            for part in (
                sc.Part(f"{place} out", filters[str(place)], outs),
                sc.Part(f"{place} in", inputs[str(place)], ins),
            )
        ]
        return sc.Plan(tuple(parts))

    def cut(self, name: str, value: Tensor) -> Tensor:
        """A weight, or its mask, without the channels that leave."""
        place = int(name.partition(".")[0])
        return value[self.outs[place]][:, self.ins[place]]

    def small(self) -> nn.Sequential:
        return layers_of([self.cut(name, value.detach()) for name, value in self.model.named_parameters()])


def layers_of(weights: list[Tensor]) -> nn.Sequential:
    """Linear layers and convolutions of these weights."""
    made: list[nn.Module] = []
    for weight in weights:
        outs, ins, *kernel = weight.shape
        layer = nn.Conv1d(ins, outs, kernel[0], bias=False) if kernel else nn.Linear(ins, outs, bias=False)
        layer.weight = nn.Parameter(weight)
        made.append(layer)
    return nn.Sequential(*made)


@st.composite
def chains(draw: st.DrawFn, least: int = 1) -> Chain:
    """Two or three layers; inner channels leave at random, but never all of them."""
    widths = draw(st.lists(st.integers(max(least, 2), 12), min_size=3, max_size=4))
    convolves = draw(st.booleans())
    layers: list[nn.Module] = [
        nn.Conv1d(ins, outs, 2, bias=False) if convolves else nn.Linear(ins, outs, bias=False)
        for ins, outs in pairwise(widths)
    ]
    stay = [torch.ones(width, dtype=torch.bool) for width in widths]
    for kept in stay[1:-1]:
        size = draw(st.sampled_from([size for size in range(1, len(kept) + 1) if size % least == 0]))
        kept.zero_()
        kept[list(draw(st.permutations(range(len(kept))))[:size])] = True
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    for layer in layers:
        weight = layer.get_parameter("weight")
        weight.data = torch.randn(weight.shape, generator=generator)
    return Chain(layers, stay)


@settings(max_examples=40)
@given(chains(), free_granularities, sparsities, st.integers(0, 9))
def test_then_is_the_second_plan_inside_what_the_first_leaves(
    path: Path, chain: Chain, units: Granularity, sparsity: float, seed: int
) -> None:
    small = chain.small()
    second = planned(small, units, sparsity, seed)
    both = chain.plan().then(second)
    inner, first, masks = (
        full_masks(small, second),
        full_masks(chain.model, chain.plan()),
        full_masks(chain.model, both),
    )
    for name, mask in masks.items():
        assert torch.equal(chain.cut(name, mask), inner[name])
        assert not bool((mask & ~first[name]).any())
    masked, small_masked = sc.mask(chain.model, both), sc.mask(small, second)
    for name, value in small_masked.named_parameters():
        assert torch.equal(chain.cut(name, masked.get_parameter(name)), value)
    assert both.weights_removed == sum(int((~mask).sum()) for mask in masks.values())
    assert same_after_loading(both, path)


@settings(max_examples=40)
@given(chains(least=4), st.sampled_from([(2, 4), (1, 4), (1, 2)]), st.integers(0, 9))
def test_a_pattern_holds_on_what_channels_leave(chain: Chain, n_m: tuple[int, int], seed: int) -> None:
    n, m = n_m
    second = planned(chain.small(), granularity.pattern(n, m), 1 - n / m, seed)
    both = chain.plan().then(second)
    masked = sc.mask(chain.model, both)
    for part in second.parts:
        name = f"{part.name}.weight"
        if part.units.frozen:
            continue
        runs = chain.cut(name, masked.get_parameter(name)).movedim(1, -1).reshape(-1, m)
        counted = (runs != 0).sum(1)
        assert torch.equal(counted, torch.full_like(counted, n))


@settings(max_examples=30)
@given(chains(), st.integers(0, 9), sparsities)
def test_three_plans_in_a_row_whichever_are_joined_first(chain: Chain, seed: int, sparsity: float) -> None:
    first, small = chain.plan(), chain.small()
    rows = planned(small, granularity.filter(), 0.5, seed)
    kept = [rows[name].keep for name, _ in small.named_children()]
    weights = zip(small.parameters(), kept, strict=True)
    smaller = layers_of([value.detach()[stays] for value, stays in weights])  # which does not run, and need not
    last = planned(smaller, granularity.weight(), sparsity, seed + 1)
    one, other = first.then(rows.then(last)), first.then(rows).then(last)
    assert equal(full_masks(chain.model, one), full_masks(chain.model, other))


def test_however_many_plans_follow_one_another_the_file_can_be_read(path: Path) -> None:
    """Each takes one of twelve rows; the first that is joined is the last."""
    plans = [planned(nn.Sequential(nn.Linear(2, rows)), granularity.filter(), 1 / rows, 0) for rows in range(12, 2, -1)]
    whole = plans[-1]
    for plan in reversed(plans[:-1]):
        whole = plan.then(whole)
    assert whole.weights_removed == 20
    assert same_after_loading(whole, path)


def test_new_values_of_both_plans_are_set_into_the_first_shapes() -> None:
    model = nn.Sequential(nn.Linear(3, 4, bias=False))
    rows = sc.Part("0", granularity.filter()(model)["0"], torch.tensor([True, False, True, False]))
    first = sc.Plan((rows,), {"0.weight": torch.full((4, 3), 7.0)})
    second = sc.Plan((), {"0.weight": torch.arange(6.0).reshape(2, 3)})
    both = first.then(second).updates["0.weight"]
    assert both.tolist() == [[0, 1, 2], [7, 7, 7], [3, 4, 5], [7, 7, 7]]
    with pytest.raises(sc.PlanError, match=r"\(4, 3\) in the second plan; the first one leaves \(2, 3\)"):
        first.then(sc.Plan((), {"0.weight": torch.ones(4, 3)}))
