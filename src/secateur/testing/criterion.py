"""The laws of a criterion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from secateur import granularity
from secateur.criteria import Criterion, Group
from secateur.errors import ModelError
from secateur.granularity import Granularity
from secateur.granularity.layers import CONVOLUTIONS, PRUNABLE, TRANSPOSED
from secateur.statistics import Statistics, calibrate
from secateur.testing.common import ExampleNet, require, same_bits
from secateur.units import ParameterAxis, Units

GRANULARITIES = (
    granularity.weight(),
    granularity.vector("row"),
    granularity.vector("column"),
    granularity.kernel(),
    granularity.kernel_pattern(),
    granularity.filter(),
    granularity.input_channel(),
    granularity.block(2, 3),
    granularity.pattern(2, 4),
)
"""One of each of the built-in granularities, on whose groups a criterion is tried."""

SAMPLES = 4


def check_criterion(
    criterion: Criterion,
    model: nn.Module | None = None,
    *,
    seed: int = 0,
    granularities: Sequence[Granularity] = GRANULARITIES,
) -> None:
    """Check that a criterion keeps the laws on which everything else relies, on the groups of every granularity.

    - A score per unit: `(n_units,)`, floating point, finite; at least float32 for half-precision weights.
    - Equal parameters get equal scores.
    - Parameters, statistics and torch's global generator stay as they were.

    A criterion that has nothing to say about a group raises `ModelError` with the group's name; it has to score one of
    them at least. The statistics it needs are measured on a small random batch, which goes through every layer by
    itself.

    Args:
        criterion: What is checked.
        model: The model to try it on; by default `ExampleNet`.
        seed: Of the random batch.
        granularities: Whose groups it is tried on; by default one of each that are built in.

    Raises:
        ConformanceError: A law is broken.
        ModelError: No granularity fits the model, or the criterion scores none of the groups.

    Example:
        A criterion of one's own, the largest magnitude of a unit, keeps the laws:

        >>> from secateur.criteria import elementwise
        >>> check_criterion(elementwise(torch.abs, name="largest", within="max"))

        One that draws from the global generator does not:

        >>> check_criterion(Criterion("dice", lambda group: torch.rand(group.units.n_units)))
        Traceback (most recent call last):
        ...
        secateur.testing.common.ConformanceError: dice on weight(), group 'conv2d': a criterion leaves torch's global
        generator alone; it moved. To mend it: draw from torch.Generator().manual_seed(...) of its own
    """
    model = ExampleNet(seed) if model is None else model
    statistics = _measure(model, criterion, seed) if criterion.needs else Statistics()
    found = list(_groups(model, statistics, granularities))
    if not found:
        raise ModelError(f"no granularity fits {type(model).__name__}: give a model with layers that can go")
    scored = [
        _check_group(criterion, f"{criterion.name} on {name}, group {group.name!r}", group) for name, group in found
    ]
    if not any(scored):
        raise ModelError(
            f"{criterion.name} scores no group of {type(model).__name__}: give a model with groups it is for"
        )


def _groups(
    model: nn.Module, statistics: Statistics, granularities: Sequence[Granularity]
) -> Iterator[tuple[str, Group]]:
    for build in granularities:
        try:
            groups: Mapping[str, Units] = build(model)
        except ModelError:  # fits no layer of this model
            continue
        label = str(build) if "(" in str(build) else f"{build}()"
        for name, units in groups.items():
            if not units.frozen:
                held = {axis: model.get_parameter(axis.parameter).detach() for axis in units.index}
                yield label, Group(name, units, held, statistics)


def _check_group(criterion: Criterion, where: str, group: Group) -> bool:
    """The laws on one group; False where the criterion says that it has nothing to say."""
    before = {axis: value.clone() for axis, value in group.parameters.items()}
    seen = {
        (kind, of): value.clone() for kind, values in group.statistics.values.items() for of, value in values.items()
    }
    generator = torch.get_rng_state()
    try:
        scores = criterion.score(group)
    except ModelError as error:
        law = "a criterion that has nothing to say about a group names it"
        require(repr(group.name) in str(error), where, f"{law}; it says: {error}", "put group.name!r into the message")
        return False
    require(
        torch.equal(generator, torch.get_rng_state()),
        where,
        "a criterion leaves torch's global generator alone; it moved",
        "draw from torch.Generator().manual_seed(...) of its own",
    )
    require(
        all(same_bits(value, group.parameters[axis]) for axis, value in before.items())
        and all(same_bits(value, group.statistics.values[kind][of]) for (kind, of), value in seen.items()),
        where,
        "a criterion leaves parameters and statistics as they were; it changed one",
        "compute out of place: abs(), not abs_()",
    )
    _check_scores(where, group.units, scores)
    require(
        same_bits(scores, criterion.score(Group(group.name, group.units, before, group.statistics))),
        where,
        "equal parameters get equal scores; those of a copy differ",
        "keep no state between calls, and seed what it draws",
    )
    half: dict[ParameterAxis, Tensor] = {axis: value.bfloat16() for axis, value in group.parameters.items()}
    narrow = criterion.score(Group(group.name, group.units, half, group.statistics))
    _check_scores(f"{where}, weights in bfloat16", group.units, narrow)
    require(
        narrow.dtype in (torch.float32, torch.float64),
        f"{where}, weights in bfloat16",
        f"scores of half-precision weights are float32 or wider, or ties decide; found {narrow.dtype}",
        "widen the weights with .float() first, as elementwise() does",
    )
    return True


def _check_scores(where: str, units: Units, scores: Any) -> None:
    require(
        isinstance(scores, Tensor) and scores.shape == (units.n_units,),
        where,
        f"a criterion gives one score per unit, ({units.n_units},); found "
        f"{tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__}",
        "fold values per weight with group.units.reduce(...)",
    )
    require(
        scores.is_floating_point(),
        where,
        f"scores are floating point; found {scores.dtype}",
        "convert them with .float()",
    )
    bad = int(torch.count_nonzero(~torch.isfinite(scores)))
    require(
        bad == 0,
        where,
        f"scores are finite; {bad} of {len(scores)} are not",
        "look for divisions by zero, logarithms of zero and overflow",
    )


def _measure(model: nn.Module, criterion: Criterion, seed: int) -> Statistics:
    layers = _EachLayer(model, seed)
    found = calibrate(layers, [(torch.zeros(SAMPLES, 1), None)], criterion.needs, loss=lambda outputs, _: outputs)
    prefix = "model."
    values = {
        kind: {name.removeprefix(prefix): value for name, value in of.items()} for kind, of in found.values.items()
    }
    return Statistics(values, found.samples)


class _EachLayer(nn.Module):
    """Every layer that can be pruned, each run by itself on random inputs: no need to know what the model eats."""

    def __init__(self, model: nn.Module, seed: int) -> None:
        super().__init__()
        self.model, self.seed = model, seed

    def forward(self, _: Tensor) -> Tensor:
        draw = torch.Generator().manual_seed(self.seed)
        ran = [module(_input(module, draw)) for module in self.model.modules() if isinstance(module, PRUNABLE)]
        # Beside itself, every layer is read by a rectifier, behind which zeros are counted.
        values = [torch.stack([outputs, outputs.relu()]).square().mean() for outputs in ran]
        return torch.stack([value.float().cpu() for value in values]).sum()


def _input(module: Any, draw: torch.Generator) -> Tensor:
    convolves = isinstance(module, CONVOLUTIONS + TRANSPOSED)
    channels = module.in_channels if convolves else module.in_features
    reach = zip(module.kernel_size, module.dilation, strict=True) if convolves else ()
    space = [(size - 1) * step + 2 for size, step in reach]
    weight = module.weight
    return torch.randn(SAMPLES, channels, *space, generator=draw).to(weight.device, weight.dtype)
