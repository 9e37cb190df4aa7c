"""A smaller model beside the whole one: counted as they are, timed as they run, and said so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.reporting import Change, Latency, Report, latency, report
from secateur.reporting.checks import check
from secateur.timing import InTurn
from secateur.workload import workload
from tests.laws.test_shrink import random_plan
from tests.zoo.table import ZOO


@pytest.mark.parametrize("name", ZOO)
@settings(max_examples=1)
@given(seed=st.integers(0, 1000))
def test_rows_add_up_to_what_the_models_count(name: str, seed: int) -> None:
    model, example = ZOO[name].build(seed)
    plan = random_plan(model, example, seed)
    small = sc.shrink(model, plan, prove=False)
    found = report(model, small, plan, example, batches=())
    for which, one in enumerate((model, small)):
        counted = workload(one, example)
        assert found.macs[which] == sum(row.macs[which] for row in found.layers) == counted.macs
        assert found.parameters[which] == sum(value.numel() for value in one.parameters())
        assert sum(row.parameters[which] for row in found.layers) <= found.parameters[which]
    assert all(row.outputs is None or row.outputs.after <= row.outputs.before for row in found.layers)
    check({"kind": "prune", "task": name, "report": found.as_dict()})
    assert f"{found.macs.after:,}" in str(found)


def network() -> tuple[nn.Module, Tensor]:
    """1 x 6 x 6: conv 1 -> 4, norm, conv 4 -> 6, linear 6 * 4 -> 2."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(24, 2)]
    return nn.Sequential(*layers), torch.zeros(1, 1, 6, 6)


def halved() -> tuple[nn.Module, nn.Module, sc.Plan, Tensor]:
    """Half of the first convolution's channels leave, and the second keeps its own."""
    model, example = network()
    pruner = sc.Pruner(criteria.magnitude(p=2), granularity.channel(example), allocation.uniform(), exclude=("3",))
    plan = pruner.plan(model, sc.Budget(sparsity=0.5))
    return model, sc.shrink(model, plan), plan, example


def test_a_network_by_hand() -> None:
    found = report(*halved(), batches=())
    first, second, last = found.layers
    assert (first.inputs, first.outputs) == (Change(1, 1), Change(4, 2))
    assert (first.parameters, first.macs) == (Change(4 * 9 + 4, 2 * 9 + 2), Change(4 * 9 * 16, 2 * 9 * 16))
    assert (second.inputs, second.outputs) == (Change(4, 2), Change(6, 6))
    assert (second.parameters, second.macs) == (Change(6 * 36 + 6, 6 * 18 + 6), Change(6 * 36 * 4, 6 * 18 * 4))
    assert second.remark == "excluded by 3"
    assert (last.name, last.parameters, last.macs) == ("5", Change(50, 50), Change(48, 48))
    assert last.remark == "it is the model's output"
    assert found.parameters == Change(40 + 8 + 222 + 50, 20 + 4 + 114 + 50)  # the norm is in no row
    assert "everything else" in str(found)
    assert (found.batch, found.latency, found.device) == (1, (), "")


def test_products_without_weights_have_no_channels() -> None:
    model, example = ZOO["causal mask"].build()
    plan = sc.Plan(())
    rows = {row.kind: row for row in report(model, model, plan, example, batches=()).layers}
    attention = [row for row in rows.values() if row.inputs is None]
    assert all(row.macs.before == row.macs.after > 0 for row in attention)


def noting(sizes: list[Any]) -> Callable[..., InTurn]:
    def timed(first: Callable[[], Any], second: Callable[[], Any], *, seconds: float) -> InTurn:
        first()
        second()
        sizes.append(seconds)
        return InTurn((4.0, 6.0, 8.0), (2.0, 2.0, 2.0))

    return timed


def test_times_are_those_of_both_models_on_a_batch_of_the_size() -> None:
    model, small, _, example = halved()
    seen: list[tuple[int, bool, bool]] = []
    for one in (model, small):
        one.train()
        one.register_forward_pre_hook(
            lambda module, inputs: seen.append((len(inputs[0]), module.training, torch.is_grad_enabled()))
        )
    given: list[Any] = []
    found = latency(model, small, example, 64, seconds=3.0, timed=noting(given))
    assert found == Latency(64, 6.0, 2.0, 3.0, 3)
    assert (given, seen) == ([3.0], [(64, False, False)] * 2)
    assert model.training
    assert small.training


@pytest.mark.parametrize("inputs", [dict, tuple])
def test_batches_are_made_of_all_that_comes_for_each_sample(inputs: type) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, scale: Tensor, which: Tensor) -> Tensor:
            assert x.shape == (5, 3)
            assert which.tolist() == [1, 2, 1, 2, 1]
            assert scale.shape == (3,)
            return x * scale

    pairs = {"x": torch.zeros(2, 3), "scale": torch.ones(3), "which": torch.tensor([1, 2])}
    example = pairs if inputs is dict else tuple(pairs.values())
    assert latency(Two(), Two(), example, 5, timed=noting([])).remark == ""


def test_a_batch_that_a_model_does_not_take_is_said() -> None:
    class One(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(1, 3)

    found = latency(One(), One(), torch.zeros(1, 3), 64)
    assert (found.before, found.pairs) == (None, 0)
    assert found.remark.startswith("does not run on such a batch (RuntimeError: shape '[1, 3]' is invalid")
    drawn = Report((), Change(1, 1), Change(1, 1), 1, (found,), "a machine")
    assert "does not run" in str(drawn)


def test_a_plan_of_another_model_is_refused() -> None:
    _, small, plan, _ = halved()
    with pytest.raises(sc.PlanError, match="which Linear does not have"):
        report(nn.Linear(3, 2), small, plan, torch.zeros(1, 3))


def test_it_is_measured_and_printed() -> None:
    found = report(*halved(), batches=(1, 3), seconds=0.0)
    assert [(row.batch, row.pairs) for row in found.latency] == [(1, 3), (3, 3)]
    assert "time of a forward pass, medians; both models in turn, on " in " ".join(str(found).split())
    assert "thread" in found.device
