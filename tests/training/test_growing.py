"""Growing regularisation: strengths and weights by hand, what is chosen, and runs that stop and go on."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.plan import Part
from secateur.training import GrowingRegularization, finetune, growing
from tests.runs import LOSS, OPTIMIZERS, STEPS, Stop, batches, bits, with_dropout
from tests.small import data, network, pruner, taylor, zeros_kept


def line(*weights: float) -> nn.Linear:
    """A linear layer with these weights, in double precision."""
    model = nn.Linear(len(weights), 1, bias=False).double()
    model.weight.data.copy_(torch.tensor([weights], dtype=torch.float64))
    return model


def without(model: nn.Linear, *gone: int) -> sc.Plan:
    """The plan that removes weights by number."""
    keep = torch.tensor([number not in gone for number in range(model.in_features)])
    return sc.Plan((Part("weight", granularity.weight()(model)["weight"], keep),))


# ------------------------------------------------------------------------------------ the penalty


@given(
    delta=st.floats(1e-5, 1), every=st.integers(1, 7), rises=st.integers(1, 30), part=st.sampled_from([0.01, 0.5, 1.0])
)
def test_the_strength_grows_by_delta_every_few_steps_up_to_the_ceiling(
    delta: float, every: int, rises: int, part: float
) -> None:
    """A ceiling of `rises` whole deltas, or of a part of the last one."""
    ceiling = delta * (rises - 1 + part)
    penalty = growing(without(line(1, 2), 0), delta=delta, every=every, ceiling=ceiling)
    assert penalty.steps == (rises - 1) * every
    for step in range(rises * every + 5):
        wanted = min(ceiling, delta * (step // every + 1))
        assert penalty.strength(step) == pytest.approx(wanted, rel=1e-12)
    assert penalty.strength(penalty.steps) == ceiling
    if penalty.steps:
        assert penalty.strength(penalty.steps - 1) < ceiling


def test_the_defaults_reach_their_ceiling_after_ten_thousand_rises() -> None:
    penalty = growing(without(line(1, 2), 0))
    assert (penalty.steps, penalty.strength(0), penalty.strength(49_994), penalty.strength(49_995)) == (
        49_995,
        1e-4,
        0.9999,
        1.0,
    )


def test_the_penalty_is_half_the_strength_times_the_squares_of_what_leaves() -> None:
    """0.5 * 0.2 * (3^2 + 4^2), and its slope 0.2 * w; nothing of the weight that stays."""
    model = line(3, 5, -4)
    value = growing(without(model, 0, 2), delta=0.1, every=2, ceiling=1)(model, 3)
    value.backward()
    assert value.item() == pytest.approx(2.5, rel=1e-15)
    assert model.weight.grad.flatten().tolist() == pytest.approx([0.6, 0, -0.8], rel=1e-15)


def test_of_units_everything_that_is_free_to_leave_is_penalised() -> None:
    model = network()
    groups = sc.Pruner(criteria.magnitude(), granularity.filter(), allocation.uniform(), exclude=("6",)).groups(model)
    free = ("0.weight", "2.weight", "8.weight")
    wanted = math.fsum(model.get_parameter(name).double().square().sum().item() for name in free)
    # single precision: sums of at most 288 squares, half an ulp each
    assert growing(groups, delta=2, every=1, ceiling=2)(model, 0).item() == pytest.approx(wanted, rel=300 * 2**-24)


def test_channels_are_pushed_with_their_norm_and_their_readers() -> None:
    """All that `mask` would set to zero: the filter, scale and shift of its norm, the columns that read it."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 1, 1))
    groups = granularity.channel(torch.zeros(1, 1, 2, 2))(model)
    plan = sc.Plan(tuple(Part(name, units, torch.arange(units.n_units) == 0) for name, units in groups.items()))
    pushed = growing(plan).penalised
    assert set(pushed) == {"0.weight", "0.bias", "1.weight", "1.bias", "3.weight"}
    assert all(torch.equal(chosen, ~plan.masks()[name]) for name, chosen in pushed.items())


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"delta": 0}, "delta of a growing penalty is 0; expected a number above 0"),
        ({"delta": math.nan}, "delta of a growing penalty is nan"),
        ({"ceiling": -1}, "ceiling of a growing penalty is -1"),
        ({"ceiling": math.inf}, "ceiling of a growing penalty is inf"),
        ({"every": 0}, "a growing penalty grows every 0 steps; expected 1 or more"),
    ],
)
def test_numbers_out_of_range_are_refused(numbers: dict[str, float], words: str) -> None:
    model = line(1, 2)
    with pytest.raises(sc.RunError, match=words):
        growing(without(model, 0), **numbers)
    with pytest.raises(sc.RunError, match=words):
        GrowingRegularization(model, pruner(), sc.Budget(sparsity=0.5), **numbers)


