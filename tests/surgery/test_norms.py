"""Norms by root mean squares over fewer channels: by hand, in files, and where nothing is certain."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.surgery.floats import read_float, restore_floats
from tests.zoo.norms import Decoder, Scale
from tests.zoo.specimen import perturb
from tests.zoo.table import ZOO


def half(model: nn.Module, example: Any, **how: Any) -> sc.Plan:
    pruner = sc.Pruner(criteria.random(), granularity.channel(example, **how), allocation.uniform())
    return pruner.plan(model, sc.Budget(sparsity=0.5))


class Tiny(nn.Module):
    """A layer, a norm over its four channels, a layer."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(1, 4, bias=False), norm, nn.Linear(4, 1, bias=False)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.norm(self.first(x)))


def tiny(norm: nn.Module) -> nn.Module:
    model = Tiny(norm)
    with torch.no_grad():
        model.first.weight.copy_(torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
        model.last.weight.fill_(1.0)
    return model.eval()


@pytest.mark.parametrize("norm", [nn.RMSNorm(4, eps=0.5), Scale(4)], ids=["torch", "by hand"])
def test_of_four_channels_one_stays(norm: nn.Module) -> None:
    """4 of 1 2 3 4 stays. Masked: 4 / sqrt(16 / 4 + eps); alone: 2 * 4 / sqrt(16 + 4 eps)."""
    model, example = tiny(norm), torch.ones(1, 1)
    units = granularity.channel(example)(model)["first"]
    plan = sc.Plan((sc.Part("first", units, torch.arange(4) == 3),), example=example)
    small = sc.shrink(model, plan)
    name = "eps" if isinstance(norm, nn.RMSNorm) else "variance_epsilon"
    eps = getattr(norm, name)
    assert getattr(small.norm, name) == 4 * eps
    assert small.norm.weight.tolist() == [2.0]
    assert getattr(model.norm, name) == eps
    assert small(example).item() == pytest.approx(4 / math.sqrt(4 + eps), rel=1e-6)
    assert sc.mask(model, plan)(example).item() == pytest.approx(4 / math.sqrt(4 + eps), rel=1e-6)


def test_what_is_added_to_the_weight_grows_with_it() -> None:
    """1 + 1 becomes 2 * 2, of which 1 is added."""
    model, example = tiny(Scale(4, offset=1.0)), torch.ones(1, 1)
    units = granularity.channel(example)(model)["first"]
    plan = sc.Plan((sc.Part("first", units, torch.arange(4) == 3),), example=example)
    small = sc.shrink(model, plan)
    assert small.norm.weight.tolist() == [3.0]
    assert small(example).item() == pytest.approx(sc.mask(model, plan)(example).item(), rel=1e-6)


def test_an_eps_that_torch_chooses_becomes_a_number() -> None:
    model, example = tiny(nn.RMSNorm(4)), torch.ones(1, 1)
    small = sc.shrink(model, half(model, example))
    assert model.norm.eps is None
    assert small.norm.eps == pytest.approx(2 * torch.finfo(torch.float32).eps)


@pytest.mark.parametrize("name", ["root mean square by root", "root mean square of torch with its own eps"])
def test_plans_and_smaller_models_go_through_files(name: str, tmp_path: Path) -> None:
    model, example = ZOO[name].build()
    plan = half(model, example)
    plan.save(tmp_path / "plan.safetensors")
    small = sc.shrink(model, sc.Plan.load(tmp_path / "plan.safetensors"), example=example)
    sc.save(small, tmp_path / "small.safetensors")
    again = sc.restore(tmp_path / "small.safetensors", ZOO[name].network()).eval()
    assert torch.equal(again(example), small(example))


@pytest.mark.parametrize("item", [("", "_x", 1.0), ("", "eps", 1), ("", "eps", math.nan), (0, "eps", 1.0)])
def test_a_file_says_nothing_but_numbers_of_modules(item: tuple[Any, Any, Any]) -> None:
    with pytest.raises(ValueError, match="is no number of a module"):
        read_float(*item)


def test_only_numbers_that_a_model_has_are_set() -> None:
    norm = nn.RMSNorm(4)
    restore_floats(norm, {("", "eps"): 0.5, ("", "normalized_shape"): 2.0, ("", "other"): 3.0})
    assert (norm.eps, norm.normalized_shape, hasattr(norm, "other")) == (0.5, (4,), False)


def test_a_norm_beside_one_that_is_crossed() -> None:
    """The layer norm is over what is left, the root mean square over all, masked."""
    torch.manual_seed(0)
    model, example = Decoder(nn.LayerNorm), torch.randint(10, (2, 6))
    model.after = Scale(12)
    perturb(model, torch.Generator().manual_seed(0))
    plan = half(model.eval(), example, cross_norms=True)
    (crossing,) = [part for part in plan.parts if part.units.crosses]
    assert crossing.kept == 6
    assert list(crossing.units.rescaled) == ["after.weight"]
    small = sc.shrink(model, plan)
    assert small.head.in_features == 6


class Shared(nn.Module):
    """Two norms of other widths with one eps, which cannot grow by two ratios."""

    def __init__(self) -> None:
        super().__init__()
        self.eps = 1e-2
        self.first, self.second, self.last = nn.Linear(3, 4), nn.Linear(4, 6), nn.Linear(6, 2)
        self.one, self.other = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(6))

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt() * weight

    def forward(self, x: Tensor) -> Any:
        x = self.norm(self.first(x), self.one)
        return self.last(self.norm(self.second(x), self.other))


class Borrowed(nn.Module):
    """An eps that another operation computes with."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.eps = nn.Linear(3, 4), nn.Linear(4, 2), 1e-2
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Any:
        y = self.first(x)
        y = y * (y.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight
        return self.last(y) + self.eps


class Secret(Borrowed):
    """An eps that no attribute beside the weight holds."""

    def forward(self, x: Tensor) -> Any:
        y = self.first(x)
        return self.last(y * (y.square().mean(-1, keepdim=True) + 0.02).rsqrt() * self.weight)


@pytest.mark.parametrize("network", [Shared, Borrowed, Secret])
def test_where_it_is_not_certain_what_to_rescale_channels_stay(network: type[nn.Module]) -> None:
    model, example = network().eval(), torch.randn(2, 3)
    groups = granularity.channel(example)(model)
    assert all(units.frozen for units in groups.values())
    assert "a statistic is taken along it" in groups["first"].frozen
    crossing = granularity.channel(example, cross_norms=True)(model)
    assert crossing["first"].crosses
    assert not crossing["first"].rescaled
    assert getattr(model, "eps") == 1e-2  # noqa: B009  as it was before it was tried
