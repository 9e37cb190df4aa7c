"""What a criterion is, what it sees, and `elementwise`, over which most of them are one line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from secateur.errors import DataError, ModelError
from secateur.index_maps import How, IndexMap
from secateur.statistics import Statistics
from secateur.units import ParameterAxis, Role, Units, fold


@dataclass(frozen=True)
class Group:
    """What a criterion sees: one group of units with its parameters.

    Args:
        name: Name of the group.
        units: Which weights go together.
        parameters: The tensors of the group, detached, one for each parameter axis.
        statistics: Numbers measured on data, if the criterion asked for some.
    """

    name: str
    units: Units
    parameters: Mapping[ParameterAxis, Tensor]
    statistics: Statistics = field(default_factory=Statistics)


@dataclass(frozen=True)
class Criterion:
    """A way to score units.

    Args:
        name: How a reader would write it.
        score: From a group to a score per unit, `(n_units,)`, floating point, finite; higher = keep.
        needs: Statistics it reads.

    Example:
        >>> import torch
        >>> first_units_matter = Criterion("position", lambda group: -torch.arange(float(group.units.n_units)))
        >>> first_units_matter.needs
        frozenset()
    """

    name: str
    score: Callable[[Group], Tensor]
    needs: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        """The name.

        Returns:
            The name.
        """
        return self.name


def elementwise(
    f: Callable[..., Tensor],
    *,
    name: str = "",
    needs: tuple[str, ...] = (),
    within: How = "sum",
    finish: Callable[[Tensor], Tensor] | None = None,
    across: How = "mean",
    roles: tuple[Role, ...] = ("out", "in"),
    alone: Callable[..., Tensor] | None = None,
) -> Criterion:
    """A criterion that looks at each weight by itself and adds up.

    `score(u) = across over parameter axes ( finish ( within over weights w of u ( f(w, statistics...) ) ) )`

    Half precision is widened to float32 first.

    Args:
        f: From the parameter, and the statistics named in `needs`, to a value per weight.
        name: How a reader would write the criterion; by default the name of `f`.
        needs: Statistics handed to `f` after the weight, in this order.
        within: How the weights of a unit in one parameter axis are folded.
        finish: Applied to the folded values, e.g. the root of an L2 norm.
        across: How several parameter axes of one unit are folded.
        roles: Parameter axes of these roles count.
        alone: Used instead of `f` and `finish` where every unit is a single weight, e.g. `|w|` instead of `sqrt(w^2)`,
            which would round and underflow.

    Returns:
        Criterion: a score per unit.

    Shapes:
        `f` from a weight and statistics that broadcast with it to that shape; scores `(n_units,)`.

    Example:
        >>> square = elementwise(lambda w: w.square(), name="energy")
        >>> from secateur.granularity import filter
        >>> import torch
        >>> fc = torch.nn.Linear(2, 2)
        >>> _ = fc.weight.data.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> units = filter()(fc)["weight"]
        >>> square.score(Group("weight", units, {("weight", None): fc.weight.detach()}))
        tensor([ 5., 25.])
    """
    label = name or getattr(f, "__name__", "elementwise")
    score = partial(
        _score, f=f, needs=needs, within=within, finish=finish, across=across, roles=roles, alone=alone, name=label
    )
    return Criterion(label, score, frozenset(needs))


def _score(
    group: Group, *, f: Any, needs: Any, within: Any, finish: Any, across: Any, roles: Any, alone: Any, name: str
) -> Tensor:
    units = group.units
    axes = [axis for axis, role in units.role.items() if role in roles and axis in group.parameters]
    if not axes:
        raise ModelError(f"{name} looks at weights of the roles {roles}; group {group.name!r} has none of them")
    maps = {axis: units.index[axis] for axis in axes}
    single = alone is not None and all(map(_of_single_weights, maps.values()))
    formula = alone if single else f
    folded = []
    for axis, index in maps.items():
        extra = [_wide(measured(group, kind, axis)) for kind in needs]
        weights = _wide(group.parameters[axis])
        value = index.reduce(formula(weights, *extra), within)
        folded.append((value if single or finish is None else finish(value)).to(weights.dtype))
    return fold(folded, across)


def measured(group: Group, kind: str, axis: ParameterAxis) -> Tensor:
    """A statistic of one of a group's parameters.

    Args:
        group: The group.
        kind: Which statistic.
        axis: Of which parameter.

    Returns:
        A tensor that broadcasts to the parameter.

    Raises:
        DataError: It was not collected, or has another shape.
    """
    found, weight = group.statistics.of(kind, axis.parameter), tuple(group.parameters[axis].shape)
    try:
        found.expand(weight)
    except RuntimeError as error:
        raise DataError(
            f"{kind!r} of {axis.parameter!r} has the shape {tuple(found.shape)}, which does not broadcast to the "
            f"weight's, {weight}: was it measured on another model?"
        ) from error
    return found


def _of_single_weights(index: IndexMap) -> bool:
    return index.n_units == math.prod(index.shape) and bool((index.counts() == 1).all())


def _wide(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
