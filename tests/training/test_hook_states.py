"""States that are none of this hook's: refused, and the hook and its model are as they were."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

import secateur as sc
from secateur import schedules
from tests.small import network, pruner, taylor, zeros_kept


def trained(steps: int) -> sc.GradualPruning:
    model = network()
    hook = sc.GradualPruning(model, pruner(criterion=taylor()), sc.Budget(sparsity=0.6), schedules.linear(1, 5))
    for _ in range(steps):
        advance(hook)
    return hook


def advance(hook: sc.GradualPruning) -> None:
    for parameter in hook.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    hook.observe()
    hook.step()


State = dict[str, Any]


def without(key: str) -> Callable[[State], State]:
    return lambda state: {name: value for name, value in state.items() if name != key}


def decided(decide: Callable[[torch.Tensor], object]) -> Callable[[State], State]:
    return lambda state: {**state, "keep": {name: decide(keep) for name, keep in state["keep"].items()}}


CHANGES: dict[str, Callable[[State], State]] = {
    "nothing": lambda _: {},
    "no step": without("step"),
    "no decisions": without("keep"),
    "no gradients": without("gradients"),
    "no provenance": without("made_by"),
    "a step that is no number": lambda state: {**state, "step": "two"},
    "decisions that are none": decided(lambda _: None),
    "decisions of other sizes": decided(lambda keep: keep[1:]),
    "decisions that are numbers": decided(torch.Tensor.float),
    "groups of another model": lambda state: {**state, "keep": {"fc": torch.ones(3, dtype=torch.bool)}},
    "gradients of another model": lambda state: {**state, "gradients": {"fc.weight": torch.ones(3)}},
    "gradients of other sizes": lambda state: {**state, "gradients": {"0.weight": torch.ones(3)}},
    "gradients that are none": lambda state: {**state, "gradients": {"0.weight": 3.0}},
}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_strange_state_is_refused_and_nothing_changes(change: Callable[[State], State], steps: int) -> None:
    state = change(trained(4).state_dict())
    hook = trained(steps)
    before = copy.deepcopy((hook.state_dict(), dict(hook.model.state_dict())))
    with pytest.raises(sc.PlanError):
        hook.load_state_dict(state)
    assert same(hook.state_dict(), before[0])
    assert same(dict(hook.model.state_dict()), before[1])
    for _ in range(6 - steps):
        advance(hook)
    assert hook.settled
    assert hook.plan is not None
    assert hook.plan.weights_removed == round(0.6 * 504)
    assert zeros_kept(hook.model, hook.plan)


def test_a_loaded_state_shares_no_memory_with_the_one_it_was_loaded_from() -> None:
    state = trained(1).state_dict()
    hook = trained(0)
    hook.load_state_dict(state)
    wanted = copy.deepcopy(hook.state_dict())
    for gradient in state["gradients"].values():
        gradient.fill_(99)
    assert same(hook.state_dict(), wanted)
