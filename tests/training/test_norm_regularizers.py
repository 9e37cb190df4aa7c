"""Penalties of the scales of norms: by hand, by finite differences, and what they do to a scale that nothing holds."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Optimizer

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.tasks import digits, evaluate, train
from secateur.training import (
    ALL_NORMS,
    BATCH_NORMS,
    Regularizer,
    bn_l1,
    finetune,
    l1,
    polarization,
    sgd,
    smooth_l1,
    undecayed,
)
from tests.nets import LAYERS, layer

# Sums of at most ten numbers below 10, a few roundings each, in double precision.
NEAR = {"rel": 1e-14, "abs": 1e-13}
NUMBERS = st.lists(st.floats(-3, 3, allow_subnormal=False), min_size=1, max_size=8)


def norm(scales: list[float]) -> nn.BatchNorm1d:
    """A batch norm with these scales, in double precision."""
    made = nn.BatchNorm1d(len(scales)).double()
    made.weight.data.copy_(torch.tensor(scales, dtype=torch.float64))
    return made


def two_norms(scales: list[float]) -> nn.Sequential:
    """The same scales, the first in one norm and the rest in another."""
    rest = [norm(scales[1:])] if len(scales) > 1 else []
    return nn.Sequential(norm(scales[:1]), nn.ReLU(), *rest)


def slopes(penalty: Regularizer, scales: list[float]) -> list[float]:
    """The gradient at these scales."""
    model = norm(scales)
    penalty(model).backward()
    return [float(slope) for slope in model.weight.grad]


# ------------------------------------------------------------------------------------- formulas


@given(scales=NUMBERS)
def test_bn_l1_is_the_sum_of_sizes_and_its_slope_the_sign(scales: list[float]) -> None:
    assert bn_l1(0.25)(two_norms(scales)).item() == pytest.approx(0.25 * math.fsum(map(abs, scales)), **NEAR)
    assert slopes(bn_l1(0.25), [*scales, 0.0]) == [0.25 * math.copysign(1, s) if s else 0 for s in scales] + [0]


def smoothed(x: float, beta: float) -> float:
    """The formula, for one number."""
    return abs(x) - beta / 2 if abs(x) >= beta else x * x / (2 * beta)


@given(scales=NUMBERS, beta=st.floats(1e-3, 4))
def test_smooth_l1_is_a_parabola_within_beta_and_a_line_beyond(scales: list[float], beta: float) -> None:
    value = smooth_l1(0.5, beta)(two_norms(scales)).item()
    assert value == pytest.approx(0.5 * math.fsum(smoothed(x, beta) for x in scales), **NEAR)
    slope = [0.5 * max(-1.0, min(1.0, x / beta)) for x in scales]
    assert slopes(smooth_l1(0.5, beta), scales) == pytest.approx(slope, **NEAR)


@given(scales=NUMBERS, beta=st.floats(1e-6, 1))
def test_smooth_l1_is_below_l1_by_half_of_beta_at_most(scales: list[float], beta: float) -> None:
    sharp, smooth = bn_l1(1)(norm(scales)).item(), smooth_l1(1, beta)(norm(scales)).item()
    assert -1e-13 <= sharp - smooth <= len(scales) * beta / 2 + 1e-13


def test_smooth_l1_without_beta_is_l1() -> None:
    scales = [2.0, -0.5, 0.0]
    assert smooth_l1(0.5, beta=0)(norm(scales)).item() == 1.25
    assert slopes(smooth_l1(0.5, beta=0), scales) == [0.5, -0.5, 0]


def test_smooth_l1_of_a_normal_is_the_huber_function_over_beta() -> None:
    scales = torch.randn(50, dtype=torch.float64)
    huber = nn.functional.huber_loss(scales, torch.zeros(50).double(), reduction="sum", delta=0.7)
    assert smooth_l1(1, 0.7)(norm(scales.tolist())).item() == pytest.approx(huber.item() / 0.7, rel=1e-13)


@pytest.mark.parametrize("kind", LAYERS)
def test_smooth_l1_of_weights_is_of_all_layers(kind: str) -> None:
    model = layer(kind).double()
    wanted = math.fsum(smoothed(x, 0.1) for x in model.weight.flatten().tolist())
    assert smooth_l1(1, 0.1, of="weights")(model).item() == pytest.approx(wanted, rel=1e-13)
    assert smooth_l1(1, 0, of="weights")(model).item() == pytest.approx(l1(1)(model).item(), rel=1e-13)


def polarized(scales: list[float], t: float, bound: float = 1.0) -> float:
    """The formula, number by number."""
    sizes = [min(abs(x), bound) for x in scales]
    mean = math.fsum(sizes) / len(sizes)
    return t * math.fsum(sizes) - math.fsum(abs(x - mean) for x in sizes)


@given(scales=NUMBERS, t=st.floats(-2, 2), bound=st.floats(0.1, 4))
def test_polarization_is_l1_less_the_spread_around_the_common_mean(scales: list[float], t: float, bound: float) -> None:
    value = polarization(0.5, t, bound=bound)(two_norms(scales)).item()
    assert value == pytest.approx(0.5 * polarized(scales, t, bound), **NEAR)


def test_the_slopes_of_polarization_by_hand() -> None:
    """Of 0.1, 0.2, -0.3, 1, mean 0.4, p = 3/4 below: t + 2 (1 - p) = 1.7 below, t - 2 p = -0.3 above; at sign -1, -1.7.

    The scale 2 is cut off at 1: it counts in the mean, and has no slope.
    """
    assert slopes(polarization(1, t=1.2), [0.1, 0.2, -0.3, 1.0]) == pytest.approx([1.7, 1.7, -1.7, -0.3], **NEAR)
    assert slopes(polarization(1, t=1.2), [0.1, 0.2, -0.3, 2.0]) == pytest.approx([1.7, 1.7, -1.7, 0], **NEAR)


@pytest.mark.parametrize(("t", "zeros"), [(-2.0, 0), (-1.0, 2), (0.0, 4), (1.0, 6), (2.0, 8)])
def test_polarization_alone_is_smallest_with_a_fraction_of_scales_at_zero_and_the_rest_at_the_bound(
    t: float, zeros: int
) -> None:
    """(t + 2) / 4 of eight scales, found by trying all of {0, 1/3, 2/3, 1}^8 up to order."""
    levels = (0.0, 1 / 3, 2 / 3, 1.0)
    sorted_ones = (c for c in product(levels, repeat=8) if list(c) == sorted(c))
    values = {c: polarized(list(c), t) for c in sorted_ones}
    lowest = min(values.values())
    wanted = (0.0,) * zeros + (1.0,) * (8 - zeros)
    assert values[wanted] == pytest.approx(lowest, **NEAR)
    assert polarization(1, t)(norm(list(wanted))).item() == pytest.approx(lowest, **NEAR)
    if -2 < t < 2:  # at both ends it ties: with t = 2 one scale at 1 costs nothing
        near = [c for c, value in values.items() if value <= lowest + 1e-9]
        assert near == [wanted]


@pytest.mark.parametrize("make", [bn_l1, smooth_l1, lambda s: smooth_l1(s, 0.3), polarization])
def test_gradients_agree_with_finite_differences(make: Callable[[float], Regularizer]) -> None:
    """Away from corners all are lines or parabolas, which central differences meet up to the rounding of a sum
    below 10 over h = 1e-4: 1e-11."""
    scales, h = [0.7, -0.25, 0.05, -0.9, 1.6], 1e-4
    found = slopes(make(0.5), scales)
    for at, slope in enumerate(found):
        ends = [make(0.5)(norm([*scales[:at], scales[at] + d, *scales[at + 1 :]])).item() for d in (h, -h)]
        assert slope == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-11)


# ------------------------------------------------------------------------------- which norms count


class Mixed(nn.Module):
    """One norm of every kind, each with scales of its own size; one without scales; one that is shared."""

    def __init__(self) -> None:
        super().__init__()
        self.batch, self.batch_2d, self.plain = nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.BatchNorm1d(2, affine=False)
        self.layer, self.group, self.root = nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.RMSNorm(2)
        self.instance, self.fc = nn.InstanceNorm1d(2, affine=True), nn.Linear(2, 2)
        for number, one in enumerate((self.batch, self.batch_2d, self.layer, self.group, self.root, self.instance)):
            nn.init.constant_(one.weight, 10.0**number)
        self.again, self.twin = self.batch, nn.BatchNorm1d(2)
        self.twin.weight = self.batch.weight


@pytest.mark.parametrize(
    ("norms", "total"),
    [
        (BATCH_NORMS, 2 * 11.0),
        (ALL_NORMS, 2 * 111111.0),
        ((nn.LayerNorm, nn.RMSNorm), 2 * 10100.0),
        ((nn.BatchNorm2d,), 2 * 10.0),
    ],
)
def test_norms_of_the_types_asked_for_count_once_each(norms: tuple[type[nn.Module], ...], total: float) -> None:
    assert bn_l1(1, norms=norms)(Mixed()).item() == total
    assert smooth_l1(1, 0, norms=norms)(Mixed()).item() == total


def test_synchronised_batch_norms_count() -> None:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(norm([1.0, -2.0]))
    assert bn_l1(1)(model).item() == 3


@pytest.mark.parametrize("make", [bn_l1, smooth_l1, polarization])
def test_models_without_such_scales_are_refused(make: Callable[[float], Regularizer]) -> None:
    for model in (nn.Linear(2, 2), nn.LayerNorm(2), nn.BatchNorm1d(2, affine=False)):
        with pytest.raises(
            sc.ModelError, match=f"{type(model).__name__} has no norm .* the types BatchNorm; .* norms="
        ):
            make(1.0)(model)


@pytest.mark.parametrize("strength", [-1, math.nan, math.inf])
@pytest.mark.parametrize("make", [bn_l1, smooth_l1, polarization])
def test_a_strength_is_a_number_of_zero_or_more(make: Callable[[float], Regularizer], strength: float) -> None:
    with pytest.raises(sc.RunError, match=rf"is {strength}; expected a number of 0 or more"):
        make(strength)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: smooth_l1(1, -0.1), "beta of smooth_l1 is -0.1; expected a number of 0 or more"),
        (lambda: smooth_l1(1, math.inf), "beta of smooth_l1 is inf"),
        (lambda: smooth_l1(1, of="biases"), "smooth_l1 of 'biases'; expected of='scales'"),
        (lambda: polarization(1, 2.5), "t of polarization is 2.5; expected a number from -2"),
        (lambda: polarization(1, math.nan), "t of polarization is nan"),
        (lambda: polarization(1, bound=0), "the bound of polarization is 0; expected a number above 0"),
    ],
)
def test_numbers_out_of_range_are_refused(make: Callable[[], Regularizer], words: str) -> None:
    with pytest.raises(sc.RunError, match=words.replace(".", r"\.")):
        make()


def test_penalties_have_names_and_can_be_copied() -> None:
    penalties = [bn_l1(1e-4), smooth_l1(1e-4, 0.1), smooth_l1(1, of="weights"), polarization(1e-4)]
    names = ["bn_l1(0.0001)", "smooth_l1(0.0001, beta=0.1)", "smooth_l1(1, beta=0.01, of='weights')"]
    assert list(map(repr, penalties)) == [*names, "polarization(0.0001, t=1.2)"]
    model = nn.Sequential(nn.Linear(2, 2), norm([1.0, -2.0]))
    assert [copy.deepcopy(one)(model).item() for one in penalties] == [one(model).item() for one in penalties]


# -------------------------------------------------------------------- a scale that nothing holds


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
