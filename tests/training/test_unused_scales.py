"""What penalties of scales do to a scale that nothing holds, with every optimizer, and to a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.tasks import digits, evaluate, train
from secateur.training import (
    Regularizer,
    bn_l1,
    finetune,
    polarization,
    sgd,
    smooth_l1,
    undecayed,
)
from tests.training.test_norm_regularizers import norm

RATE, STRENGTH, STEPS = 0.01, 0.1, 600


def plain(parameters: list[nn.Parameter], rate: float) -> Optimizer:
    return torch.optim.SGD(parameters, lr=rate)


def decayed(parameters: list[nn.Parameter], rate: float) -> Optimizer:
    return torch.optim.SGD(parameters, lr=rate, weight_decay=0.05)


def momentum(parameters: list[nn.Parameter], rate: float) -> Optimizer:
    return torch.optim.SGD(parameters, lr=rate, momentum=0.9)


def adamw(parameters: list[nn.Parameter], rate: float) -> Optimizer:
    return torch.optim.AdamW(parameters, lr=rate)


def left(optimizer: Callable[..., Optimizer], penalty: Regularizer, *, start: float = 0.5037) -> list[float]:
    """A used scale and an unused one after training: the loss holds the first at 1, by (gamma - 1)^2 / 2."""
    model = norm([1.0, start])
    batches = [(torch.zeros(1), torch.zeros(1))] * STEPS

    def held(_: Any, __: Any) -> Tensor:
        return 0.5 * (model.weight[0] - 1).square() + 0 * model.weight[1]

    class Scales(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = model

        def forward(self, x: Tensor) -> Tensor:
            return x

    finetune(
        Scales(),
        batches,
        held,
        learning_rate=RATE,
        divide_by=1,
        epochs=1,
        optimizer=optimizer,
        regularizer=penalty,
        progress=False,
    )
    return model.weight.tolist()


# How far from zero an unused scale may be once it is there: a step, or all that momentum m may add to one.
# SGD moves by rate * strength; with momentum by 1 / (1 - m) of it a step, and 1 / (1 - m) steps of that follow a change
# of sign. Adam moves by the rate whatever the strength is, and by m / (1 - m) of that after a change of sign.
BOUNDS = {
    plain: RATE * STRENGTH,
    decayed: RATE * STRENGTH,
    undecayed(decayed): RATE * STRENGTH,
    momentum: RATE * STRENGTH / 0.1**2,
    sgd: RATE * STRENGTH / 0.1**2,
    undecayed(sgd): RATE * STRENGTH / 0.1**2,
    adamw: RATE / 0.1,
    undecayed(adamw): RATE / 0.1,
}


@pytest.mark.parametrize("optimizer", BOUNDS, ids=lambda one: getattr(one, "__name__", repr(one)[:30]))
def test_a_scale_that_nothing_holds_goes_to_zero_with_any_optimizer(optimizer: Callable[..., Optimizer]) -> None:
    """0.5037 is 504 plain steps of 0.001 away, so 600 steps are enough for all; the decay of weights only helps.

    The used scale settles where its own slope meets that of the penalty and of the decay, at most 0.05:
    gamma - 1 + 0.1 + decay * gamma = 0, so between 0.9 / 1.05 and 0.9. Plain steps are 0.99^600 of 0.15 away from
    there, less than 0.001; AdamW may be as far away as from zero.
    """
    used, unused = left(optimizer, bn_l1(STRENGTH))
    assert abs(unused) <= BOUNDS[optimizer] * (1 + 1e-9)
    slack = max(1e-3, BOUNDS[optimizer] if optimizer is adamw or "adamw" in repr(optimizer) else 0)
    assert 0.9 / 1.05 - slack <= used <= 0.9 + slack


def test_plain_steps_towards_zero_are_exact() -> None:
    """300 steps of rate * strength = 0.001, from 0.5: 0.2; the used scale follows 0.9 + 0.1 * 0.99^n."""
    model = norm([1.0, 0.5])
    optimizer, penalty = plain(list(model.parameters()), RATE), bn_l1(STRENGTH)
    for _ in range(300):
        optimizer.zero_grad()
        (0.5 * (model.weight[0] - 1).square() + penalty(model)).backward()
        optimizer.step()
    assert model.weight[1].item() == pytest.approx(0.2, abs=1e-12)
    assert model.weight[0].item() == pytest.approx(0.9 + 0.1 * 0.99**300, abs=1e-12)


def test_the_strength_does_not_change_how_fast_adamw_takes_an_unused_scale_to_zero() -> None:
    """40 steps of 0.01 from 0.5, for strengths 1000 apart; SGD goes by strength."""
    ends = []
    for strength in (1e-3, 1.0):
        model = norm([0.5])
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0)
        for _ in range(40):
            optimizer.zero_grad()
            bn_l1(strength)(model).backward()
            optimizer.step()
        ends.append(model.weight.item())
    # Adam adds 1e-8 to the root of its second moment: one part in 1e5 of a step at the smaller strength
    assert ends == pytest.approx([0.1, 0.1], abs=0.4 * 1e-5 + 1e-12)


def test_smooth_l1_settles_where_l1_jumps_to_and_fro() -> None:
    """Within beta a plain step multiplies by 1 - rate * strength / beta = 0.9: below 1e-4 after 504 + 44 steps or so.

    l1 ends up to one step of 0.001 away, and at a start of 0.5037 at 0.0003 or 0.0007.
    """
    _, smooth = left(plain, smooth_l1(STRENGTH, beta=0.01))
    _, sharp = left(plain, bn_l1(STRENGTH))
    assert 0 < smooth < 1e-4
    assert min(abs(abs(sharp) - end) for end in (3e-4, 7e-4)) < 1e-9


def test_polarization_parts_scales_that_l1_moves_alike() -> None:
    """From 0.2, 0.3, 0.4, 0.9: three lie below the mean of 0.45, so t = 1.2 draws them to zero, and 0.9 goes up.

    Slopes are 1.7 and -0.3 (see above): 300 steps of 0.001 are enough for 0.4 / 1.7 and 0.1 / 0.3 of a unit. Ends are
    within a step of 0.0017 of zero, or of 0.0003 of 1.
    """
    model = norm([0.2, 0.3, 0.4, 0.9])
    optimizer, penalty = torch.optim.SGD(model.parameters(), lr=1e-3), polarization(1.0, 1.2)
    for _ in range(400):
        optimizer.zero_grad()
        penalty(model).backward()
        optimizer.step()
    *low, high = model.weight.tolist()
    assert max(map(abs, low)) <= 0.0017 + 1e-12
    assert 1 - 1e-12 <= high <= 1.0003 + 1e-12


def test_a_network_trained_with_bn_l1_has_smaller_scales_than_one_without() -> None:
    """Behind a convolution whose size batch norm takes out, nothing but the penalty and the loss moves scales."""
    generator = torch.Generator().manual_seed(3)
    images, labels = torch.randn(32, 1, 6, 6, generator=generator), torch.randint(2, (32,), generator=generator)
    sums = []
    for penalty in (None, bn_l1(0.05)):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
        )
        finetune(
            model,
            [(images, labels)],
            nn.functional.cross_entropy,
            learning_rate=0.1,
            divide_by=1,
            epochs=40,
            optimizer=undecayed(sgd),
            regularizer=penalty,
            progress=False,
        )
        sums.append(bn_l1(1)(model).item())
    assert sums[1] < 0.5 * sums[0]


def two_convolutions() -> nn.Sequential:
    """Two convolutions of 16 channels with batch norms whose scales start at 0.5, for the task of digits."""
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )
    for at in (1, 4):
        nn.init.constant_(model[at].weight, 0.5)
    return model


@pytest.mark.slow
def test_digits_lose_less_without_the_channels_of_the_smallest_scales_after_training_with_a_penalty() -> None:
    """Network Slimming in small: 40 % of the channels go by one threshold, and nothing is trained after that."""
    task = replace(digits(), model=two_convolutions, epochs=30)
    scale = criteria.elementwise(torch.abs, name="bn_scale", roles=("norm_scale",), within="mean")
    pruner = sc.Pruner(scale, granularity.channel(task.example), allocation.global_())
    left, near_zero = [], []
    for penalty in (None, bn_l1(0.02), polarization(0.01)):
        model, _ = train(task, seed=0, regularizer=penalty, progress=False)
        left.append(evaluate(sc.mask(model, pruner.plan(model, sc.Budget(sparsity=0.4))), task))
        near_zero.append(int(sum((model[at].weight.abs() < 0.01).sum() for at in (1, 4))))
    assert min(left[1:]) > left[0]
    assert min(near_zero[1:]) > near_zero[0]
