"""Units: which weights go together, who competes with whom, and `select`, which keeps the best.

A granularity is data here: for each parameter an integer per weight (its *unit*), and for each unit an integer (its
*scope*). Units of equal scope compete; those with the highest scores stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from secateur.errors import BudgetError, PlanError
from secateur.index_maps import Arange, How, IndexMap
from secateur.ranking import count, keep_best, keep_best_per_row, keep_best_per_scope

Role = Literal["out", "in", "norm_scale", "norm_shift", "bias", "running", "other"]


class ParameterAxis(NamedTuple):
    """A parameter, and the axis along which its slices leave; None: its weights leave one by one.

    Example:
        >>> ParameterAxis("fc1.weight", None)
        ParameterAxis(parameter='fc1.weight', axis=None)
    """

    parameter: str
    axis: int | None = None


@dataclass(frozen=True)
class Attribute:
    """An integer that a module holds.

    Args:
        module: The module's dotted name; empty for the model itself.
        path: Attribute, then keys, indices or attributes within it, such as `("config", "hidden_size")`.
    """

    module: str
    path: tuple[str | int, ...]


@dataclass(frozen=True)
class Eps:
    """The small number that a norm adds before it takes the root.

    Args:
        attribute: Which attribute holds it.
        value: What it is where the attribute says None.
        offset: What the norm adds to its weight.
    """

    attribute: Attribute
    value: float
    offset: float = 0.0


@dataclass(frozen=True)
class Units:
    """One group of units that are pruned alike.

    Args:
        index: For each parameter axis, the unit of each weight (see `secateur.index_maps`).
        scope: The scope of each unit: an index map over `(n_units,)`.
        role: What the weights are to their unit: `out` produces its output, `in` consumes it, and so on. Criteria look
            at the roles they understand.
        keep_per_scope: How many units of every scope stay, where a pattern fixes it (2 of every 4); None: free.
        frozen: Why no unit may go; empty: they may.
        note: What else a reader of the plan should know, e.g. other names of a shared parameter.
        beside: What leaves with the units without being masked or counted: running statistics, and directions that
            another parameter scales.
        attributes: Integers of the model that get smaller: by how much for each unit, int64 `(n_units,)`.
        crosses: Where a mean or variance is taken over the units, so that without some it is taken over fewer; empty:
            nowhere, and removing is masking.
        rescaled: Weights of norms by root mean squares that grow by the root of positions before over positions after,
            so that removing is masking though a mean is taken over the units; and the eps that grows by that ratio.
        step: So many units leave at once, so that what stays is a multiple of it.
        least: So many units stay in every scope at least.

    Raises:
        PlanError: An index numbers units that the scope does not have.

    Example:
        Two rows of a 2 x 3 weight, each a unit, competing with each other:

        >>> from secateur.index_maps import Arange
        >>> fc = ParameterAxis("fc.weight")
        >>> rows = Units({fc: Arange((2, 3), repeat=(1, 3))}, Arange((2,), repeat=(2,)), {fc: "out"})
        >>> rows.reduce({fc: torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])})
        tensor([ 6., 15.])
        >>> rows.expand(torch.tensor([False, True]))[fc].tolist()
        [[False, False, False], [True, True, True]]
    """

    index: Mapping[ParameterAxis, IndexMap]
    scope: IndexMap
    role: Mapping[ParameterAxis, Role]
    keep_per_scope: int | None = None
    frozen: str = ""
    note: str = ""
    beside: Mapping[ParameterAxis, IndexMap] = field(default_factory=dict)
    attributes: Mapping[Attribute, Tensor] = field(default_factory=dict)
    crosses: str = ""
    rescaled: Mapping[str, Eps] = field(default_factory=dict)
    step: int = 1
    least: int = 1
    n_units: int = field(init=False)

    def __post_init__(self) -> None:
        """Check that index, scope and role speak of the same units.

        Raises:
            PlanError: An index numbers units that the scope does not have.
        """
        if len(self.scope.shape) != 1 or set(self.index) != set(self.role) or not self.index:
            raise PlanError(
                f"units need a scope over one dimension (given: {self.scope.shape}) and a role for each of "
                f"{list(self.index)}"
            )
        object.__setattr__(self, "n_units", self.scope.shape[0])
        if self.keep_per_scope is not None and not _even(self.scope, self.keep_per_scope):
            raise PlanError(
                f"keeping {self.keep_per_scope} units of every scope needs consecutive scopes of one larger size"
            )
        for axis, index in (*self.index.items(), *self.beside.items()):
            if index.n_units != self.n_units:
                raise PlanError(f"{axis} numbers {index.n_units} units, the scope {self.n_units}")
        for attribute, parts in self.attributes.items():
            if parts.shape != (self.n_units,) or parts.dtype != torch.int64:
                raise PlanError(f"{attribute} needs an integer for each of {self.n_units} units")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first parameter, the one that gives the group its name."""
        return next(iter(self.index.values())).shape

    @property
    def weights_per_unit(self) -> Tensor:
        """Weights in each unit over all parameter axes, int64, `(n_units,)`."""
        first, *others = (index.counts() for index in self.index.values())
        return sum(others, first)

    @property
    def full_sparsity(self) -> float | None:
        """The sparsity that a fixed pattern has when every scope follows it; None where the number kept is free."""
        if self.keep_per_scope is None:
            return None
        return 1 - self.keep_per_scope * self.scope.n_units / self.n_units

    def reduce(self, saliency: Mapping[ParameterAxis, Tensor], within: How = "sum", across: How = "sum") -> Tensor:
        """Fold a value per weight into a value per unit.

        Args:
            saliency: A tensor of the parameter's shape for each parameter axis to be counted.
            within: How the weights of a unit in one parameter axis are folded.
            across: How the parameter axes are folded.

        Returns:
            `(n_units,)`.

        Raises:
            PlanError: `saliency` is empty or has an axis that is not of this group.
        """
        if not saliency or set(saliency) - set(self.index):
            raise PlanError(f"saliency for {list(saliency)} cannot be reduced over {list(self.index)}")
        return fold([self.index[axis].reduce(values, within) for axis, values in saliency.items()], across)

    def expand(self, keep: Tensor) -> dict[ParameterAxis, Tensor]:
        """A decision per unit as masks over the weights.

        Args:
            keep: bool, `(n_units,)`.

        Returns:
            For each parameter axis a bool tensor of the parameter's shape, True where a weight stays.

        Raises:
            PlanError: `keep` has another length.
        """
        if keep.shape != (self.n_units,):
            raise PlanError(f"keep has shape {tuple(keep.shape)}, expected ({self.n_units},)")
        return {axis: index.mask(keep) for axis, index in self.index.items()}


