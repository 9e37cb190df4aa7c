"""Small models, and pruners of every kind, for the tests of plans and training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, criteria, granularity

GRANULARITIES = {
    "weight": granularity.weight(),
    "row": granularity.vector("row"),
    "column": granularity.vector("column"),
    "kernel": granularity.kernel(),
    "filter": granularity.filter(),
    "input_channel": granularity.input_channel(),
    "block": granularity.block(4, 1),
    "ragged": granularity.block(3, 5),
}
FIXED = {
    "2:4": granularity.pattern(2, 4),
    "1:4": granularity.pattern(1, 4),
    "kernel_pattern": granularity.kernel_pattern(),
}
ALLOCATIONS = {
    "uniform": allocation.uniform(),
    "global": allocation.global_(),
    "erdos_renyi": allocation.erdos_renyi(),
    "lamp": allocation.lamp(),
    "fixed": allocation.fixed({"*": 0.5}),
}


def network(seed: int = 0) -> nn.Sequential:
    """Two convolutions (the second grouped) and two linear layers; inputs 1 x 6 x 6."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.Linear(8, 12),
        nn.ReLU(),
        nn.Linear(12, 4),
    )


def data(samples: int = 24, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Inputs and labels for `network`."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(samples, 1, 6, 6, generator=generator),
        torch.randint(4, (samples,), generator=generator),
    )


def pruner(
    units: Callable[[nn.Module], dict[str, sc.Units]] | None = None,
    share: object = None,
    criterion: sc.Criterion | None = None,
    **more: object,
) -> sc.Pruner:
    """A pruner; by default magnitude, single weights, one global ranking."""
    return sc.Pruner(
        criterion or criteria.magnitude(),
        units or granularity.weight(),
        share or allocation.global_(),  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
    )


def taylor() -> sc.Criterion:
    """First-order Taylor, |w g|: a criterion that needs gradients."""
    return criteria.elementwise(lambda w, g: (w * g).abs(), name="taylor", needs=("gradient",))


def zeros_kept(model: nn.Module, plan: sc.Plan) -> bool:
    """Whether everything the plan removes is zero."""
    return all(not bool(model.get_parameter(name)[~mask].any()) for name, mask in plan.masks().items())


def same_masks(first: sc.Plan, second: sc.Plan) -> bool:
    """Whether two plans remove the same weights."""
    one, two = first.masks(), second.masks()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
