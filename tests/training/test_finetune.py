"""The training loop: what a step follows, which epoch wins, and what holds zeros."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import secateur as sc
from secateur import schedules
from secateur.training import GradualPruning, History, KeepZeros, finetune, l2, rates, sgd
from tests.runs import LOSS, OPTIMIZERS, Line, Settles, batches, descend, downhill, sloping, with_dropout
from tests.small import data, network, pruner, zeros_kept

pytestmark = pytest.mark.usefixtures("seeded")  # which leaves the global generator as it was

DOUBLE = 2**-53  # a rounding of double precision


# ----------------------------------------------------------------------------------- the steps


@pytest.mark.parametrize("divide_by", [10, 100, 1, 0.5])
def test_the_rate_is_the_original_over_divide_by(divide_by: float) -> None:
    model = Line()
    descend(model, learning_rate=0.5, divide_by=divide_by)
    assert model.w.item() == 0.5 / divide_by


def test_the_rate_is_divided_by_ten_unless_said() -> None:
    model = Line()
    finetune(model, sloping(1), downhill, learning_rate=0.5, epochs=1, optimizer=torch.optim.SGD)
    assert model.w.item() == 0.5 / 10


def test_the_rate_of_every_group_follows_half_a_cosine() -> None:
    model = nn.ModuleDict({"slow": Line(), "fast": Line()})
    model.forward = lambda x: model["slow"](x) + model["fast"](x)  # type: ignore[method-assign, assignment]
    weights: list[list[float]] = []

    def two_rates(parameters: list[nn.Parameter], rate: float) -> Optimizer:
        slow, fast = parameters
        return torch.optim.SGD([{"params": [slow], "lr": rate / 8}, {"params": [fast]}], lr=rate)

    descend(
        model,
        rate=rates.cosine(4),
        epochs=4,
        optimizer=two_rates,
        on_epoch=lambda _: weights.append([parameter.item() for parameter in model.parameters()]),
    )
    cosine = [1, (2 + math.sqrt(2)) / 4, 1 / 2, (2 - math.sqrt(2)) / 4]
    total = [math.fsum(cosine[: epoch + 1]) for epoch in range(4)]
    # Four sums near 2.5, each rate rounded a few times.
    assert [fast for _, fast in weights] == pytest.approx(total, abs=32 * DOUBLE)
    assert [slow for slow, _ in weights] == pytest.approx([value / 8 for value in total], abs=4 * DOUBLE)


def test_two_steps_with_momentum_by_hand() -> None:
    """(w - 3)^2 at rate 0.1: Nesterov momentum 0.9 and weight decay 5e-4 written out."""
    model, w, velocity, losses = Line(), 0.0, 0.0, []
    for step in range(2):
        losses.append((w - 3) ** 2)
        slope = 2 * (w - 3) + 5e-4 * w
        velocity = 0.9 * velocity + slope if step else slope
        w -= 0.1 * (slope + 0.9 * velocity)
    history = descend(
        model, sloping(1), lambda y, _: (y - 3).square().sum(), learning_rate=1, divide_by=10, epochs=2, optimizer=sgd
    )
    # Some ten operations on numbers below 9, each rounded once.
    assert model.w.item() == pytest.approx(w, abs=90 * DOUBLE)
    assert history == History(pytest.approx(losses, abs=90 * DOUBLE))


def test_a_step_follows_the_mean_over_its_batches_and_those_left_over_make_one() -> None:
    model = Line()
    history = descend(model, sloping(1, 2, 5), accumulate=2)
    assert model.w.item() == 1.5 + 5
    # The loss before each step: 0 at w = 0, then -5 * 1.5.
    assert history.losses == ((0 - 7.5) / 2,)


def test_a_penalty_counts_once_a_step_however_many_batches_it_has() -> None:
    """R = w^2 / 4 has slope w / 2 at w = 4: one step at rate 1 on a mean slope of -2 gives 4 + 2 - 2."""
    for parts in ([2], [1, 3], [1, 2, 3]):
        model = nn.Linear(1, 1, bias=False).double()
        model.weight.data.fill_(4)
        given = [(x.view(1, 1), y) for x, y in sloping(*parts)]
        history = descend(model, given, accumulate=len(parts), regularizer=l2(1 / 4))
        assert model.weight.item() == pytest.approx(4, abs=16 * DOUBLE)  # thirds are rounded
        assert history.losses == pytest.approx((4 - 2 * 4,), abs=16 * DOUBLE)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_batches_are_one_large_batch(accumulate: int) -> None:
    inputs, labels = data()
    inputs, size = inputs.double(), 24 // accumulate
    one, two = network().double(), network().double()
    parts = [(inputs[at : at + size], labels[at : at + size]) for at in range(0, 24, size)]
    descend(one, [(inputs, labels)], LOSS, learning_rate=0.1)
    descend(two, parts, LOSS, learning_rate=0.1, accumulate=accumulate)
    # Gradients below 1 as sums of 24 terms in another order, each with the some 500 roundings of the layers after it.
    for name, value in one.state_dict().items():
        assert float((value - two.state_dict()[name]).abs().max()) < 0.1 * 24 * 500 * DOUBLE


class Recorded(KeepZeros):
    """Notes when it is called."""

    def __init__(self, model: nn.Module, plan: sc.Plan, calls: list[str]) -> None:
        super().__init__(model, plan)
        self.calls = calls

    def observe(self) -> None:
        self.calls.append("observe")
        super().observe()

    def step(self) -> None:
        self.calls.append("step")
        super().step()


def test_the_hook_looks_before_the_optimizer_and_acts_after_it_once_a_step() -> None:
    calls: list[str] = []
    model = network()
    hook = Recorded(model, pruner().plan(model, sc.Budget(sparsity=0.5)), calls)

    def optimizer(parameters: list[nn.Parameter], rate: float) -> Optimizer:
        made = sgd(parameters, rate)
        made.register_step_pre_hook(lambda *_: calls.append("optimizer"))
        return made

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        calls.append("loss")
        return LOSS(outputs, labels)

    descend(model, batches(), loss, hook=hook, optimizer=optimizer, accumulate=2, learning_rate=0.1)
    rest = ["observe", "optimizer", "step"]
    assert calls == ["loss", "loss", *rest, "loss", *rest]


class Distance(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.w * (x - y)


@pytest.mark.parametrize("inputs", [(torch.ones(1), torch.zeros(1)), {"y": torch.zeros(1), "x": torch.ones(1)}])
def test_models_of_several_inputs_are_trained(inputs: Any) -> None:
    model = Distance()
    descend(model, [(inputs, None)])
    assert model.w.item() == 2


# --------------------------------------------------------------------------------- best weights


@pytest.mark.parametrize(
    ("results", "after", "best"),
    [
        ([0.9, 0.1, 0.5, 0.4], 0, 0),
        ([0.9, 0.1, 0.5, 0.4], 2, 2),  # the first epoch had more weights left
        ([0.9, 0.1, 0.5, 0.4], 4, 3),
        ([0.9, 0.1, 0.5, 0.4], 5, None),
        ([0.1, 0.5, 0.5, 0.2], 0, 1),  # of equals the earliest
        ([math.nan, 0.5, 0.9, 0.1], 0, 2),
        ([0.5, math.nan, 0.4, 0.4], 0, 0),
        ([math.nan, math.nan, -math.inf, math.nan], 0, 2),
        ([math.nan] * 4, 0, None),
    ],
)
def test_the_best_epoch_at_the_final_sparsity_wins(results: list[float], after: int, best: int | None) -> None:
    model, weights, seen, given = Line(), [], [], iter(results)

    def on_epoch(history: History) -> None:
        weights.append(model.w.item())
        seen.append(len(history.losses))

    history = descend(
        model, epochs=4, hook=Settles(after), validate=lambda _: next(given), on_epoch=on_epoch, rate=rates.cosine(4)
    )
    assert history.best_epoch == best
    assert repr(history.validation) == repr(tuple(results))
    assert seen == [1, 2, 3, 4]
    assert len(set(weights)) == 4
    assert model.w.item() == weights[-1 if best is None else best]


def test_without_validation_the_last_weights_stay() -> None:
    model = Line()
    history = descend(model, epochs=3)
    assert model.w.item() == 3
    assert (history.validation, history.best_epoch) == ((), None)


def test_validation_is_in_eval_mode_without_gradients_and_training_goes_on() -> None:
    model, modes = with_dropout(), []

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        modes.append(("train", model.training, torch.is_grad_enabled()))
        return LOSS(outputs, labels)

    def validate(validated: nn.Module) -> float:
        assert validated is model
        modes.append(("validate", model.training, torch.is_grad_enabled()))
        validated.train()  # whatever it leaves behind
        validated[0].eval()
        return 0

    more = {"validate": validate, "on_epoch": lambda _: model.eval()}  # as who looks at it in between
    descend(model, [data()], loss, epochs=2, learning_rate=0.1, **more)
    assert modes == [("train", True, True), ("validate", False, False)] * 2


@pytest.mark.parametrize("fails", [False, True])
def test_every_module_is_in_its_own_mode_afterwards(fails: bool) -> None:
    model = with_dropout()
    model[0].eval()
    before = [module.training for module in model.modules()]
    if fails:
        with pytest.raises(sc.RunError):
            descend(model, [data()], lambda y, _: y.sum() * math.nan)
    else:
        descend(model, batches(), LOSS, learning_rate=0.1, validate=lambda _: 1)
    assert [module.training for module in model.modules()] == before


# --------------------------------------------------------------------------------------- zeros


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_a_plan_is_held(name: str, autocast: torch.dtype | None) -> None:
    model, kinds = network(), []
    plan = pruner().plan(model, sc.Budget(sparsity=0.7))
    before = {key: value.clone() for key, value in model.state_dict().items()}

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        kinds.append(outputs.dtype)
        assert zeros_kept(model, plan)
        return LOSS(outputs, labels)

    more = {"optimizer": OPTIMIZERS[name], "autocast": autocast, "accumulate": 2}
    history = descend(model, batches(), loss, learning_rate=0.05, epochs=3, plan=plan, **more)
    assert zeros_kept(model, plan)
    assert len(history.losses) == 3
    assert set(kinds) == {autocast or torch.float32}
    assert model.get_parameter("6.weight").dtype is torch.float32
    for group, kept in plan.masks().items():
        assert bool((model.get_parameter(group)[kept] != before[group][kept]).any())


def test_a_held_plan_is_keep_zeros_by_hand() -> None:
    plan = pruner().plan(network(), sc.Budget(sparsity=0.7))
    one, two = network(), network()
    finetune(one, batches(), LOSS, learning_rate=0.1, epochs=2, plan=plan)
    held, optimizer = KeepZeros(two, plan), sgd(list(two.parameters()), 0.01)
    loader = batches()
    for _ in range(2):
        for inputs, labels in loader:
            optimizer.zero_grad()
            LOSS(two(inputs), labels).backward()
            held.observe()
            optimizer.step()
            held.step()
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


def test_a_schedule_is_followed_to_the_final_sparsity() -> None:
    model = network()
    hook = GradualPruning(model, pruner(), sc.Budget(sparsity=0.75), schedules.cubic(0, 5))
    descend(model, batches(), LOSS, learning_rate=0.1, epochs=3, hook=hook, optimizer=sgd, validate=lambda _: 1)
    assert (hook.steps, hook.settled) == (9, True)
    assert hook.plan is not None
    assert hook.plan.weights_removed == round(0.75 * 504)
    assert zeros_kept(model, hook.plan)


def test_no_epochs_apply_the_plan_and_leave_the_rest() -> None:
    model = network()
    plan = pruner().plan(model, sc.Budget(sparsity=0.5))
    assert descend(model, batches(), LOSS, epochs=0, plan=plan) == History()
    assert all(torch.equal(value, sc.mask(network(), plan).state_dict()[n]) for n, value in model.state_dict().items())


def test_frozen_parameters_are_not_given_to_the_optimizer() -> None:
    model, given = network(), []
    model[0].requires_grad_(False)
    model[0].weight.data.fill_(0.25)

    def optimizer(parameters: list[nn.Parameter], rate: float) -> Optimizer:
        given.extend(parameters)
        return sgd(parameters, rate)

    descend(model, batches(), LOSS, learning_rate=0.1, optimizer=optimizer)
    assert [id(one) for one in given] == [id(one) for one in model.parameters() if one.requires_grad]
    assert bool((model[0].weight == 0.25).all())
