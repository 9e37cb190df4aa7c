"""Weights times norms of inputs."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, granularity
from secateur.criteria import Group, magnitude, wanda
from secateur.statistics import Statistics


def scored(model: nn.Module, build: granularity.Granularity, statistics: Statistics) -> Tensor:
    (units,) = build(model).values()
    weight = model.get_parameter("weight").detach()
    return wanda().score(Group("weight", units, dict.fromkeys(units.index, weight), statistics))


def test_by_hand() -> None:
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = torch.tensor([[3.0, -1.0], [0.0, 2.0]])
    statistics = sc.calibrate(layer, [(torch.tensor([[3.0, 1.0], [4.0, 0.0]]), None)], ["input_norm"])
    assert scored(layer, granularity.weight(), statistics).tolist() == [15, 1, 0, 2]
    assert scored(layer, granularity.filter(), statistics).tolist() == [16, 2]
    assert scored(layer, granularity.input_channel(), statistics).tolist() == [15, 3]


def kept_per_row(model: nn.Linear, data: Tensor, sparsity: float) -> Tensor:
    """The method as the paper states it: in every row, those with the largest products stay."""
    metric = model.weight.detach().abs() * torch.linalg.vector_norm(data, dim=0)
    keep = torch.zeros_like(metric, dtype=torch.bool)
    for row, scores in enumerate(metric):
        kept = len(scores) - round(sparsity * len(scores))
        keep[row, scores.argsort(descending=True, stable=True)[:kept]] = True
    return keep


@given(st.integers(1, 5), st.sampled_from([4, 8, 12]), st.sampled_from([0.25, 0.5, 0.75]), st.integers(0, 99))
def test_every_output_loses_its_least_products(outs: int, ins: int, sparsity: float, seed: int) -> None:
    torch.manual_seed(seed)
    model, data = nn.Linear(ins, outs), torch.randn(6, ins) * torch.rand(ins)
    pruner = sc.Pruner(wanda(), granularity.weight(per_output=True), allocation.uniform())
    plan = pruner.plan(model, sc.Budget(sparsity=sparsity), data=[(data, None)])
    assert torch.equal(plan.masks()["weight"], kept_per_row(model, data, sparsity))


@given(st.sampled_from([0.25, 1.0, 8.0]), st.integers(0, 99))
def test_where_all_inputs_have_one_norm_it_ranks_as_magnitude(norm: float, seed: int) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(4, 3, 3)
    (units,) = granularity.weight()(conv).values()
    statistics = Statistics({"input_norm": {"weight": torch.full((1, 4, 1, 1), norm)}})
    group = Group("weight", units, dict.fromkeys(units.index, conv.weight.detach()), statistics)
    found, plain = wanda().score(group), magnitude().score(group)
    assert torch.equal(found.argsort(stable=True), plain.argsort(stable=True))


def test_n_of_m_are_chosen_within_an_output() -> None:
    layer = nn.Linear(4, 1, bias=False)
    layer.weight.data = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    data = torch.tensor([[8.0, 4.0, 1.0, 1.0]])  # products 8, 8, 3, 4
    plan = sc.Pruner(wanda(), granularity.pattern(2, 4), allocation.uniform()).plan(layer, data=[(data, None)])
    assert plan.masks()["weight"].tolist() == [[True, True, False, False]]


def test_its_name_and_needs() -> None:
    assert str(wanda()) == "wanda"
    assert wanda().needs == {"input_norm"}
