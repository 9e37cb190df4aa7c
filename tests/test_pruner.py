import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import secateur as sc
from secateur import allocation, criteria, granularity
from tests.small import ALLOCATIONS, FIXED, GRANULARITIES, data, network, pruner, same_masks, taylor


def test_the_textbook_neuron_loses_its_smallest_weight() -> None:
    """y = ReLU(10 x0 - 8 x1 + 0.1 x2)."""
    neuron = nn.Sequential(nn.Linear(3, 1, bias=False), nn.ReLU())
    neuron[0].weight.data = torch.tensor([[10.0, -8.0, 0.1]])
    plan = pruner().plan(neuron, sc.Budget(sparsity=1 / 3))
    assert sc.mask(neuron, plan)[0].get_parameter("weight").tolist() == [[10.0, -8.0, 0.0]]


@pytest.mark.parametrize("pick", ["2", "[28]", nn.Conv2d])
def test_excluded_groups_keep_everything_and_enter_no_ranking(pick: object) -> None:
    model = network()
    for name in ("0", "2", "8"):  # the smallest weights of all: a ranking that saw them would take them
        model.get_parameter(f"{name}.weight").data.mul_(1e-6)
    plan = pruner(exclude=(pick,)).plan(model, sc.Budget(sparsity=0.25))
    kept = [part for part in plan.parts if part.units.frozen]
    assert kept
    assert all(bool(part.keep.all()) and "excluded by" in part.reason for part in kept)
    free = [part for part in plan.parts if not part.units.frozen]
    assert sum(part.weights_removed for part in free) == round(0.25 * sum(part.weights for part in free))


@pytest.mark.parametrize(("pick", "frozen"), [("10", ["10"]), (nn.Conv2d, ["0"])])
def test_one_pick_needs_no_tuple_and_a_name_is_not_read_letter_by_letter(pick: object, frozen: list[str]) -> None:
    model = nn.ModuleDict({"0": nn.Conv2d(2, 2, 2), "1": nn.Linear(2, 2), "10": nn.Linear(2, 2)})
    groups = pruner(exclude=pick).groups(model)
    assert [name for name, units in groups.items() if units.frozen] == frozen


def test_why_a_group_loses_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1), nn.Linear(1, 4))
    plan = pruner(granularity.filter()).plan(model, sc.Budget(per_group={"0": 0.1}))
    assert [part.reason for part in plan.parts] == [
        "less than one unit allocated",
        "one unit stays in every scope",
        "nothing allocated",
    ]
    some = pruner(granularity.pattern(2, 4), allocation.uniform()).plan(model, fraction=0.1)
    assert some["0"].reason == "less than one unit allocated"


def test_excluding_everything_or_nothing_known_is_an_error() -> None:
    with pytest.raises(sc.ModelError, match="every group is excluded"):
        pruner(exclude=("*",)).plan(network(), sc.Budget(sparsity=0.5))
    with pytest.raises(sc.UnknownNameError, match="no group is named 'fc'"):
        pruner(exclude=("fc",)).plan(network(), sc.Budget(sparsity=0.5))


@pytest.mark.parametrize("share", ALLOCATIONS)
def test_minima_and_maxima_hold_and_the_total_is_met(share: str) -> None:
    made = pruner(share=ALLOCATIONS[share], minimum={"0": 0.5}, maximum={"6": 0.25})
    plan = made.plan(network(), sc.Budget(sparsity=0.5))
    assert plan["0"].sparsity >= 0.5
    assert plan["6"].sparsity <= 0.25
    assert plan.weights_removed == round(0.5 * 504)


def test_bounds_that_contradict_are_refused() -> None:
    with pytest.raises(sc.BudgetError, match=r"lowest sparsity, 0\.75, is above its highest, 0\.5"):
        pruner(minimum={"0": 0.75}, maximum={"0": 0.5}).plan(network(), sc.Budget(sparsity=0.5))
    with pytest.raises(sc.BudgetError, match="between 0 and 1"):
        pruner(minimum={"0": 1.5})


@pytest.mark.parametrize("criterion", [criteria.magnitude(), criteria.random(7)])
@pytest.mark.parametrize("units", [*GRANULARITIES, *FIXED])
def test_what_a_start_removes_stays_removed(units: str, criterion: sc.Criterion) -> None:
    made = pruner((GRANULARITIES | FIXED)[units], allocation.uniform(), criterion)
    model = network()
    budget = None if units in FIXED else sc.Budget(sparsity=0.7)
    start = made.plan(model, budget, fraction=0.4)
    for parameter in model.parameters():  # what was small may now be large
        parameter.data.copy_(torch.randn_like(parameter))
    later = made.plan(model, budget, start=start)
    for before, after in zip(start.parts, later.parts, strict=True):
        assert not bool((after.keep & ~before.keep).any())


