"""SNIP, movement and Optimal Brain Damage against their definitions."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import secateur as sc
from secateur import criteria, granularity, schedules
from secateur.criteria import Group
from secateur.criteria.obd import Curvature
from secateur.errors import DataError, UnknownNameError
from secateur.statistics import Statistics
from secateur.training import GradualPruning
from tests.nets import WEIGHT
from tests.small import data, network, pruner


def on_linear(criterion: sc.Criterion, weights: Tensor, statistics: Statistics, build: Any = granularity.weight) -> Any:
    (units,) = build()(nn.Linear(weights.shape[1], weights.shape[0], bias=False)).values()
    return criterion.score(Group("weight", units, {WEIGHT: weights}, statistics)).tolist()


W, G = torch.tensor([[2.0, -1.0], [0.5, 4.0]]), torch.tensor([[1.0, 3.0], [-2.0, 0.0]])


def test_snip_is_the_magnitude_of_weight_times_gradient() -> None:
    found = Statistics({"gradient": {"weight": G}})
    assert on_linear(criteria.snip(), W, found) == [2, 3, 1, 0]
    assert on_linear(criteria.snip(), W, found, granularity.filter) == [5, 1]


@given(st.floats(0.01, 100))
@settings(max_examples=10)
def test_dividing_by_the_sum_over_the_model_moves_no_rank(factor: float) -> None:
    """The normalisation of the paper, left out here."""
    x, t = data()
    found = sc.calibrate(network(), [(x, t)], ["gradient"], loss=F.cross_entropy)
    scaled = Statistics({"gradient": {name: value * factor for name, value in found.values["gradient"].items()}})
    plans = [
        pruner(criterion=criteria.snip()).plan(network(), sc.Budget(sparsity=0.8), statistics=each)
        for each in (found, scaled)
    ]
    # a factor rounds; nothing but near ties may change places
    differ = sum(int((plans[0].masks()[name] != mask).sum()) for name, mask in plans[1].masks().items())
    assert differ <= 2


def test_snip_takes_the_gradient_over_all_batches() -> None:
    x, t = data()
    one = pruner(criterion=criteria.snip()).plan(
        network(), sc.Budget(sparsity=0.5), data=[(x, t)], loss=F.cross_entropy
    )
    model = network()
    F.cross_entropy(model(x), t).backward()
    sizes = {name: (value * value.grad).abs().detach() for name, value in model.named_parameters()}
    kept = torch.cat([sizes[name][mask] for name, mask in one.masks().items()])
    gone = torch.cat([sizes[name][~mask] for name, mask in one.masks().items()])
    assert float(kept.min()) >= float(gone.max())


def test_movement_on_data_sums_over_batches_at_the_weights_as_they_are() -> None:
    line = nn.Linear(1, 1, bias=False)
    line.weight.data.fill_(2)
    batches = [(torch.tensor([[1.0], [3.0]]), None), (torch.tensor([[5.0]]), None)]
    found = sc.calibrate(line, batches, ["movement"], loss=lambda y, _: y.mean())
    assert found.of("movement", "weight").tolist() == [[-(2 + 5) * 2]]
    assert on_linear(criteria.movement(), line.weight.detach(), found) == [-14]


def moving(steps: int = 6) -> tuple[GradualPruning, list[Tensor]]:
    """Plain descent on a quadratic whose minimum is away from the start; what was added up, by hand."""
    model = nn.Linear(4, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, 1.0, -1.0, 0.5]])
    goal = torch.tensor([[3.0, 0.2, -1.2, 0.5]])
    schedule = schedules.iterative([0.25, 0.5], every=2, begin=3)
    hook = GradualPruning(model, pruner(criterion=criteria.movement()), sc.Budget(sparsity=0.5), schedule)
    sums = [torch.zeros(1, 4)]
    for _ in range(steps):
        model.weight.grad = (2 * (model.weight - goal)).detach()
        hook.observe()
        sums.append(sums[-1] - model.weight.grad * model.weight.detach())
        model.weight.data -= 0.1 * model.weight.grad
        hook.step()
    return hook, sums


def test_movement_adds_up_over_steps_and_plans_and_keeps_what_grows() -> None:
    hook, sums = moving()
    assert torch.allclose(hook._seen["movement"].sums["weight"], sums[-1])
    assert hook.plan is not None
    # 1 to 3 grows and -1 to -1.2 a little; 0.5 stays where it is, 1 to 0.2 shrinks: those go
    assert hook.plan.masks()["weight"].tolist() == [[True, False, True, False]]


def test_movement_goes_on_after_a_stop() -> None:
    hook, _ = moving(4)
    again = GradualPruning(hook.model, hook.pruner, hook.budget, hook.schedule)
    again.load_state_dict(hook.state_dict())
    assert torch.equal(again._seen["movement"].sums["weight"], hook._seen["movement"].sums["weight"])


def test_saliency_is_half_of_curvature_times_weight_squared() -> None:
    found = Statistics({"curvature_exact": {"weight": torch.tensor([[1.0, 4.0], [8.0, 0.5]])}})
    assert on_linear(criteria.obd("exact"), W, found) == [2, 2, 1, 4]
    assert on_linear(criteria.obd("exact"), W, found, granularity.filter) == [4, 5]


def test_negative_curvature_counts_as_none() -> None:
    found = Statistics({"curvature_hutchinson": {"weight": torch.tensor([[-1.0, 4.0], [-8.0, 0.0]])}})
    assert on_linear(criteria.obd("hutchinson"), W, found) == [0, 2, 0, 0]


class Scaled(nn.Module):
    """y_i = w_i x_i: with squared errors the loss is quadratic, and its Hessian diagonal."""

    def __init__(self, n: int = 5) -> None:
        super().__init__()
        self.layer = nn.Conv1d(n, n, 1, groups=n, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.layer(x[:, :, None])[:, :, 0])


@pytest.mark.parametrize("curvature", ["exact", "recursion", "full_recursion", "hutchinson", "hutchinson_ggn"])
def test_on_a_quadratic_with_diagonal_hessian_the_rise_is_predicted_exactly(curvature: Any) -> None:
    torch.manual_seed(0)
    model, x = Scaled().double(), torch.randn(20, 5).double()
    target = model(x).detach()  # the minimum
    criterion = criteria.obd(curvature)
    (units,) = granularity.weight()(model).values()
    found = sc.calibrate(model, [(x, target)], criterion.needs, loss=F.mse_loss, units={"layer": units})
    axis = next(iter(units.index))
    predicted = criterion.score(Group("layer", units, {axis: model.layer.weight.detach()}, found))
    for gone in ([0], [1, 3], [0, 1, 2, 3, 4]):
        pruned = Scaled().double()
        pruned.load_state_dict(model.state_dict())
        pruned.layer.weight.data[gone] = 0
        assert float(F.mse_loss(pruned(x), target).detach()) == pytest.approx(float(predicted[gone].sum()), rel=1e-9)


def test_on_a_quadratic_obd_cuts_less_loss_than_magnitude() -> None:
    torch.manual_seed(0)
    model, x = Scaled(20), torch.randn(50, 20) * torch.logspace(-1, 1, 20)
    target = model(x).detach()
    losses = []
    for criterion in (criteria.obd("exact"), criteria.magnitude(), criteria.random()):
        plan = pruner(criterion=criterion).plan(model, sc.Budget(sparsity=0.5), data=[(x, target)], loss=F.mse_loss)
        losses.append(float(F.mse_loss(sc.mask(model, plan)(x), target).detach()))
    assert losses[0] < min(losses[1:])


@pytest.mark.parametrize("curvature", get_args(Curvature))
def test_every_way_plans(curvature: Any) -> None:
    x, t = data()
    plan = pruner(criterion=criteria.obd(curvature)).plan(
        network(), sc.Budget(sparsity=0.5), data=[(x, t)], loss=F.cross_entropy
    )
    assert plan.made_by["method"] == f"obd({curvature})"
    assert sum(part.weights_removed for part in plan.parts) == 252


def test_what_is_missing_is_said() -> None:
    for criterion in (criteria.obd(), criteria.snip(), criteria.movement(), criteria.taylor()):
        with pytest.raises(DataError, match="needs data"):
            pruner(criterion=criterion).plan(network(), sc.Budget(sparsity=0.5))
        with pytest.raises(DataError, match="need a loss"):
            pruner(criterion=criterion).plan(network(), sc.Budget(sparsity=0.5), data=[data()])
    with pytest.raises(DataError, match=r"needs \['curvature_exact'\]: pass statistics=calibrate"):
        GradualPruning(
            network(), pruner(criterion=criteria.obd("exact")), sc.Budget(sparsity=0.5), schedules.one_shot()
        )


def test_an_unknown_curvature() -> None:
    with pytest.raises(UnknownNameError, match="no curvature is named 'hutch'; nearest: hutchinson"):
        criteria.obd("hutch")  # type: ignore[arg-type]
