"""Every network of the zoo runs, and a record of it gives the same bits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from secateur.batches import call
from secateur.dependency import decisions, record, replay
from secateur.dependency.recorder import tensors_in
from tests.runs import bits
from tests.zoo.specimen import axes, tensors
from tests.zoo.table import TABLES, ZOO


@pytest.fixture(autouse=True)
def _slow_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention as its parts, as it is recorded."""
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)


def outputs(model: nn.Module, example: object) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return tuple(tensors_in(call(model, example)))


def state(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@pytest.mark.parametrize("name", ZOO)
def test_a_record_run_again_gives_the_same(name: str) -> None:
    """Also with other weights and inputs, unless the operations depend on them."""
    model, example = ZOO[name].build()
    before = bits(state(model))
    found = record(model, example, compute=True)
    assert bits(state(model)) == before
    assert bool(decisions(found)) == ZOO[name].looks
    for seed in (0,) if ZOO[name].looks else (0, 1):
        model, example = ZOO[name].build(seed)
        expected = outputs(model, example)
        assert all(bool(one.isfinite().all()) and bool(one.any()) for one in expected)
        assert bits(replay(found, state(model), tensors(example))) == bits(expected)


@pytest.mark.parametrize("name", ZOO)
def test_what_is_claimed_is_about_axes_that_are_there(name: str) -> None:
    specimen = ZOO[name]
    model, _ = specimen.build()
    free, stuck = set(specimen.prunable), set(specimen.frozen)
    assert free | stuck | set(specimen.units) <= axes(model)
    assert not free & stuck
    assert set(specimen.units) <= free
    sizes = {name: parameter.shape for name, parameter in model.named_parameters(remove_duplicate=False)}
    for axis, units in specimen.units.items():
        parameter, _, dim = axis.rpartition(":")
        assert 1 < units <= sizes[parameter][int(dim)]


def test_a_network_is_the_same_each_time_and_has_no_weight_near_zero() -> None:
    for specimen in ZOO.values():
        (one, example), (two, again) = specimen.build(3), specimen.build(3)
        assert bits(state(one)) == bits(state(two))
        assert bits(example) == bits(again)
        assert not one.training
        assert all(float(parameter.detach().abs().min()) > 0.005 for parameter in one.parameters())


def test_no_name_is_in_two_tables() -> None:
    assert sum(map(len, TABLES)) == len(ZOO)