def fold(values: Sequence[Tensor], how: How) -> Tensor:
    """Several tensors of one shape folded into one.

    Args:
        values: At least one.
        how: Sum, mean or maximum, element by element.

    Returns:
        A tensor of the same shape.

    Example:
        >>> fold([torch.tensor([1.0, 5.0]), torch.tensor([3.0, 1.0])], "mean")
        tensor([2., 3.])
    """
    if len(values) == 1:
        return values[0]
    stacked = torch.stack(list(values))
    return stacked.amax(0) if how == "max" else stacked.sum(0) if how == "sum" else stacked.mean(0)


def _even(scope: IndexMap, kept: int) -> bool:
    """Whether scopes are consecutive runs of one length, from which `kept` can stay."""
    if not isinstance(scope, Arange) or not scope.split == scope.join == scope.shape:
        return False
    return scope.shape[0] % scope.repeat[0] == 0 and 1 <= kept <= scope.repeat[0]


def select(units: Units, scores: Tensor, sparsity: float) -> Tensor:
    """Keep the units with the highest scores of every scope.

    A scope of `n` units loses `round(sparsity * n)` of them, and always keeps one, or `least`; what stays is rounded to
    a multiple of `step`. Where a pattern fixes how many stay, the fraction `sparsity / full_sparsity` of the scopes
    follows it, those first that lose the least score. Of equal scores the first stay.

    Args:
        units: The group.
        scores: `(n_units,)`, higher = keep; `-inf` for what must go first.
        sparsity: Fraction of the units to remove, 0 to 1.

    Returns:
        bool, `(n_units,)`: True where a unit stays.

    Raises:
        BudgetError: `sparsity` is not between 0 and 1, or more than the pattern can remove.
        PlanError: `scores` has another length or holds NaN.

    Example:
        Four weights in one scope, half of them to go; then the same as two scopes of two:

        >>> from secateur.index_maps import Arange
        >>> axis, scores = ParameterAxis("w"), torch.tensor([4.0, 3.0, 2.0, 1.0])
        >>> select(Units({axis: Arange((4,))}, Arange((4,), repeat=(4,)), {axis: "out"}), scores, 0.5).tolist()
        [True, True, False, False]
        >>> select(Units({axis: Arange((4,))}, Arange((4,), repeat=(2,)), {axis: "out"}), scores, 0.5).tolist()
        [True, False, True, False]
    """
    _check(units, scores, sparsity)
    if units.frozen:
        return torch.ones_like(scores, dtype=torch.bool)
    if units.keep_per_scope is not None:
        return _keep_pattern(units, scores, sparsity)
    if units.scope.n_units == 1:
        return keep_best(scores, kept_units(units.n_units, sparsity, units.step, units.least))
    scope = units.scope.numbers().to(scores.device)
    sizes = units.scope.counts().tolist()
    each = [kept_units(size, sparsity, units.step, units.least) for size in sizes]
    kept = torch.tensor(each, device=scores.device)
    return keep_best_per_scope(scores, scope, kept)


