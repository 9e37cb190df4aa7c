"""Statistics of batch norms, measured again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.reconstruction import reestimate
from tests.zoo.table import ZOO


def batches(count: int = 3, size: int = 16) -> list[tuple[Any, None]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(size, 3, 6, 6, generator=generator) * 2 + 1, None) for _ in range(count)]


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))


def test_statistics_are_those_of_what_comes_in() -> None:
    model = network()
    again = reestimate(model, batches())
    inputs = [model[0](x) for x, _ in batches()]
    norm: Any = again[1]
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([x.var((0, 2, 3)) for x in inputs]).mean(0))


def test_the_next_norm_sees_dropout_off() -> None:
    again, twice = (reestimate(network_of(7), batches()) for _ in range(2))
    first: Any = again[4]
    second: Any = twice[4]
    assert torch.equal(first.running_mean, second.running_mean)


def network_of(seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return network()


def test_only_statistics_change() -> None:
    model = network().train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    again = reestimate(model, batches())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [module.training for module in again.modules()] == modes
    assert [one.momentum for one in again if isinstance(one, nn.BatchNorm2d)] == [0.1, 0.1]
    changed = {name for name, value in again.state_dict().items() if not torch.equal(before[name], value)}
    assert changed == {
        f"{norm}.{name}" for norm in (1, 4) for name in ("running_mean", "running_var", "num_batches_tracked")
    }


def test_in_place() -> None:
    model = network()
    assert reestimate(model, batches(), inplace=True) is model


def test_a_model_without_batch_norms_comes_back() -> None:
    model = nn.Linear(2, 2)
    assert torch.equal(reestimate(model, []).weight, model.weight)


def test_no_batch_loses_nothing() -> None:
    model = network()
    reestimate(model, batches(), inplace=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(sc.DataError, match="no batch"):
        reestimate(model, [], inplace=True)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_batches_of_one_value_are_refused() -> None:
    with pytest.raises(sc.ModelError, match="larger batches"):
        reestimate(nn.BatchNorm1d(2), [(torch.zeros(1, 2), None)])


def test_it_fits_a_smaller_model() -> None:
    model, example = ZOO["conv-bn-relu chain"].build()
    pruner = sc.Pruner(criteria.magnitude(), granularity.channel(example), allocation.uniform())
    small = sc.shrink(model, pruner.plan(model, sc.Budget(sparsity=0.5)))
    again = reestimate(small, [(torch.randn_like(example), None) for _ in range(2)])
    assert again(example).shape == model(example).shape
