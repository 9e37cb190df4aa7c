"""Channels: slices of parameters that leave together, through the whole model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from secateur.dependency import Coupled, Slot, Solution, contributions, coupled, fitted, record, roles, stays
from secateur.granularity.layers import Granularity
from secateur.index_maps import Arange, IndexMap, Stored
from secateur.recipe import Recipe
from secateur.units import ParameterAxis, Role, Units

BESIDE = ("running", "direction")


def channel(example: Any, *, cross_norms: bool = False) -> Granularity:
    """Coupled channels: a unit is all that has to leave so that the model without it equals the model with it masked.

    A forward pass on the example is recorded; labels of channels ride along it. So the outputs of a layer leave with
    the norm behind it, the inputs of what reads them, and the outputs of every layer that is added to them; attention
    heads leave whole. What cannot leave stays, with the reason and the line of the model's code. The size of the
    model's output stays by itself.

    The pass goes one way through the model's code: the way that this example takes.

    Args:
        example: Inputs of a batch, as the model takes them: a tensor, a tuple or a dict.
        cross_norms: Whether channels may leave over which a mean or variance is taken, such as the width of a model
            with layer norms. The smaller model then equals the masked one with these statistics taken over what is
            left, not plain masking.

    Returns:
        Granularity: one group for each set of channels that touch the same parameters, named by the layer that makes
        them.

    Reference:
        Fang, Ma, Song, Mi, Wang (2023), DepGraph: Towards Any Structural Pruning, section 3, for the problem.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> groups = channel(torch.zeros(1, 2))(model)
        >>> [(axis.parameter, axis.axis) for axis in groups["0"].index], groups["0"].n_units
        ([('0.weight', 0), ('0.bias', 0), ('2.weight', 1)], 3)
        >>> groups["2"].frozen
        "it is the model's output"
    """
    return Recipe("channel(cross_norms=True)" if cross_norms else "channel", _Channel(example, cross_norms))


@dataclass(frozen=True)
class _Channel:
    example: Any = field(repr=False)
    cross_norms: bool

    def __call__(self, model: nn.Module) -> dict[str, Units]:
        """Record the model and solve for its groups.

        Args:
            model: The model.

        Returns:
            Units by name of the group.
        """
        solution = fitted(model, record(model, self.example), cross_norms=self.cross_norms)
        return dict(_named([*_free(model, solution), *_frozen(solution)]))


def _free(model: nn.Module, solution: Solution) -> Iterator[tuple[str, Units]]:
    told = roles(solution.record)
    for group in coupled(solution):
        if len(group.roots) > 1:
            yield _name(group, told), _units(model, solution, group, told)


def _units(model: nn.Module, solution: Solution, group: Coupled, told: Mapping[tuple[int, int], str]) -> Units:
    count = len(group.roots)
    index: dict[ParameterAxis, IndexMap] = {}
    beside: dict[ParameterAxis, IndexMap] = {}
    role: dict[ParameterAxis, Role] = {}
    for slot, units in group.index.items():
        axis, kind = ParameterAxis(slot.name, slot.dim), told[slot.number, slot.dim]
        shape = solution.record.values[slot.number].shape
        sizes = [-1 if dim == slot.dim else 1 for dim in range(len(shape))]
        (beside if kind in BESIDE else index)[axis] = Stored(shape, torch.from_numpy(units).reshape(sizes), count)
        if kind not in BESIDE:
            role[axis] = cast("Role", kind)
    attributes = {one: torch.from_numpy(parts) for one, parts in contributions(model, solution, group).items()}
    return Units(
        index,
        Arange((count,), repeat=(count,)),
        role,
        note=_note(group, told),
        beside=beside,
        attributes=attributes,
        crosses=_crossing(solution, group),
    )


def _crossing(solution: Solution, group: Coupled) -> str:
    """Where a mean or variance is taken over the channels of a group."""
    for core, reason in solution.partition.crossed:
        if np.isin(solution.partition.seen(core), group.roots).any():
            return str(reason)
    return ""


def _frozen(solution: Solution) -> Iterator[tuple[str, Units]]:
    """Layers whose channels stay, each as one unit."""
    told = roles(solution.record)
    for slot, reason in stays(solution):
        value = solution.record.values[slot.number]
        if value.source == "parameter" and told[slot.number, slot.dim] == "out" and len(value.shape) > 1:
            axis = ParameterAxis(slot.name, slot.dim)
            whole = Arange(value.shape, repeat=value.shape)
            yield _layer(slot), Units({axis: whole}, Arange((1,)), {axis: "out"}, frozen=str(reason))


def _named(groups: list[tuple[str, Units]]) -> Iterator[tuple[str, Units]]:
    """Names told apart where one layer makes channels of several groups."""
    seen: dict[str, int] = {}
    for name, units in groups:
        seen[name] = seen.get(name, 0) + 1
        yield (name if seen[name] == 1 else f"{name} ({seen[name]})"), units


def _makers(group: Coupled, told: Mapping[tuple[int, int], str]) -> list[Slot]:
    made = [slot for slot in group.index if told[slot.number, slot.dim] == "out"]
    return made or list(group.index)


def _name(group: Coupled, told: Mapping[tuple[int, int], str]) -> str:
    return _layer(_makers(group, told)[0])


def _layer(slot: Slot) -> str:
    owner, _, name = slot.name.rpartition(".")
    return owner if owner and name == "weight" else slot.name


def _note(group: Coupled, told: Mapping[tuple[int, int], str]) -> str:
    others = dict.fromkeys(_layer(slot) for slot in _makers(group, told)[1:])
    others.pop(_name(group, told), None)
    return f"with {', '.join(others)}" if others else ""
