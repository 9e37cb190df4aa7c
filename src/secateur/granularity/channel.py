"""Channels: slices of parameters that leave together, through the whole model."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from secateur.dependency import (
    Coupled,
    Record,
    Slot,
    Solution,
    contributions,
    coupled,
    decisions,
    fitted,
    record_all,
    roles,
    scales,
    solve,
    stays,
    within,
)
from secateur.errors import ModelError
from secateur.granularity.layers import Granularity
from secateur.index_maps import Arange, IndexMap, Stored
from secateur.names import spelled_out
from secateur.recipe import Recipe
from secateur.units import Attribute, Eps, ParameterAxis, Role, Units

BESIDE = ("running", "direction")
SHOWN = 3  # lines in a warning

# Many times what the largest models of today take; what runs longer has an example that is too large.
TIME_LIMIT = 300.0


Pick = int | Mapping[str, int]
"""A number for all groups, or by name or pattern."""


def channel(
    example: Any,
    *,
    round_to: Pick = 1,
    minimum: Pick = 1,
    cross_norms: bool = False,
    graph: bool = False,
    time_limit: float | None = TIME_LIMIT,
) -> Granularity:
    """Coupled channels: a unit is all that has to leave so that the model without it equals the model with it masked.

    A forward pass on the example is recorded; labels of channels ride along it. So the outputs of a layer leave with
    the norm behind it, the inputs of what reads them, and the outputs of every layer that is added to them; attention
    heads leave whole. What cannot leave stays, with the reason and the line of the model's code. The size of the
    model's output stays by itself.

    The pass goes one way through the model's code: the way that this example takes in eval mode, or in train mode if
    only that runs all layers, such as auxiliary heads. Where the code looks at values to decide, a warning names the
    line.

    Args:
        example: Inputs of a batch, as the model takes them: a tensor, a tuple or a dict.
        round_to: What stays is a multiple of so many channels, e.g. 8, which hardware likes; of all groups or by name.
        minimum: So many channels stay at least, of all groups or by name.
        cross_norms: Whether channels may leave over which a mean or variance is taken, such as the width of a model
            with layer norms. The smaller model then equals the masked one with these statistics taken over what is
            left, not plain masking.
        graph: Whether channels may leave whose number the model's code borrows from elsewhere, as in
            `width // num_heads`. The code cannot follow then: shrink such plans with `graph=True`, which returns the
            operations in place of the code.
        time_limit: Seconds that recording and solving may take, each time it is called; None: any. It is looked at with
            every operation on tensors, so one long operation, or a loop without any, is not cut short.

    Returns:
        Granularity: one group for each set of channels that touch the same parameters, named by the layer that makes
        them.

    Raises:
        ModelError: When it is called, if the model is wrapped or scripted, fails on the example, or takes too long; the
            message says where it was.

    Shapes:
        A group of n units holds n slices, or a multiple, of axis 0 of the weights `(O, I, h, w)` that make them, of
        axis 1 of those that read them, and of biases and norms `(O,)`.

    Reference:
        Fang, Ma, Song, Mi, Wang (2023), DepGraph: Towards Any Structural Pruning, for the problem.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> groups = channel(torch.zeros(1, 2))(model)
        >>> [(axis.parameter, axis.axis) for axis in groups["0"].index], groups["0"].n_units
        ([('0.weight', 0), ('0.bias', 0), ('2.weight', 1)], 3)
        >>> groups["2"].frozen
        "it is the model's output"
    """
    return Recipe(
        _name_of("channel", round_to, minimum, cross_norms, graph),
        _Channel(example, round_to, minimum, cross_norms, graph=graph, time_limit=time_limit),
    )


def head(example: Any, *, minimum: Pick = 1) -> Granularity:
    """Attention heads: of the groups of `channel`, those whose units are multiplied each by itself, as heads are.

    A head takes its rows of the projections along, those of queries, keys and values, and its columns of the projection
    behind. Where several queries share a key and a value, they leave together. Everything else stays.

    Head u of size d takes the rows `u d <= r < (u + 1) d`.

    Args:
        example: Inputs of a batch, as the model takes them.
        minimum: So many heads stay at least, of all groups or by name.

    Returns:
        Granularity: one group for each attention whose heads can leave.

    Shapes:
        Of H heads of size d: rows of projections `(H d, I)`, columns of the one behind, `(O, H d)`; `(H,)` units.

    Reference:
        Michel, Levy, Neubig (2019), Are Sixteen Heads Really Better than One?, section 2.

    Example:
        >>> class Attention(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.qkv, self.out = nn.Linear(4, 24), nn.Linear(8, 4)
        ...
        ...     def forward(self, x):
        ...         q, k, v = self.qkv(x).unflatten(-1, (3, -1, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        ...         return self.out(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))
        >>> groups = head(torch.zeros(1, 5, 4))(Attention())
        >>> groups["qkv"].n_units, [(axis.parameter, axis.axis) for axis in groups["qkv"].index]
        (2, [('qkv.weight', 0), ('qkv.bias', 0), ('out.weight', 1)])
    """
    return Recipe(_name_of("head", 1, minimum), _Channel(example, 1, minimum, False, only_heads=True))


def _name_of(name: str, round_to: Pick, minimum: Pick, cross_norms: bool = False, graph: bool = False) -> str:
    given = {
        "round_to": (round_to, 1),
        "minimum": (minimum, 1),
        "cross_norms": (cross_norms, False),
        "graph": (graph, False),
    }
    words = [f"{key}={value!r}" for key, (value, default) in given.items() if value != default]
    return f"{name}({', '.join(words)})" if words else name


@dataclass(frozen=True)
class _Channel:
    example: Any = field(repr=False)
    round_to: Pick
    minimum: Pick
    cross_norms: bool
    only_heads: bool = False
    graph: bool = False
    time_limit: float | None = TIME_LIMIT

    def __call__(self, model: nn.Module) -> dict[str, Units]:
        """Record the model and solve for its groups.

        Args:
            model: The model.

        Returns:
            Units by name of the group.

        Raises:
            ModelError: The model is wrapped or scripted, or fails on the example.
        """
        solution = self.solution(model)
        _warn_of_decisions(solution.record)
        groups = dict(_named([*_free(model, solution, self.only_heads), *_frozen(solution)]))
        return self._rounded(groups)

    def solution(self, model: nn.Module) -> Solution:
        """Record the model and solve for its labels.

        Args:
            model: The model.

        Returns:
            The labels of everything.
        """
        _bare(model)
        deadline = within(self.time_limit)
        record = record_all(model, self.example, deadline=deadline)
        if self.graph:
            return solve(record, fixed=scales(record), cross_norms=self.cross_norms, deadline=deadline)
        return fitted(model, record, cross_norms=self.cross_norms, deadline=deadline)

    def _rounded(self, groups: dict[str, Units]) -> dict[str, Units]:
        """What stays, in units: a unit may be several channels of the layer that makes them; heads count as heads."""
        free = [name for name, units in groups.items() if not units.frozen]
        multiples, lowest = (_each(given, free) for given in (self.round_to, self.minimum))
        for name in free:
            widths = (int(index.numbers().eq(0).sum()) for index in groups[name].index.values())
            width = 1 if self.only_heads else min(widths)
            multiple, least = multiples.get(name, 1), lowest.get(name, 1)
            step = multiple // math.gcd(multiple, max(1, width))
            groups[name] = replace(groups[name], step=step, least=-(-least // max(1, width)))
        return groups


def solution_of(granularity: Granularity, model: nn.Module) -> Solution | None:
    """The labels from which a granularity that couples channels makes its groups.

    Args:
        granularity: Any.
        model: The model.

    Returns:
        The labels of everything; None for a granularity that looks at single layers.
    """
    function = getattr(granularity, "function", None)
    return function.solution(model) if isinstance(function, _Channel) else None


def example_of(granularity: Granularity) -> Any:
    """The inputs that a granularity was given.

    Args:
        granularity: Any.

    Returns:
        The inputs; None for one that looks at single layers.
    """
    function = getattr(granularity, "function", None)
    return function.example if isinstance(function, _Channel) else None


def _warn_of_decisions(found: Record) -> None:
    """Say it where the code may go another way for other inputs, which nothing here has seen."""
    places = [call.line or call.module or "the model's forward" for call in decisions(found)]
    if places:
        more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
        warnings.warn(
            f"the model's code looks at values to decide what to run, at {', '.join(places[:SHOWN])}{more}: what was "
            "found holds for the way that the example takes",
            stacklevel=4,
        )


def _bare(model: nn.Module) -> None:
    """Refuse what is wrapped around a model: its parameters have other names, or its code cannot be followed."""
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError("a scripted model's code cannot be followed: give the module that was scripted")
    for name in ("_orig_mod", "module"):  # torch.compile; data parallel
        inner = model._modules.get(name)
        if isinstance(inner, nn.Module) and type(model).__module__.startswith("torch."):
            raise ModelError(f"{type(model).__name__} is wrapped around the model: give model.{name}")


def _each(given: Pick, names: list[str]) -> dict[str, int]:
    if isinstance(given, int):
        return dict.fromkeys(names, given)
    return {name: int(value) for name, value in spelled_out(given, names).items()}


def _free(model: nn.Module, solution: Solution, only_heads: bool) -> Iterator[tuple[str, Units]]:
    told = roles(solution.record)
    heads = np.unique(
        np.concatenate([[-1], *(solution.partition.seen(one).ravel() for one in solution.partition.heads)])
    )
    groups = [group for group in coupled(solution) if len(group.roots) > 1]
    for group, attributes in zip(groups, contributions(model, solution, groups), strict=True):
        units = _units(solution, group, told, attributes)
        other = only_heads and not np.isin(group.roots, heads).all()
        yield _name(group, told), replace(units, frozen="no attention heads" if other else "")


def _units(
    solution: Solution,
    group: Coupled,
    told: Mapping[tuple[int, int], str],
    attributes: Mapping[Attribute, NDArray[np.int64]],
) -> Units:
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
    return Units(
        index,
        Arange((count,), repeat=(count,)),
        role,
        note=_note(group, told),
        beside=beside,
        attributes={one: torch.from_numpy(parts) for one, parts in attributes.items()},
        crosses=_crossing(solution, group),
        rescaled=_rescaled(solution, group),
    )


def _crossing(solution: Solution, group: Coupled) -> str:
    """Where a mean or variance is taken over the channels of a group."""
    for core, reason in solution.partition.crossed:
        if np.isin(solution.partition.seen(core), group.roots).any():
            return str(reason)
    return ""


def _rescaled(solution: Solution, group: Coupled) -> dict[str, Eps]:
    """Norms by root mean squares of which a group takes from the weight."""
    touched = {slot.number: slot.name for slot in group.index}
    norms = [norm for norm in solution.lifted if norm.weight in touched]
    return {touched[norm.weight]: Eps(norm.eps, norm.value, norm.offset) for norm in norms if norm.eps is not None}


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
