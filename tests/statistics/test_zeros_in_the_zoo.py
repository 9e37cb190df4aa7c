"""In every network of the zoo: a channel is where it is said to lie, and its zeros are those that are there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import secateur as sc
from secateur.dependency import Call, Record, record, replay
from secateur.dependency.record import execute
from secateur.errors import ModelError
from secateur.statistics.rectifiers import Rectifiers, Source, rectifiers
from tests.zoo.attention import ATTENTION
from tests.zoo.borrowed import BORROWED
from tests.zoo.heads import HEADS
from tests.zoo.numbers import NUMBERS
from tests.zoo.specimen import tensors
from tests.zoo.table import ZOO

# Attention has no rectifiers there.
NETWORKS = [name for name in ZOO if name not in {**ATTENTION, **BORROWED, **HEADS, **NUMBERS}]

# Where one channel is mixed into others before a rectifier reads it, or all later layers read it too.
MIXED = {"dense concatenation", "group norm", "local response norm"}


@pytest.fixture(autouse=True)
def _slow_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention as its parts, as it is recorded."""
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)


def rectified(found: Rectifiers, recorded: Record, state: dict[str, Tensor], example: Any) -> list[Tensor]:
    """What every rectifier puts out."""
    results: list[Tensor] = []

    def run(call: Call, values: dict[int, Tensor]) -> None:
        execute(call, values)
        if any(call is one for one in found.calls):
            results.append(values[call.results[0]].clone())

    replay(recorded, state, tensors(example), run)
    return results


def without(source: Source, weight: Tensor, channel: int) -> Tensor:
    """A weight that makes one channel NaN."""
    chosen = source.beside(torch.arange(source.channels).eq(channel).float())
    return weight.detach().masked_fill(chosen.expand_as(weight) > 0, torch.nan)


def assert_shares(found: Tensor, source: Source, results: list[Tensor]) -> None:
    for channel in range(source.channels):
        seen = [
            results[one.rectifier].movedim(one.dim, 0)[one.positions == one.units[channel]].flatten()
            for one in source.readings
        ]
        wanted = source.beside(torch.arange(source.channels).eq(channel).float()) > 0
        share = torch.cat(seen).eq(0).double().mean().float()
        assert bool((found[wanted] == share).all())


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_lie_where_they_are_read(name: str) -> None:
    model, example = ZOO[name].build()
    recorded = record(model, example, compute=True)
    found = rectifiers(recorded)
    if not found.sources:
        with pytest.raises(ModelError, match="none reads a layer"):
            sc.calibrate(model, [(example, None)], ["zeros"])
        return
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    statistics = sc.calibrate(model, [(example, None)], ["zeros"])
    whole = rectified(found, recorded, state, example)
    for source in found.sources:
        assert_shares(statistics.of("zeros", source.name), source, whole)
        for channel in {0, source.channels - 1}:
            lost = {**state, source.name: without(source, state[source.name], channel)}
            results = rectified(found, recorded, lost, example)
            for one in source.readings:
                hit = results[one.rectifier].isnan().movedim(one.dim, 0).flatten(1).any(1)
                mine = one.positions == one.units[channel]
                assert bool(hit[mine].any())
                assert name in MIXED or bool(hit.all()) or not bool(hit[~mine].any())