def test_weights_that_are_not_finite_are_refused_with_their_layer() -> None:
    model = network()
    model.get_parameter("2.weight").data[0, 0, 0, 0] = float("nan")
    with pytest.raises(sc.ModelError, match=r"1 of 288 scores of '2'.*1 of its weights are NaN or infinite"):
        pruner().plan(model, sc.Budget(sparsity=0.5))


def test_scores_that_are_not_finite_or_not_enough_are_refused() -> None:
    broken = sc.Criterion("broken", lambda group: torch.full((group.units.n_units,), float("inf")))
    with pytest.raises(sc.ModelError, match="its weights are finite"):
        pruner(criterion=broken).plan(network(), sc.Budget(sparsity=0.5))
    short = sc.Criterion("short", lambda _: torch.zeros(1))
    with pytest.raises(sc.PlanError, match="it has 72 units"):
        pruner(criterion=short).plan(network(), sc.Budget(sparsity=0.5))


@pytest.mark.parametrize(("scores", "what"), [([1.0] * 72, "a list"), (None, "a NoneType")])
def test_scores_that_are_no_tensor_are_refused(scores: object, what: str) -> None:
    broken = sc.Criterion("broken", lambda _: scores)  # type: ignore[arg-type,return-value]
    with pytest.raises(sc.PlanError, match=f"broken gave '0' {what}; it has 72 units"):
        pruner(criterion=broken).plan(network(), sc.Budget(sparsity=0.5))


def test_scores_that_are_whole_numbers_are_refused() -> None:
    counting = sc.Criterion("counting", lambda group: torch.arange(group.units.n_units))
    with pytest.raises(sc.PlanError, match=r"scores of torch\.int64; floating point is expected"):
        pruner(criterion=counting).plan(network(), sc.Budget(sparsity=0.5))


def test_scores_with_a_gradient_are_taken_without_it() -> None:
    weights = torch.rand(72, requires_grad=True)
    learned = sc.Criterion(
        "learned", lambda group: weights * 2 if group.name == "0" else torch.ones(group.units.n_units)
    )
    plan = pruner(criterion=learned).plan(network(), sc.Budget(per_group={"0": 0.5}))
    assert plan["0"].kept == 36


def test_statistics_of_another_model_are_refused_with_the_shapes() -> None:
    other = sc.Statistics({"gradient": {name: torch.ones(3, 5) for name, _ in network().named_parameters()}})
    with pytest.raises(sc.DataError, match=r"'0\.weight' has the shape \(3, 5\).*weight's, \(8, 1, 3, 3\)"):
        pruner(criterion=taylor()).plan(network(), sc.Budget(sparsity=0.5), statistics=other)


def test_weights_on_the_meta_device_are_refused() -> None:
    with pytest.raises(sc.ModelError, match="meta device"):
        pruner().plan(network().to("meta"), sc.Budget(sparsity=0.5))


def test_tied_weights_are_pruned_once_and_said() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    plan = pruner().plan(model, sc.Budget(sparsity=0.5))
    assert [part.name for part in plan.parts] == ["0"]
    assert "shared with 2.weight" in str(plan)
    masked = sc.mask(model, plan)
    assert masked[0].weight is masked[2].weight
    assert int((masked[0].get_parameter("weight") == 0).sum()) == 8


def test_a_computed_weight_stays_and_is_said() -> None:
    model = nn.Sequential(weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4))
    plan = pruner().plan(model, sc.Budget(sparsity=0.5))
    assert "computed from" in plan["0"].reason
    assert plan["1"].sparsity == 0.5


def test_a_model_without_prunable_weights_is_refused() -> None:
    with pytest.raises(sc.ModelError, match="no prunable weights"):
        pruner().plan(nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3)), sc.Budget(sparsity=0.5))


def test_a_criterion_that_reads_gradients_asks_for_data() -> None:
    made = pruner(criterion=taylor())
    with pytest.raises(sc.DataError, match="needs data"):
        made.plan(network(), sc.Budget(sparsity=0.5))
    with pytest.raises(sc.DataError, match="need a loss"):
        made.plan(network(), sc.Budget(sparsity=0.5), data=[data()])
    loss = nn.functional.cross_entropy
    plan = made.plan(network(), sc.Budget(sparsity=0.5), data=[data()], loss=loss)
    found = sc.calibrate(network(), [data()], ["gradient"], loss=loss)
    assert same_masks(plan, made.plan(network(), sc.Budget(sparsity=0.5), statistics=found))


