"""A criterion applied layer by layer judges a layer by the inputs that it will get."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.errors import DataError, ModelError, UnknownNameError
from secateur.reconstruction import layerwise
from tests.reconstruction.language import Decoder

WANDA = criteria.elementwise(lambda w, norm: w.abs() * norm, needs=("input_norm",), name="wanda")
HALF = sc.Budget(sparsity=0.5)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def test_it_is_the_criterion_on_the_model_pruned_so_far(seeded: torch.Generator) -> None:
    net, data = network(), [(torch.randn(9, 6, generator=seeded), None) for _ in range(3)]
    plan = sc.Pruner(layerwise(WANDA), granularity.weight(), allocation.uniform()).plan(net, HALF, data=data)
    alone = sc.Pruner(WANDA, granularity.weight(), allocation.uniform())
    first = alone.plan(net, HALF, data=data)
    assert torch.equal(plan["0"].keep, first["0"].keep)
    cut = sc.mask(net, sc.Plan((first["0"],)))
    second = alone.plan(cut, HALF, data=data)
    assert torch.equal(plan["2"].keep, second["2"].keep)
    assert plan.updates == {}


def test_without_statistics_it_is_the_criterion(seeded: torch.Generator) -> None:
    net, data = network(), [(torch.randn(9, 6, generator=seeded), None)]
    for units in (granularity.weight(), granularity.filter(), granularity.pattern(2, 4)):
        budget = None if "pattern" in str(units) else HALF
        one, two = (
            sc.Pruner(method, units, allocation.uniform()).plan(net, budget, data=data)
            for method in (layerwise(criteria.magnitude()), criteria.magnitude())
        )
        assert one.masks().keys() == two.masks().keys()
        assert all(torch.equal(mask, two.masks()[name]) for name, mask in one.masks().items())


@pytest.mark.parametrize("units", [granularity.weight(), granularity.pattern(2, 4)], ids=str)
def test_stages_give_what_whole_passes_give(units: Any, seeded: torch.Generator) -> None:
    model = Decoder(blocks=3)
    data = [(torch.randint(8, (3, 5), generator=seeded), None) for _ in range(3)]
    budget = HALF if str(units) == "weight" else None
    one, two = (
        sc.Pruner(layerwise(WANDA, stages=stages), units, allocation.uniform()).plan(model, budget, data=data)
        for stages in ("auto", None)
    )
    assert [part.name for part in one.parts] == [part.name for part in two.parts]
    assert all(torch.equal(a.keep, b.keep) for a, b in zip(one.parts, two.parts, strict=True))
    assert one.sparsity == 0.5


def test_the_plan_holds_the_layers_in_the_models_order_with_their_reasons(seeded: torch.Generator) -> None:
    net, data = network(), [(torch.randn(9, 6, generator=seeded), None)]
    pruner = sc.Pruner(layerwise(WANDA), granularity.weight(), allocation.uniform())
    plan = pruner.plan(net, sc.Budget(per_group={"2": 0.5}), data=data)
    assert [(part.name, part.reason) for part in plan.parts] == [("0", "nothing allocated"), ("2", "")]
    assert plan.made_by["method"] == "layerwise(wanda)"


def test_errors_say_what_to_do(seeded: torch.Generator) -> None:
    data = [(torch.randn(9, 6, generator=seeded), None)]
    taylor = criteria.elementwise(lambda w, g: (w * g).abs(), needs=("gradient",), name="taylor")
    with pytest.raises(DataError, match=r"taylor needs 'gradient'.*give the criterion itself"):
        layerwise(taylor)
    with pytest.raises(UnknownNameError, match="'input_norms'; nearest: input_norm"):
        layerwise(criteria.elementwise(lambda w, n: w * n, needs=("input_norms",), name="mine"))
    coupled = sc.Pruner(layerwise(WANDA), granularity.channel(data[0][0]), allocation.uniform())
    with pytest.raises(ModelError, match="use a granularity that treats every layer by itself"):
        coupled.plan(network(), HALF, data=data)
    pruner = sc.Pruner(layerwise(WANDA), granularity.weight(), allocation.uniform())
    with pytest.raises(DataError, match=r"layerwise\(wanda\) needs data and there was no batch"):
        pruner.plan(network(), HALF, data=[])
