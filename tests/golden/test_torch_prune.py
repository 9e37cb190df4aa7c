"""Masks of torch.nn.utils.prune, an independent implementation, on random weights without ties."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import secateur as sc
from secateur import allocation, criteria, granularity
from tests.small import network

LAYERS = ("0", "2", "6", "8")


def theirs(model: nn.Module) -> dict[str, Tensor]:
    return {f"{name}.weight": model.get_submodule(name).get_buffer("weight_mask").bool() for name in LAYERS}


@pytest.mark.parametrize("amount", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("seed", range(3))
def test_one_threshold_for_all_weights(amount: float, seed: int) -> None:
    plan = sc.Pruner(criteria.magnitude(), granularity.weight(), allocation.global_()).plan(
        network(seed), sc.Budget(sparsity=amount)
    )
    model = network(seed)
    pairs = [(model.get_submodule(name), "weight") for name in LAYERS]
    prune.global_unstructured(pairs, prune.L1Unstructured, amount=amount)
    for name, mask in theirs(model).items():
        assert torch.equal(plan.masks().get(name, torch.ones_like(mask)), mask)


@pytest.mark.parametrize("amount", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("seed", range(3))
def test_a_threshold_for_every_layer(amount: float, seed: int) -> None:
    plan = sc.Pruner(criteria.magnitude(), granularity.weight(), allocation.uniform()).plan(
        network(seed), sc.Budget(sparsity=amount)
    )
    model = network(seed)
    for name in LAYERS:
        prune.l1_unstructured(model.get_submodule(name), "weight", amount=amount)
    for name, mask in theirs(model).items():
        assert torch.equal(plan.masks()[name], mask)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_norms_of_filters(p: int, seed: int) -> None:
    plan = sc.Pruner(criteria.magnitude(p), granularity.filter(), allocation.uniform()).plan(
        network(seed), sc.Budget(sparsity=0.5)
    )
    model = network(seed)
    for name in LAYERS:
        prune.ln_structured(model.get_submodule(name), "weight", amount=0.5, n=p, dim=0)
    for name, mask in theirs(model).items():
        assert torch.equal(plan.masks()[name], mask)


def test_where_one_threshold_would_empty_a_layer_one_weight_stays() -> None:
    model = network()
    pairs = [(model.get_submodule(name), "weight") for name in LAYERS]
    prune.global_unstructured(pairs, prune.L1Unstructured, amount=0.9)
    assert not bool(theirs(model)["2.weight"].any())
    made = sc.Pruner(criteria.magnitude(), granularity.weight(), allocation.global_())
    plan = made.plan(network(), sc.Budget(sparsity=0.9))
    assert plan["2"].kept == 1
    assert plan.weights_removed == round(0.9 * plan.weights)