def kept_units(count: int, sparsity: float, step: int = 1, least: int = 1) -> int:
    """How many of `count` competing units stay: all but `round(sparsity * count)`, and at least one.

    Args:
        count: Units in the scope.
        sparsity: Fraction to remove.
        step: What stays is the nearest multiple of it, but for the whole scope.
        least: So many stay at least.

    Returns:
        The number.

    Example:
        >>> kept_units(10, 0.3), kept_units(10, 1.0)
        (7, 1)
        >>> kept_units(64, 0.3, step=8), kept_units(20, 0.1, step=8), kept_units(64, 1.0, step=8, least=12)
        (48, 16, 16)
    """
    kept = max(1, least, count - round(sparsity * count))
    if step > 1 and kept < count:
        lowest = -(-max(1, least) // step) * step
        kept = max(lowest, math.floor(kept / step + 0.5) * step)
    return min(kept, count)


def removed_units(units: Units, sparsity: float) -> int:
    """How many units `select` removes at a sparsity, without choosing them.

    Args:
        units: The group.
        sparsity: Fraction of the units to remove.

    Returns:
        The number.

    Example:
        >>> from secateur.index_maps import Arange
        >>> axis = ParameterAxis("w")
        >>> removed_units(Units({axis: Arange((4,))}, Arange((4,), repeat=(2,)), {axis: "out"}, keep_per_scope=1), 0.25)
        1
    """
    if units.frozen or sparsity == 0:
        return 0
    if units.keep_per_scope is not None:
        return _following(units, sparsity) * (units.n_units // units.scope.n_units - units.keep_per_scope)
    if units.scope.n_units == 1:
        return units.n_units - kept_units(units.n_units, sparsity, units.step, units.least)
    sizes = units.scope.counts().tolist()
    return sum(size - kept_units(size, sparsity, units.step, units.least) for size in sizes)


def _following(units: Units, sparsity: float) -> int:
    """In how many scopes a fixed pattern is followed."""
    return round(units.scope.n_units * sparsity / units.full_sparsity) if units.full_sparsity else 0


def _check(units: Units, scores: Tensor, sparsity: float) -> None:
    if not 0 <= sparsity <= 1:
        raise BudgetError(f"sparsity is the fraction removed, between 0 and 1; given: {sparsity}")
    if scores.shape != (units.n_units,):
        raise PlanError(f"{units.n_units} units need as many scores; given: {tuple(scores.shape)}")
    if count(scores, torch.isnan):
        raise PlanError("scores hold NaN: the weights or the statistics are not finite")
    full = units.full_sparsity
    if full is not None and not units.frozen and round(sparsity * units.n_units) > round(full * units.n_units):
        raise BudgetError(
            f"the pattern keeps {units.keep_per_scope} of every {units.n_units // units.scope.n_units} units, "
            f"so at most {full:.4g} of them can go; {sparsity:.4g} was asked. Leave the budget out, or choose a "
            "sparser pattern"
        )


def _keep_pattern(units: Units, scores: Tensor, sparsity: float) -> Tensor:
    """Keep a fixed number in the scopes where that loses the least score, and everything in the others."""
    rows = scores.reshape(units.scope.n_units, -1)
    keep = keep_best_per_row(rows, units.keep_per_scope or 1)
    following = _following(units, sparsity)
    if following < len(rows):
        lost = rows.masked_fill(keep, 0).sum(1)
        keep[keep_best(lost, len(rows) - following)] = True
    return keep.flatten()