def test_a_plan_that_removes_nothing_and_another_model_are_refused() -> None:
    model = line(1, 2)
    with pytest.raises(sc.PlanError, match="nothing is penalised"):
        growing(without(model))
    with pytest.raises(sc.PlanError, match=r"of shape \(1, 2\), the model's is \(1, 3\)"):
        growing(without(model, 0))(line(1, 2, 3), 0)


# --------------------------------------------------------------------------------------- the hook


def hook_of(model: nn.Module, sparsity: float = 0.5, **more: Any) -> GrowingRegularization:
    given = {"delta": 0.1, "every": 2, "ceiling": 0.3} | more
    return GrowingRegularization(model, pruner(), sc.Budget(sparsity=sparsity), **given)


def drive(
    hook: GrowingRegularization, optimizer: torch.optim.Optimizer, steps: int, loss: Callable[[], Tensor] | None = None
) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        if loss is not None:
            loss().backward()
        hook.observe()
        optimizer.step()
        hook.step()


def test_what_leaves_shrinks_by_the_product_of_its_steps_then_goes() -> None:
    """Plain SGD at rate 0.5, strengths 0.1, 0.1, 0.2, 0.2, 0.3 (the ceiling), one more held: 0.3."""
    model = line(4, 2)
    hook = hook_of(model, hold=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    expected = 2.0
    for step, strength in enumerate((0.1, 0.1, 0.2, 0.2, 0.3)):
        assert hook.strength == pytest.approx(strength, rel=1e-15)
        drive(hook, optimizer, 1)
        expected *= 1 - 0.5 * strength
        assert model.weight.flatten().tolist() == pytest.approx([4, expected], rel=1e-14), step
        assert not hook.settled
        assert hook.plan is None
        assert hook.chosen.masks()["weight"].tolist() == [[True, False]]
    drive(hook, optimizer, 1)
    assert hook.settled
    assert hook.strength == 0
    assert hook.plan is hook.chosen
    assert model.weight.tolist() == [[4, 0]]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_what_leaves_is_near_zero_before_it_goes_with_any_optimizer(kind: str) -> None:
    """The loss has no slope; strength 1 at the ceiling, reached after 100 steps, 200 more held, at rate 0.05.

    Under Nesterov momentum 0.9 both roots of z^2 - 1.9 (1 - 0.05) z + 0.9 (1 - 0.05) have the size
    sqrt(0.9 * 0.95) = 0.925, so 200 steps leave less than 1e-5 of what there was. AdamW moves by its rate at most, so
    from 1 it takes some 20 steps, and then swings within 10 rates of zero. The weight that stays loses what its decay
    takes: 1 - 0.05 * 0.01 a step for AdamW, so 4 * 0.9995^299 = 3.444; less for SGD.
    """
    model = line(4, 1)
    hook = hook_of(model, delta=0.01, every=1, ceiling=1.0, hold=200)
    optimizer = OPTIMIZERS[kind](list(model.parameters()), 0.05)
    drive(hook, optimizer, 299)
    assert hook.plan is None
    kept, pushed = model.weight.flatten().tolist()
    assert abs(pushed) < (1e-5 if kind == "sgd" else 0.5)
    assert kept > 3.44
    drive(hook, optimizer, 1)
    assert hook.settled
    drive(hook, optimizer, 5, lambda: model(torch.ones(1, 2).double()).sum())
    assert model.weight[0, 1].item() == 0


def bowl(model: nn.Linear, curvatures: Tensor, at: Tensor) -> Callable[[], Tensor]:
    """A loss of diagonal curvature around a minimum."""
    return lambda: 0.5 * (curvatures * (model.weight.flatten() - at).square()).sum()


def test_a_common_penalty_lets_magnitude_see_the_curvature() -> None:
    """At the minimum 1.0 with curvature 0.02 and 0.9 with curvature 1: by size alone the second leaves (GReg-1).

    Under a common strength s each settles at w h / (h + s). At s = 0.1 that is 1 / 6 and 0.9 / 1.1, so the first
    leaves (GReg-2), which costs the loss 0.01 in place of 0.405.
    """
    at, curvatures = torch.tensor([1.0, 0.9]).double(), torch.tensor([0.02, 1.0]).double()
    chosen = []
    for more in ({}, {"pick_delta": 1e-3, "pick_ceiling": 0.1}):
        model = line(1.0, 0.9)
        hook = hook_of(model, **more)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        steps = 0
        while hook.chosen is None:
            drive(hook, optimizer, 1, bowl(model, curvatures, at))
            steps += 1
        # 100 rises of 0.001, every 2 steps; the choice is made at the step after them
        assert steps == (201 if more else 1)
        chosen.append(hook.chosen.masks()["weight"].flatten().tolist())
    assert chosen == [[True, False], [False, True]]


def test_weights_settle_under_the_common_penalty_where_curvature_and_strength_balance() -> None:
    """w h / (h + s), followed so slowly that it is met within a hundredth."""
    at, curvatures = torch.tensor([1.0, 0.9]).double(), torch.tensor([0.2, 1.0]).double()
    model = line(1.0, 0.9)
    hook = hook_of(model, pick_delta=1e-3, pick_ceiling=0.1, every=20)
    drive(hook, torch.optim.SGD(model.parameters(), lr=0.5), 2000, bowl(model, curvatures, at))
    assert hook.chosen is None
    assert model.weight.flatten().tolist() == pytest.approx([0.2 / 0.3, 0.9 / 1.1], abs=0.01)


def test_it_trains_with_finetune_and_its_zeros_stay() -> None:
    model = with_dropout()
    hook = GrowingRegularization(
        model, pruner(granularity.filter()), sc.Budget(sparsity=0.5), delta=0.25, every=1, ceiling=1.0, hold=2
    )
    history = finetune(
        model, batches(), LOSS, learning_rate=0.1, divide_by=1, epochs=4, hook=hook, validate=lambda _: 0.0
    )
    assert hook.settled
    assert hook.steps == 4 * STEPS
    assert zeros_kept(model, hook.plan)
    assert history.best_epoch == 1  # removed at step 6 of 12: the first epoch does not compete


def test_parameters_that_do_not_train_are_left_alone() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    hook = GrowingRegularization(model, pruner(granularity.filter()), sc.Budget(sparsity=0.5), ceiling=1, delta=0.5)
    hook.observe()
    assert torch.equal(model[0].weight, before)
    assert model[0].weight.grad is None
    assert bool(model[2].weight.grad.any())


# ----------------------------------------------------------------------------- stopping, going on


class Run:
    """A run with a checkpoint, whose data may give out at a step."""

    def __init__(self, how: dict[str, Any]) -> None:
        torch.manual_seed(6)
        self.model = with_dropout(seed=6)
        self.hook = GrowingRegularization(self.model, pruner(granularity.filter()), sc.Budget(sparsity=0.5), **how)
        self.seen = 0

    def go(self, path: Path | None, stop: int | None = None) -> Any:
        def loss(outputs: Tensor, labels: Any) -> Tensor:
            if self.seen == stop:
                raise Stop
            self.seen += 1
            return LOSS(outputs, labels)

        given = {"learning_rate": 0.1, "divide_by": 1, "epochs": 5, "hook": self.hook, "progress": False}
        finetune(self.model, batches(3), loss, checkpoint=path, resume=path is not None, **given)
        return bits([self.model.state_dict(), self.hook.state_dict()])


@pytest.mark.parametrize("stop", [1, 4, 7, 10, 13])
@pytest.mark.parametrize("more", [{}, {"pick_delta": 0.01, "pick_ceiling": 0.05}], ids=["GReg-1", "GReg-2"])
def test_a_run_that_stopped_ends_in_the_same_bits(tmp_path: Path, stop: int, more: dict[str, float]) -> None:
    """15 steps: the common penalty for 5, if there is one, the choice, the growth for 4 and 2 more, the zeros."""
    how = {"delta": 0.25, "every": 1, "ceiling": 1.0, "hold": 2, **more}
    whole = Run(how).go(None)
    with pytest.raises(Stop):
        Run(how).go(tmp_path / "state", stop)
    again = Run(how)
    assert again.go(tmp_path / "state") == whole
    assert again.hook.settled


def stated(steps: int) -> GrowingRegularization:
    hook = hook_of(network(), every=1, hold=1)
    drive(hook, torch.optim.SGD(hook.model.parameters(), lr=0.1), steps)
    return hook


@pytest.mark.parametrize("steps", [0, 1, 6])
@pytest.mark.parametrize(
    "change",
    [
        lambda _: {},
        lambda state: {**state, "step": "two"},
        lambda state: {name: value for name, value in state.items() if name != "removed"},
        lambda state: {**state, "keep": {name: keep[1:] for name, keep in state["keep"].items()}},
        lambda state: {**state, "keep": {"fc": torch.ones(3, dtype=torch.bool)}},
        lambda state: {**state, "keep": {name: torch.ones_like(keep) for name, keep in state["keep"].items()}},
    ],
)
def test_a_strange_state_is_refused_and_nothing_changes(change: Callable[[Any], Any], steps: int) -> None:
    state, hook = change(stated(4).state_dict()), stated(steps)
    before = copy.deepcopy(bits([hook.state_dict(), hook.model.state_dict()]))
    with pytest.raises(sc.PlanError):
        hook.load_state_dict(state)
    assert bits([hook.state_dict(), hook.model.state_dict()]) == before


def test_methods_and_criteria_that_cannot_be_used_are_refused() -> None:
    def selection(*_: Any) -> sc.Plan:
        raise NotImplementedError

    mending = sc.Pruner(selection, granularity.weight(), allocation.uniform())
    with pytest.raises(sc.ModelError, match="takes criteria only"):
        GrowingRegularization(network(), mending, sc.Budget(sparsity=0.5))
    with pytest.raises(sc.DataError, match=r"taylor needs \['gradient'\]: pass statistics="):
        GrowingRegularization(network(), pruner(criterion=taylor()), sc.Budget(sparsity=0.5))
    for name, value in (("hold", -1), ("pick_ceiling", -0.1), ("pick_ceiling", math.nan)):
        with pytest.raises(sc.RunError, match=f"{name} is {value}; expected 0"):
            hook_of(network(), **{name: value})


def test_statistics_may_be_given() -> None:
    model = network()
    found = sc.calibrate(model, [data()], ["gradient"], loss=LOSS)
    hook = GrowingRegularization(model, pruner(criterion=taylor()), sc.Budget(sparsity=0.5), statistics=found)
    hook.observe()
    assert hook.chosen is not None
    assert hook.chosen.weights_removed == 252
