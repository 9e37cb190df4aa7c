"""Which gradients a criterion sees while a model trains: the mean of those since the last plan."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur import criteria, schedules
from secateur.training import GradualPruning
from tests.small import pruner


class Watched:
    """A hook on one linear layer, whose criterion notes the gradient that it is given."""

    def __init__(self, schedule: schedules.Schedule, dtype: torch.dtype = torch.float32) -> None:
        self.seen: list[Tensor] = []
        self.model = nn.Linear(2, 2, bias=False).to(dtype)
        criterion = criteria.elementwise(self.note, name="noting", needs=("gradient",))
        self.hook = GradualPruning(self.model, pruner(criterion=criterion), sc.Budget(sparsity=0.5), schedule)

    def note(self, weights: Tensor, gradient: Tensor) -> Tensor:
        self.seen.append(gradient.clone())
        return weights.abs()

    def step(self, *gradients: float) -> None:
        for value in gradients:
            self.model.weight.grad = torch.full_like(self.model.weight, value)
            self.hook.observe()
        self.hook.step()


def test_the_mean_is_over_the_steps_since_the_last_plan() -> None:
    watched = Watched(schedules.iterative([0.25, 0.5], every=2, begin=1))
    watched.step(1)
    watched.step(3)  # the first plan
    assert watched.hook.plan is not None
    mask = watched.hook.plan.masks()["weight"]
    watched.step(10)
    watched.step(20)  # the second one; removed weights have no gradient meanwhile
    assert torch.equal(watched.seen[0], torch.full((2, 2), 2.0))
    assert torch.equal(watched.seen[1], 15.0 * mask)


def test_a_state_between_two_plans_keeps_the_mean() -> None:
    schedule = schedules.iterative([0.25, 0.5], every=2, begin=1)
    first, again = Watched(schedule), Watched(schedule)
    for step in range(3):
        first.step(step)
    again.model.load_state_dict(first.model.state_dict())
    again.hook.load_state_dict(first.hook.state_dict())
    for watched in (first, again):
        watched.step(7)
    assert torch.equal(first.seen[-1], again.seen[-1])
    assert sorted(again.seen[-1].unique().tolist()) == [0, 4.5]


def test_gradients_of_half_precision_are_averaged_in_single() -> None:
    watched = Watched(schedules.one_shot(at=300), torch.bfloat16)
    for _ in range(300):
        watched.step(1)
    watched.step(302)
    (seen,) = watched.seen
    assert seen.dtype == torch.float32
    assert torch.allclose(seen, torch.tensor(602 / 301))  # a sum in bfloat16 would stop at 256


def test_a_plan_without_a_gradient_since_the_last_is_refused_and_can_be_made_later() -> None:
    watched = Watched(schedules.linear(0, 2))
    watched.step(1)
    with pytest.raises(sc.DataError, match="none were observed since the last plan"):
        watched.step()
    assert watched.hook.steps == 1
    watched.step(2)
    assert watched.hook.steps == 2


def test_a_gradient_that_was_given_is_not_averaged() -> None:
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, 1.0]])
    found = sc.Statistics({"gradient": {"weight": torch.tensor([[5.0, 1.0]])}}, 1)
    taylor = criteria.elementwise(lambda w, g: (w * g).abs(), name="taylor", needs=("gradient",))
    hook = GradualPruning(
        model, pruner(criterion=taylor), sc.Budget(sparsity=0.5), schedules.one_shot(), statistics=found
    )
    model.weight.grad = torch.tensor([[0.0, 9.0]])
    hook.observe()
    hook.step()
    assert model.weight.tolist() == [[1.0, 0.0]]
