"""Least squares stage by stage: what comes out is what comes out of whole passes, of which fewer layers run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, granularity
from secateur.errors import ModelError, UnknownNameError
from secateur.reconstruction import least_squares
from tests.reconstruction.language import Decoder
from tests.reconstruction.networks import first_units


class Bottle(nn.Module):
    """A residual block with norms."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.Conv2d(6, 4, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(6), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm2(self.two(torch.relu(self.norm1(self.one(x))))))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.Sequential(Bottle(), Bottle(), Bottle()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def language_data() -> list[Any]:
    draw = torch.Generator().manual_seed(1)
    return [(torch.randint(8, (6, 5), generator=draw), None) for _ in range(4)]


def image_data() -> list[Any]:
    draw = torch.Generator().manual_seed(1)
    return [(torch.randn(12, 3, 7, 7, generator=draw), None) for _ in range(4)]


CASES: dict[str, tuple[Any, Any, str]] = {
    "language": (lambda: Decoder(blocks=3), language_data, "blocks"),
    "images": (convolutional, image_data, "1"),
}


def planned(case: str, stages: str | None, runs: list[str] | None = None) -> sc.Plan:
    build, data, _ = CASES[case]
    torch.manual_seed(0)
    model, batches = build().eval(), data()
    pruner = sc.Pruner(
        first_units(),
        granularity.channel(batches[0][0][:2]),
        allocation.uniform(),
        refit=least_squares(points=None, damping=1e-4, stages=stages),
        exclude=("0",) if case == "images" else (),
    )
    units = pruner.groups(model)
    for name, module in model.named_modules():
        if runs is not None and isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(lambda *_, name=name: runs.append(name))
    return pruner.plan(model, sc.Budget(sparsity=0.5), data=batches, units=units)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("how", ["auto", "by name"])
def test_stages_change_nothing_but_the_work(case: str, how: str) -> None:
    counted: dict[str, list[str]] = {"whole": [], "staged": []}
    whole = planned(case, None, counted["whole"])
    staged = planned(case, "auto" if how == "auto" else CASES[case][2], counted["staged"])
    assert whole.updates.keys() == staged.updates.keys() != set()
    for name, value in whole.updates.items():
        assert torch.allclose(staged.updates[name], value, rtol=1e-4, atol=1e-5), name
    if (case, how) != ("images", "auto"):  # the outermost sequence has most of the weights, nearly all in one stage
        first = "blocks.0.q" if case == "language" else "1.0.one"
        assert counted["staged"].count(first) < counted["whole"].count(first)


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_serve_is_said() -> None:
    with pytest.raises(UnknownNameError, match="no module is named 'layers'"):
        planned("language", "layers")
    with pytest.raises(ModelError, match="do not run once each, in order"):
        planned("images", "1.0")


def test_the_recipe_names_its_stages() -> None:
    assert repr(least_squares(stages="auto")) == "least_squares(points=10, stages=auto)"
