"""A plan held while a model trains."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

import secateur as sc
from secateur import allocation, granularity
from secateur.training import KeepZeros
from tests.nets import Tied
from tests.small import FIXED, GRANULARITIES, data, network, pruner, zeros_kept

OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
}


def held(model: nn.Module, sparsity: float = 0.6) -> KeepZeros:
    return KeepZeros(model, pruner().plan(model, sc.Budget(sparsity=sparsity)))


def backward(model: nn.Module, seed: int) -> None:
    inputs, labels = data(seed=seed)
    nn.functional.cross_entropy(model(inputs), labels).backward()


@pytest.mark.parametrize("units", [*GRANULARITIES, *FIXED])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zeros_stay_zero_and_the_others_learn(name: str, units: str) -> None:
    model = network()
    budget = None if units in FIXED else sc.Budget(sparsity=0.5)
    plan = pruner((GRANULARITIES | FIXED)[units], allocation.uniform()).plan(model, budget)
    hook, optimizer = KeepZeros(model, plan), OPTIMIZERS[name](model.parameters())
    assert zeros_kept(model, plan)
    before = copy.deepcopy(model)
    for step in range(4):
        optimizer.zero_grad()
        backward(model, step)
        hook.observe()
        optimizer.step()
        hook.step()
        assert zeros_kept(model, plan)
    for group, mask in plan.masks().items():
        now, then = model.get_parameter(group)[mask], before.get_parameter(group)[mask]
        assert bool((now != then).any())


def test_weights_of_before_pruning_momentum_do_not_come_back() -> None:
    """Momentum from before the plan pushes removed weights on; they are set to zero all the same."""
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    for step in range(3):
        optimizer.zero_grad()
        backward(model, step)
        optimizer.step()
    hook = held(model)
    optimizer.zero_grad()
    backward(model, 9)
    hook.observe()
    optimizer.step()
    assert not zeros_kept(model, hook.plan)  # what would be without the hook
    hook.step()
    assert zeros_kept(model, hook.plan)


def test_removed_weights_do_not_count_in_a_clipped_norm() -> None:
    model = network()
    hook = held(model)
    backward(model, 0)
    parameters = dict(model.named_parameters())
    wanted = sum(
        float((parameter.grad * hook.plan.masks().get(name, torch.tensor(1))).square().sum())
        for name, parameter in parameters.items()
        if parameter.grad is not None
    )
    hook.observe()
    assert float(nn.utils.clip_grad_norm_(model.parameters(), 1e9)) == pytest.approx(wanted**0.5, rel=1e-5)


def test_gradients_that_are_not_numbers_are_taken_away_from_removed_weights() -> None:
    model = network()
    hook = held(model)
    weight = model.get_parameter("2.weight")
    weight.grad = torch.full_like(weight, float("nan"))
    hook.observe()
    mask = hook.plan.masks()["2.weight"]
    assert not bool(weight.grad[~mask].any())
    assert bool(weight.grad[mask].isnan().all())


def test_parameters_without_gradient_are_passed_over() -> None:
    model = network()
    hook = held(model)
    model.get_parameter("2.weight").requires_grad_(False)
    backward(model, 0)
    hook.observe()
    hook.step()
    assert model.get_parameter("2.weight").grad is None
    assert zeros_kept(model, hook.plan)


def test_the_model_stays_plain() -> None:
    model = network()
    attributes, names = [set(vars(module)) for module in model.modules()], list(model.state_dict())
    hook = held(model)
    hook.observe()
    hook.step()
    assert [set(vars(module)) for module in model.modules()] == attributes
    assert list(model.state_dict()) == names
    assert not any(
        value for module in model.modules() for name, value in vars(module).items() if "hooks" in name and value
    )
    assert model.get_parameter("2.weight").is_leaf


def test_shared_weights_stay_shared_and_zero() -> None:
    model = Tied()
    plan = pruner(granularity.weight()).plan(model, sc.Budget(sparsity=0.5))
    hook, optimizer = KeepZeros(model, plan), OPTIMIZERS["sgd"](model.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().sum().backward()
        hook.observe()
        optimizer.step()
        hook.step()
    assert model.first.weight is model.second.weight
    assert int((model.first.weight == 0).sum()) == 8


def test_new_values_of_the_plan_are_set_once() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    made = pruner(granularity.filter(), allocation.uniform()).plan(model, sc.Budget(sparsity=0.5))
    hook = KeepZeros(model, sc.Plan(made.parts, {"0.weight": torch.full((2, 2), 5.0)}))
    assert sorted(model.get_parameter("0.weight").sum(1).tolist()) == [0, 10]
    model.get_parameter("0.weight").data.fill_(7)
    hook.step()
    assert sorted(model.get_parameter("0.weight").sum(1).tolist()) == [0, 14]


def test_there_is_no_state_and_loading_sets_zeros_again() -> None:
    model = network()
    hook = held(model)
    assert hook.state_dict() == {}
    assert hook.settled
    model.load_state_dict(network(seed=3).state_dict())
    assert not zeros_kept(model, hook.plan)
    hook.load_state_dict({})
    assert zeros_kept(model, hook.plan)


def test_a_deep_copy_holds_its_own_model() -> None:
    model = network()
    hook = held(model)
    copied, copied_hook = copy.deepcopy((model, hook))
    for parameter in copied.parameters():
        parameter.data.fill_(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copied_hook.step()
    assert zeros_kept(copied, hook.plan)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_plan_for_another_model_is_refused_and_the_model_untouched() -> None:
    plan = pruner().plan(network(), sc.Budget(sparsity=0.5))
    other = network()
    other[8] = nn.Linear(12, 5)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(sc.PlanError, match=r"'8\.weight' of shape \(4, 12\), the model's is \(5, 12\)"):
        KeepZeros(other, plan)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
