import copy

import pytest
import torch
from torch import nn

import secateur as sc
from secateur import allocation, granularity
from tests.small import data, network, pruner, zeros_kept


def test_a_copy_is_masked_and_the_model_is_not() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    plan = pruner().plan(model, sc.Budget(sparsity=0.5))
    masked = sc.mask(model, plan)
    assert zeros_kept(masked, plan)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for name, mask in plan.masks().items():
        assert torch.equal(masked.get_parameter(name)[mask], model.get_parameter(name)[mask])


def test_in_place_is_the_model_itself_and_it_stays_plain() -> None:
    model = network()
    keys = [set(vars(module)) for module in model.modules()]
    names = list(model.state_dict())
    plan = pruner().plan(model, sc.Budget(sparsity=0.5))
    assert sc.mask(model, plan, inplace=True) is model
    assert zeros_kept(model, plan)
    assert [set(vars(module)) for module in model.modules()] == keys
    assert list(model.state_dict()) == names
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_removed_weights_become_zero_even_if_they_are_not_numbers() -> None:
    model = nn.Linear(2, 1, bias=False)
    plan = pruner().plan(model, sc.Budget(per_group={"weight": 0.5}))
    gone = ~plan.masks()["weight"]
    model.weight.data[gone] = float("nan")
    assert sc.mask(model, plan).weight[gone].tolist() == [0.0]


def test_masking_twice_is_masking_once() -> None:
    model = network()
    plan = pruner().plan(model, sc.Budget(sparsity=0.7))
    once = sc.mask(model, plan)
    twice = sc.mask(once, plan)
    assert torch.equal(once(data()[0]), twice(data()[0]))


def test_a_plan_for_another_model_is_refused_and_the_model_untouched() -> None:
    plan = pruner().plan(network(), sc.Budget(sparsity=0.5))
    other = network()
    other[6] = nn.Linear(8, 13)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(sc.PlanError, match=r"shape \(12, 8\), the model's is \(13, 8\): axis \[0\] differs"):
        sc.mask(other, plan, inplace=True)
    assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())
    with pytest.raises(sc.PlanError, match=r"'0\.weight', which Linear does not have"):
        sc.mask(nn.Linear(2, 2), plan)
    with pytest.raises(sc.PlanError, match="another number of axes"):
        sc.mask(nn.Sequential(nn.Linear(2, 2)), plan)


def test_parts_that_contradict_one_another_are_refused_and_the_model_untouched() -> None:
    """A plan put together by hand: two parts, two shapes for one weight, of which one fits."""
    model = nn.Linear(2, 4, bias=False)
    fits, other = (granularity.filter()(nn.Linear(2, rows)) for rows in (4, 3))
    before = model.weight.detach().clone()
    for first, second in ((fits, other), (other, fits)):
        parts = [sc.Part("it", units["weight"], torch.arange(units["weight"].n_units) > 0) for units in (first, second)]
        plan = sc.Plan(tuple(parts), {"weight": torch.zeros(4, 2)})
        with pytest.raises(sc.PlanError, match=r"of shape \(3, 2\), the model's is \(4, 2\)"):
            sc.mask(model, plan, inplace=True)
        assert torch.equal(model.weight, before)


def test_a_lazy_model_is_refused_until_it_has_run() -> None:
    plan = pruner().plan(nn.Sequential(nn.Linear(2, 3)), sc.Budget(sparsity=0.5))
    lazy = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(sc.PlanError, match="no shape yet: run the model once"):
        sc.mask(lazy, plan, inplace=True)
    lazy(torch.zeros(1, 2))
    assert int((sc.mask(lazy, plan)[0].get_parameter("weight") == 0).sum()) == 3


def test_buffers_can_be_given_new_values() -> None:
    model = nn.BatchNorm1d(3)
    assert sc.mask(model, sc.Plan((), {"running_mean": torch.arange(3.0)})).running_mean.tolist() == [0, 1, 2]  # type: ignore[union-attr]
    with pytest.raises(sc.PlanError, match="'momentum', which BatchNorm1d does not have"):
        sc.mask(model, sc.Plan((), {"momentum": torch.tensor(0.1)}))


def test_new_values_are_set_before_the_zeros() -> None:
    model = nn.Linear(2, 2, bias=False)
    made = pruner(granularity.filter(), allocation.uniform()).plan(model, sc.Budget(sparsity=0.5))
    plan = sc.Plan(made.parts, {"weight": torch.full((2, 2), 5.0)})
    masked = sc.mask(model, plan)
    assert sorted(masked.weight.sum(1).tolist()) == [0.0, 10.0]


def test_a_half_precision_model_is_pruned_in_its_own_precision() -> None:
    model = network().to(torch.bfloat16)
    plan = pruner().plan(model, sc.Budget(sparsity=0.5))
    masked = sc.mask(model, plan)
    assert masked[0].weight.dtype == torch.bfloat16
    assert plan.weights_removed == 252