def test_a_selection_chooses_and_mends_itself() -> None:
    def keep_first(model, units, sparsities, batches):
        parts = [
            sc.Part(name, group, torch.arange(group.n_units) < round((1 - sparsities[name]) * group.n_units))
            for name, group in units.items()
        ]
        return sc.Plan(tuple(parts), {"0.bias": torch.full((8,), 7.0)})

    made = sc.Pruner(keep_first, granularity.filter(), allocation.uniform())
    with pytest.raises(sc.DataError, match="keep_first needs data"):
        made.plan(network(), sc.Budget(sparsity=0.5))
    model = network()
    plan = made.plan(model, sc.Budget(sparsity=0.5), data=[data()])
    assert plan["0"].keep.tolist() == [True] * 4 + [False] * 4
    assert sc.mask(model, plan)[0].get_parameter("bias").tolist() == [7.0] * 8
    ranked = sc.Pruner(keep_first, granularity.filter(), allocation.global_())
    with pytest.raises(sc.BudgetError, match="ranks scores, and the method has none"):
        ranked.plan(model, sc.Budget(sparsity=0.5), data=[data()])


def test_the_plan_of_a_selection_says_what_stays() -> None:
    def keep_all(model, units, sparsities, batches):
        return sc.Plan(
            tuple(sc.Part(name, group, torch.ones(group.n_units, dtype=torch.bool)) for name, group in units.items())
        )

    made = sc.Pruner(keep_all, granularity.filter(), allocation.uniform(), exclude=("0",))
    plan = made.plan(network(), sc.Budget(sparsity=0.5), data=[data()])
    assert [part.name for part in plan.parts] == list(made.groups(network()))
    assert plan["0"].reason == "excluded by 0"


def test_refit_mends_after_the_choice() -> None:
    def doubled(model, plan, batches):
        return {"6.weight": 2 * model.get_parameter("6.weight").detach()}

    model = network()
    plan = pruner(refit=doubled).plan(model, sc.Budget(sparsity=0.5))
    masked = sc.mask(model, plan)
    kept = plan.masks()["6.weight"]
    assert torch.equal(masked.get_parameter("6.weight"), 2 * model.get_parameter("6.weight") * kept)


def test_a_plan_says_where_it_comes_from() -> None:
    plan = pruner(granularity.block(4, 1), exclude=(nn.Conv2d, "8")).plan(network(), sc.Budget(sparsity=0.5))
    assert plan.made_by == {
        "method": "magnitude(p=2)",
        "granularity": "block(4, 1)",
        "allocation": "global",
        "refit": None,
        "exclude": ["Conv2d", "8"],
        "budget": {"sparsity": 0.5},
        "fraction": 1.0,
    }


def test_planning_touches_neither_model_nor_global_generator() -> None:
    model = network()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    pruner(criterion=taylor()).plan(model, sc.Budget(sparsity=0.5), data=[data()], loss=nn.functional.cross_entropy)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("units", [*GRANULARITIES, *FIXED])
@pytest.mark.parametrize("share", ALLOCATIONS)
def test_pruners_of_built_ins_can_be_sent_to_another_process(units: str, share: str) -> None:
    made = pruner((GRANULARITIES | FIXED)[units], ALLOCATIONS[share], criteria.normalized(criteria.magnitude(1)))
    again = pickle.loads(pickle.dumps(made))  # noqa: S301  our own bytes
    budget = None if units in FIXED else sc.Budget(sparsity=0.5)
    if units in FIXED and share in ("global", "lamp", "erdos_renyi", "fixed"):
        budget = None
    assert same_masks(made.plan(network(), budget), again.plan(network(), budget))


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_fraction_of_the_budget_is_a_fraction(fraction: float) -> None:
    with pytest.raises(sc.BudgetError, match="fraction of the budget is between 0 and 1; given"):
        pruner().plan(network(), sc.Budget(sparsity=0.5), fraction=fraction)


def test_units_of_another_model_are_refused() -> None:
    made, model = pruner(), nn.ModuleDict({"fc": nn.Linear(3, 4)})
    units = made.groups(model)
    assert made.plan(model, sc.Budget(sparsity=0.5), units=units).weights_removed == 6
    with pytest.raises(sc.PlanError, match=r"'fc' speaks of 'fc\.weight', which Sequential does not have"):
        made.plan(network(), sc.Budget(sparsity=0.5), units=units)
    wider = nn.ModuleDict({"fc": nn.Linear(4, 4)})
    with pytest.raises(sc.PlanError, match=r"has shape \(4, 4\), its units were made for \(4, 3\)"):
        made.plan(wider, sc.Budget(sparsity=0.5), units=units)
