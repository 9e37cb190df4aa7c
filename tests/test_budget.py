import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur import allocation, criteria, granularity
from tests.small import ALLOCATIONS, FIXED, GRANULARITIES, network, pruner

WEIGHTS = 72 + 288 + 96 + 48


@pytest.mark.parametrize("given_", [{}, {"sparsity": 0.5, "nonzeros": 3}])
def test_exactly_one_measure_is_given(given_: dict[str, float]) -> None:
    with pytest.raises(sc.BudgetError, match="exactly one measure"):
        sc.Budget(**given_)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        ("sparsity", 1.0),
        ("sparsity", -0.1),
        ("weights_removed", 90),
        ("parameters", 0),
        ("macs", 1.5),
        ("nonzeros", 0),
        ("per_group", {"fc": 1.0}),
        ("sparsity", float("nan")),
    ],
)
def test_what_is_out_of_range_is_refused(measure: str, value: float) -> None:
    with pytest.raises(sc.BudgetError, match="given"):
        sc.Budget(**{measure: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("share", ALLOCATIONS)
@pytest.mark.parametrize("units", GRANULARITIES)
@settings(max_examples=4)
@given(fraction=st.floats(0.05, 0.6))
def test_weights_are_removed_as_asked_whatever_the_units(units: str, share: str, fraction: float) -> None:
    made = pruner(GRANULARITIES[units], ALLOCATIONS[share])
    plan = made.plan(network(), sc.Budget(weights_removed=fraction))
    free = [part for part in plan.parts if not part.units.frozen]
    total = sum(part.weights for part in free)
    gone = sum(part.weights_removed for part in free)
    assert gone >= fraction * total - 1e-6
    if units == "weight":
        assert gone < fraction * total + 1


@pytest.mark.parametrize("share", ALLOCATIONS)
@pytest.mark.parametrize("units", GRANULARITIES)
def test_fewer_than_n_nonzeros_stay(units: str, share: str) -> None:
    plan = pruner(GRANULARITIES[units], ALLOCATIONS[share]).plan(network(), sc.Budget(nonzeros=400))
    assert plan.nonzeros < 400
    if units == "weight":
        assert plan.nonzeros == 399


def test_nonzeros_count_excluded_layers_too() -> None:
    plan = pruner(exclude=("8",)).plan(network(), sc.Budget(nonzeros=100))
    assert plan.nonzeros == 99
    assert plan["8"].kept == 48


@settings(max_examples=30)
@given(st.floats(0, 0.95), st.sampled_from(sorted(ALLOCATIONS)))
def test_the_total_is_exact_for_single_weights(sparsity: float, share: str) -> None:
    # One weight of each of four groups stays whatever is asked, so the highest total is 500 of 504.
    plan = pruner(share=ALLOCATIONS[share]).plan(network(), sc.Budget(sparsity=sparsity))
    assert plan.weights_removed == round(sparsity * WEIGHTS)


@pytest.mark.parametrize("name", FIXED)
def test_a_fixed_pattern_needs_no_budget_and_takes_no_larger_one(name: str) -> None:
    made = pruner(FIXED[name], allocation.uniform())
    full = made.plan(network())
    assert full.weights_removed > 0
    with pytest.raises(sc.BudgetError, match=r"Leave the budget out|cannot be met"):
        made.plan(network(), sc.Budget(sparsity=0.95))


def test_half_of_a_pattern_is_followed_by_half_of_its_scopes() -> None:
    plan = pruner(granularity.pattern(2, 4), allocation.uniform()).plan(network(), sc.Budget(sparsity=0.25))
    by_scope = plan["2"].keep.reshape(-1, 4).sum(1)
    assert sorted(by_scope.tolist()) == [2] * 36 + [4] * 36


def test_free_units_need_a_budget() -> None:
    with pytest.raises(sc.BudgetError, match=r"how much is to go\?"):
        pruner().plan(network())


@pytest.mark.parametrize("measure", ["parameters", "macs"])
def test_measures_of_the_running_model_say_what_they_need(measure: str) -> None:
    with pytest.raises(sc.BudgetError, match="channels coupled across the layers"):
        pruner().plan(network(), sc.Budget(**{measure: 0.5}))  # type: ignore[arg-type]


def test_what_cannot_be_met_names_what_can() -> None:
    made = pruner(maximum={"*": 0.5})
    with pytest.raises(sc.BudgetError, match=r"leave 0 to 0\.5"):
        made.plan(network(), sc.Budget(sparsity=0.9))
    with pytest.raises(sc.BudgetError, match=r"i\.e\. weights_removed=0\.5 or nonzeros=253"):
        made.plan(network(), sc.Budget(nonzeros=10))


def test_per_group_is_taken_as_given() -> None:
    plan = pruner().plan(network(), sc.Budget(per_group={"2": 0.5, "6": 0.25}))
    assert [plan[name].sparsity for name in ("0", "2", "6", "8")] == [0.0, 0.5, 0.25, 0.0]
    assert plan["0"].reason == "nothing allocated"
    with pytest.raises(sc.UnknownNameError, match="no group is named 'fc1'"):
        pruner().plan(network(), sc.Budget(per_group={"fc1": 0.5}))
    with pytest.raises(sc.BudgetError, match="can lose at most"):
        pruner(granularity.filter()).plan(network(), sc.Budget(per_group={"8": 0.9}))


def test_the_nearest_names_are_listed() -> None:
    model = nn.ModuleDict({"conv1": nn.Conv2d(1, 2, 3), "conv2": nn.Conv2d(2, 2, 3), "head": nn.Linear(2, 2)})
    with pytest.raises(sc.UnknownNameError, match="nearest: conv2, conv1; there are: conv1, conv2, head"):
        pruner(exclude=("conv",)).plan(model, sc.Budget(sparsity=0.5))


@settings(max_examples=20)
@given(st.floats(0.1, 0.9), st.floats(0.1, 0.9), st.sampled_from(sorted(GRANULARITIES)))
def test_more_is_removed_for_a_larger_budget(one: float, two: float, units: str) -> None:
    made = sc.Pruner(criteria.magnitude(), GRANULARITIES[units], allocation.global_())
    low, high = (made.plan(network(), sc.Budget(weights_removed=min(0.6, value))) for value in sorted((one, two)))
    assert low.weights_removed <= high.weights_removed
    for small, large in zip(low.parts, high.parts, strict=True):
        assert not bool((large.keep & ~small.keep).any())


@pytest.mark.parametrize("units", [granularity.weight(), granularity.filter()])
def test_what_an_allocation_cannot_remove_is_refused_in_weights_too(units: granularity.Granularity) -> None:
    """All four groups together could lose that much; the two named ones cannot."""
    made = pruner(units, allocation.fixed({"0": 0.5, "8": 0.5}))
    with pytest.raises(sc.BudgetError, match="this allocation removes at most"):
        made.plan(network(), sc.Budget(weights_removed=0.7))
    assert made.plan(network(), sc.Budget(weights_removed=0.1)).weights_removed >= 0.1 * WEIGHTS


def test_a_group_that_keeps_everything_has_no_sparsity_to_give() -> None:
    with pytest.raises(sc.BudgetError, match=r"'8' keeps everything \(excluded by 8\)"):
        pruner(exclude=("8",)).plan(network(), sc.Budget(per_group={"8": 0.5}))


@pytest.mark.parametrize("value", ["0.5", True, [0.5]])
def test_a_budget_is_a_number(value: object) -> None:
    with pytest.raises(sc.BudgetError, match="sparsity is a number"):
        sc.Budget(sparsity=value)  # type: ignore[arg-type]
