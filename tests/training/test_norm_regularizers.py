"""Penalties of the scales of norms: by hand, by finite differences, and what they do to a scale that nothing holds."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.training import (
    ALL_NORMS,
    BATCH_NORMS,
    Regularizer,
    bn_l1,
    l1,
    polarization,
    smooth_l1,
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
