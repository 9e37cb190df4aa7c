"""Any criterion layer by layer, on what the layers before, already pruned, put out."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import nn

from secateur.allocation import uniform
from secateur.budget import Budget
from secateur.criteria import Criterion
from secateur.errors import DataError, ModelError, UnknownNameError
from secateur.masking import zero
from secateur.plan import Part, Plan
from secateur.pruner import Pruner, Selection
from secateur.recipe import Recipe
from secateur.reconstruction.forward_order import Pass, forward_order, inputs_of
from secateur.reconstruction.stages import AUTO
from secateur.statistics import Statistics
from secateur.statistics.batch import Batch
from secateur.statistics.calibrate import COLLECTORS, Prepared, united
from secateur.units import Units


def layerwise(criterion: Criterion, *, stages: str | None = AUTO) -> Selection:
    """A criterion applied to one layer after the other, in forward order.

    `score(u) = criterion(W, statistics of X')`, X' the layer's inputs in the model whose earlier layers are pruned. So
    a layer is judged by the inputs that it will get. The batches are held in memory and pass more than once.

    Args:
        criterion: Any whose statistics look at single layers, such as Wanda's `|w| * input_norm`.
        stages: Modules that run one after the other, of which one at a time runs: see `forward_order`.

    Returns:
        Selection: the method of a `Pruner`, for granularities that treat every layer by itself.

    Raises:
        DataError: The criterion needs a statistic of the whole model, such as one that needs a loss.
        UnknownNameError: The criterion needs a statistic that there is not.

    Shapes:
        Scores `(n_units,)` of a layer, from its weight and statistics of the weight's shape or its inputs' `(I,)`.

    Reference:
        Sun, Liu, Bair, Kolter (2024), A Simple and Effective Pruning Approach for Large Language Models.

    Example:
        The first layer loses its second neuron, so the second layer's largest weight reads nothing any more, and goes:

        >>> import torch
        >>> from secateur import allocation, granularity
        >>> from secateur.criteria import elementwise
        >>> net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False))
        >>> _ = net[0].weight.data.copy_(torch.tensor([[2.0], [1.0]]))
        >>> _ = net[1].weight.data.copy_(torch.tensor([[3.0, 9.0]]))
        >>> wanda = elementwise(lambda w, norm: w.abs() * norm, needs=("input_norm",), name="wanda")
        >>> pruner = Pruner(layerwise(wanda), granularity.weight(), allocation.uniform())
        >>> pruner.plan(net, Budget(sparsity=0.5), data=[(torch.ones(1, 1), None)]).masks()["1.weight"]
        tensor([[ True, False]])
    """
    for kind in criterion.needs:
        if kind not in COLLECTORS:
            raise UnknownNameError("statistic", kind, COLLECTORS)
        collector = COLLECTORS[kind]()
        if collector.needs_loss or isinstance(collector, Prepared):
            raise DataError(
                f"{criterion.name} needs {kind!r}, which is measured on the whole model: give the criterion itself to "
                "the pruner instead of layerwise(...)"
            )
    return Recipe(f"layerwise({criterion.name})", partial(_select, criterion=criterion, stages=stages))


def _select(
    model: nn.Module,
    units: Mapping[str, Units],
    sparsities: Mapping[str, float],
    batches: Iterable[Any],
    criterion: Criterion,
    stages: str | None,
) -> Plan:
    groups = by_weight(units, f"layerwise({criterion.name})")
    inputs = inputs_of(batches, f"layerwise({criterion.name})")
    working = copy.deepcopy(model)
    parts: dict[str, Part] = {}
    for weights, run in forward_order(working, groups, inputs, stages):
        statistics = _measured(criterion, working, run)
        for weight in weights:
            name = groups[weight]
            plan = _of_one(criterion, working, name, units[name], sparsities[name], statistics)
            parts[name] = plan.parts[0]
            zero(working, {parameter: ~kept for parameter, kept in plan.masks().items()})
    return Plan(tuple(parts[name] for name in units))


def by_weight(units: Mapping[str, Units], who: str) -> dict[str, str]:
    """The name of the group of each weight.

    Args:
        units: Groups by name.
        who: Wants them.

    Returns:
        Names of groups by name of the parameter.

    Raises:
        ModelError: A group has several parameters, or two groups share one.
    """
    groups: dict[str, str] = {}
    for name, its in units.items():
        parameters = {axis.parameter for axis in its.index}
        if len(parameters) > 1 or parameters & groups.keys():
            raise ModelError(
                f"{who} goes layer by layer, and group {name!r} has {sorted(parameters)}: use a granularity that "
                "treats every layer by itself, such as weight() or pattern(2, 4)"
            )
        groups |= dict.fromkeys(parameters, name)
    return groups


def _measured(criterion: Criterion, model: nn.Module, run: Pass) -> Statistics:
    if not criterion.needs:
        return Statistics()
    collectors = [COLLECTORS[kind]() for kind in sorted(criterion.needs)]
    samples = 0
    with ExitStack() as stack:
        for collector in collectors:
            for handle in collector.watch(model, {}):
                stack.callback(handle.remove)
        for size in run():
            samples += size
            for collector in collectors:
                collector.batch(Batch(None, None, None, size))
    return united([collector.result() for collector in collectors], samples)


def _of_one(
    criterion: Criterion, model: nn.Module, name: str, units: Units, sparsity: float, statistics: Statistics
) -> Plan:
    """The decision about one group, by a pruner of its own, which checks the scores."""
    pruner = Pruner(criterion, lambda _: {name: units}, uniform())
    return pruner.plan(model, Budget(per_group={name: sparsity}), statistics=statistics, units={name: units})
