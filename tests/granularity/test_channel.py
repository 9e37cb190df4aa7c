"""Coupled channels as units: names, reasons, what rides beside, and how many stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.testing import check_granularity
from secateur.units import Attribute, kept_units
from tests.zoo.table import ZOO


class Residual(nn.Module):
    """By hand: stem and second are added, so they leave together; first leaves with the norm behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.first = nn.Conv2d(8, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        x = x + self.second(self.norm(self.first(x)).relu())
        return self.head(x.mean((2, 3)))


IMAGE = torch.zeros(2, 1, 6, 6)


def test_groups_of_a_residual_block() -> None:
    groups = granularity.channel(IMAGE)(Residual().eval())
    axes = {name: [f"{axis.parameter}:{axis.axis}" for axis in units.index] for name, units in groups.items()}
    assert axes["stem"] == [
        "stem.weight:0",
        "stem.bias:0",
        "first.weight:1",
        "second.weight:0",
        "second.bias:0",
        "head.weight:1",
    ]
    assert axes["first"] == ["first.weight:0", "norm.weight:0", "norm.bias:0", "second.weight:1"]
    assert [f"{axis.parameter}:{axis.axis}" for axis in groups["first"].beside] == [
        "norm.running_mean:0",
        "norm.running_var:0",
    ]
    assert (groups["stem"].n_units, groups["first"].n_units) == (8, 6)
    assert groups["stem"].note == "with second"
    assert groups["head"].frozen == "it is the model's output"
    assert groups["first"].role[next(iter(groups["first"].index))] == "out"


def test_laws() -> None:
    for name in ("bottleneck", "packed projection with its own head size", "many groups"):
        model, example = ZOO[name].build()
        check_granularity(granularity.channel(example), model)


class Split(nn.Module):
    """An operation that nobody has a rule for."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Any:
        return self.two(torch.linalg.matrix_exp(self.one(x)))


def test_an_unknown_operation_freezes_what_it_touches_and_says_where() -> None:
    groups = granularity.channel(torch.zeros(4, 4))(Split())
    assert "no rule for this operation" in groups["one"].frozen
    assert "linalg_matrix_exp" in groups["one"].frozen
    assert "test_channel.py:" in groups["one"].frozen


def test_attributes_that_count_channels_are_found() -> None:
    groups = granularity.channel(torch.zeros(2, 8, 4, 4))(
        nn.Sequential(nn.Conv2d(8, 6, 1), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 2, 1)).eval()
    )
    attributes = groups["0"].attributes
    assert {key: value.tolist() for key, value in attributes.items()} == {Attribute("1", ("groups",)): [1] * 6}


@pytest.mark.parametrize(("sparsity", "kept"), [(0.1, 64), (0.2, 48), (0.5, 32), (0.75, 16)])
def test_what_stays_is_a_multiple(sparsity: float, kept: int) -> None:
    model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 2))
    pruner = sc.Pruner(criteria.magnitude(), granularity.channel(torch.zeros(1, 2), round_to=16), allocation.uniform())
    assert pruner.plan(model, sc.Budget(sparsity=sparsity))["0"].kept == kept


def test_a_head_counts_as_its_channels() -> None:
    """A head of 4 channels is half of 8, so heads leave in pairs."""
    model, example = ZOO["packed projection with its own head size"].build()
    assert granularity.channel(example, round_to=8)(model)["qkv"].step == 2
    assert granularity.channel(example, minimum=5)(model)["qkv"].least == 2
    assert granularity.channel(example, round_to={"qkv": 4})(model)["qkv"].step == 1


def test_a_name_that_is_no_group_is_refused() -> None:
    with pytest.raises(sc.UnknownNameError, match="conv9"):
        granularity.channel(IMAGE, round_to={"conv9": 8})(Residual().eval())


def test_heads_alone() -> None:
    model, example = ZOO["shifted windows"].build()
    groups = granularity.head(example)(model)
    free = {name for name, units in groups.items() if not units.frozen}
    assert free
    assert free < {name for name, units in granularity.channel(example)(model).items() if not units.frozen}
    assert "no attention heads" in {units.frozen for units in groups.values()}


def test_names_say_what_was_asked() -> None:
    assert repr(granularity.channel(IMAGE)) == "channel"
    assert repr(granularity.channel(IMAGE, round_to=8, cross_norms=True)) == "channel(round_to=8, cross_norms=True)"
    assert repr(granularity.head(IMAGE, minimum=2)) == "head(minimum=2)"


def test_heads_are_counted_as_heads() -> None:
    model, example = ZOO["packed projection with its own head size"].build()
    groups = granularity.head(example, minimum=2)(model)
    assert [units.least for units in groups.values() if not units.frozen] == [2]
    by_name = granularity.head(example, minimum={"*": 3})(model)
    assert [units.least for units in by_name.values() if not units.frozen] == [3]


def test_a_plan_keeps_everything_in_its_file(tmp_path: Any) -> None:
    model, example = ZOO["grouped transposed convolution"].build()
    pruner = sc.Pruner(criteria.magnitude(), granularity.channel(example, minimum=2), allocation.uniform())
    plan = pruner.plan(model, sc.Budget(sparsity=0.5))
    plan.save(tmp_path / "plan.safetensors")
    for one, other in zip(plan.parts, sc.Plan.load(tmp_path / "plan.safetensors").parts, strict=True):
        assert one.units.beside.keys() == other.units.beside.keys()
        assert {key: value.tolist() for key, value in one.units.attributes.items()} == {
            key: value.tolist() for key, value in other.units.attributes.items()
        }
        assert (one.units.step, one.units.least, one.units.crosses) == (
            other.units.step,
            other.units.least,
            other.units.crosses,
        )


@given(count=st.integers(1, 200), sparsity=st.floats(0, 1), step=st.integers(1, 20), least=st.integers(1, 30))
def test_rounding_keeps_its_promises(count: int, sparsity: float, step: int, least: int) -> None:
    kept = kept_units(count, sparsity, step, least)
    exact = kept_units(count, sparsity)
    assert kept == count or (kept % step == 0 and kept >= least)
    assert kept == count or abs(kept - exact) <= max(step, least)
    assert kept_units(count, 0.0, step, least) == count


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_what_is_wrapped_around_a_model_is_refused() -> None:
    model, example = ZOO["mlp"].build()
    wrapped: list[tuple[nn.Module, str]] = [
        (torch.jit.trace(model, example), "scripted"),  # type: ignore[no-untyped-call]
        (torch.compile(model), "model._orig_mod"),  # type: ignore[list-item]
        (nn.DataParallel(model), r"model\.module"),
    ]
    for one, words in wrapped:
        with pytest.raises(sc.ModelError, match=words):
            granularity.channel(example)(one)


def test_an_example_that_does_not_run_is_refused() -> None:
    model, _ = ZOO["mlp"].build()
    with pytest.raises(sc.ModelError, match="failed on the example"):
        granularity.channel(torch.zeros(1, 999))(model)


class Undecided(nn.Module):
    """Goes one way or the other, as its input says."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Any:
        return self.last((self.one if x.sum() > 0 else self.two)(x))


def test_the_way_of_the_example_is_taken_and_the_other_stays() -> None:
    with pytest.warns(UserWarning, match="looks at values to decide"):
        groups = granularity.channel(torch.ones(1, 4))(Undecided())
    assert not groups["one"].frozen
    assert groups["two"].frozen == "no operation reads it"
