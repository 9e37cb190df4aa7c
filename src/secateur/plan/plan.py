"""The plan itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from secateur.errors import PlanError
from secateur.plan import file, lift
from secateur.plan.part import Part, overlapping
from secateur.plan.slices import stays
from secateur.text import as_text, percent, table

COLUMNS = ("group", "shape", "units kept>", "sparsity>", "weights removed>", "scope", "remark")


@dataclass(frozen=True, eq=False)
class Plan:
    """Which units stay, the new values of weights if a method mends them, and how it was made.

    A plan touches nothing until it is applied, e.g. by `secateur.mask`. It prints as a table.

    Args:
        parts: One for each group, also for those that keep everything, with the reason.
        updates: New values of parameters in their original shapes.
        made_by: Provenance, plain JSON: criterion, granularity, allocation, budget.
        example: Inputs that the model takes, if the granularity was given some; not saved.

    Example:
        >>> from secateur.granularity import filter
        >>> part = Part("fc", filter()(torch.nn.Linear(3, 2))["weight"], torch.tensor([True, False]))
        >>> plan = Plan((part,))
        >>> plan.sparsity, plan.weights_removed, plan.masks()["weight"].tolist()
        (0.5, 3, [[True, True, True], [False, False, False]])
    """

    parts: tuple[Part, ...]
    updates: Mapping[str, Tensor] = field(default_factory=dict)
    made_by: Mapping[str, Any] = field(default_factory=dict)
    example: Any = field(default=None, repr=False)

    def __getitem__(self, group: str) -> Part:
        """The part of a group.

        Args:
            group: Its name.

        Returns:
            The first part of that name.

        Raises:
            PlanError: The plan has no such group.
        """
        for part in self.parts:
            if part.name == group:
                return part
        raise PlanError(f"the plan has no group {group!r}; it has {[part.name for part in self.parts]}")

    @property
    def sparsity(self) -> float:
        """Fraction removed of the units that were free to go."""
        free = [part for part in self.parts if not part.units.frozen]
        total = sum(part.units.n_units for part in free)
        return 1 - sum(part.kept for part in free) / total if total else 0.0

    @property
    def weights(self) -> int:
        """Weights of all parameters the plan speaks of."""
        return sum(_sizes(self.parts).values())

    @property
    def weights_removed(self) -> int:
        """Weights that become zero, each counted once."""
        names = [axis.parameter for part in self.parts for axis in part.units.index]
        if len(names) == len(set(names)):
            return sum(part.weights_removed for part in self.parts)
        return sum(int(torch.count_nonzero(~mask)) for mask in self.masks().values())

    @property
    def nonzeros(self) -> int:
        """Weights that stay: an upper bound of `||W||_0`."""
        return self.weights - self.weights_removed

    def masks(self) -> dict[str, Tensor]:
        """The plan as masks over parameters.

        Returns:
            For each parameter that loses something a bool tensor of its shape, True where a weight stays. Some are
            views with repeated memory: read them, do not write into them.
        """
        masks: dict[str, Tensor] = {}
        for part in self.parts:
            if bool(part.keep.all()):
                continue
            for axis, mask in part.units.expand(part.keep).items():
                before = masks.get(axis.parameter)
                masks[axis.parameter] = mask if before is None else before & mask
        return masks

    def __and__(self, other: Plan) -> Plan:
        """Both removals at once, planned on the same shapes: a weight stays if both keep it.

        Args:
            other: The other plan; its new values of weights win.

        Returns:
            A plan.

        Raises:
            PlanError: Shapes differ, a fixed pattern meets another removal on one parameter, or a scope is emptied.
        """
        _check_united(self, other)
        theirs = list(other.parts)
        merged = []
        for part in self.parts:
            twin = next((two for two in theirs if _mergeable(part, two)), None)
            if twin is not None:
                part = _both(part, twin)  # noqa: PLW2901
                theirs.remove(twin)
            merged.append(part)
        made_by = {"united": [dict(self.made_by), dict(other.made_by)]}
        return Plan((*merged, *theirs), {**self.updates, **other.updates}, made_by, self.example)

    def then(self, other: Plan) -> Plan:
        """This plan, followed by one that was made on the model without what this one removes.

        The second plan's units are set back into the original shapes, so that one plan describes both: channels
        first, then N:M or more channels of what is left. `shrink(shrink(m, p), q) == shrink(m, p.then(q))`.

        Args:
            other: Planned on the smaller model: what `shrink` returns where this plan takes slices out; else the model
                without channels of which no weight is left.

        Returns:
            A plan over the original shapes.

        Raises:
            PlanError: The second plan's shapes are not those this plan leaves.
        """
        taken = stays(self.parts)
        left = lift.without(_all_shapes(self), taken) if taken else lift.slices_left(_shapes(self), self.masks())
        lifted = tuple(replace(part, units=lift.units(part.units, left)) for part in other.parts)
        mended = {name: lift.value(name, value, left, self.updates) for name, value in other.updates.items()}
        updates = {**self.updates, **mended}
        made_by = {"first": dict(self.made_by), "then": dict(other.made_by)}
        return Plan((*self.parts, *lifted), updates, made_by, self.example)

    def save(self, path: str | Path) -> None:
        """Write the plan to one safetensors file, atomically.

        Args:
            path: Where.
        """
        file.write(Path(path), self.parts, self.updates, self.made_by)

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan; nothing in the file is executed, and every number is checked.

        Args:
            path: Where.

        Returns:
            The plan.
        """
        return cls(*file.read(Path(path)))

    def table(self) -> Table:
        """The plan as a table, with a row of totals.

        Returns:
            For a rich console.
        """
        rows = [part.row() for part in self.parts]
        gone = self.weights_removed
        total = ["total", "", "", percent(self.sparsity), f"{gone} ({percent(gone / max(1, self.weights))})", "", ""]
        return table(COLUMNS, [*rows, total])

    def __str__(self) -> str:
        """The table as plain text.

        Returns:
            Lines.
        """
        return as_text(self.table(), width=160)


def _sizes(parts: tuple[Part, ...]) -> dict[str, int]:
    return {axis.parameter: math.prod(index.shape) for part in parts for axis, index in part.units.index.items()}


def _shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    return {axis.parameter: index.shape for part in plan.parts for axis, index in part.units.index.items()}


def _all_shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Also of buffers."""
    beside = {axis.parameter: index.shape for part in plan.parts for axis, index in part.units.beside.items()}
    return {**beside, **_shapes(plan)}


def _check_united(first: Plan, second: Plan) -> None:
    mine, theirs = _shapes(first), _shapes(second)
    for name in mine.keys() & theirs.keys():
        if mine[name] != theirs[name]:
            raise PlanError(
                f"'&' unites plans made on the same shapes; {name!r} has {mine[name]} and {theirs[name]}. "
                "If the second was made on the smaller model, use first.then(second)"
            )
    for one in first.parts:
        for two in second.parts:
            if _pattern_meets_other(one, two):
                raise PlanError(
                    f"{two.name!r}: a fixed pattern and another removal on the same weight; after shrinking, the "
                    "pattern would no longer hold. Make the pattern on the smaller model and use first.then(second)"
                )


def _both(one: Part, two: Part) -> Part:
    """One part that removes what either removes."""
    keep, scope = one.keep & two.keep, one.units.scope
    left = (
        torch.bincount(scope.numbers().to(keep.device)[keep], minlength=scope.n_units)
        if scope.n_units > 1
        else keep.sum()
    )
    least = one.units.keep_per_scope or 1
    if bool((left < least).any()):
        raise PlanError(
            f"{one.name!r}: together the two plans leave fewer than {least} of the units of a scope; "
            "make one plan with the larger budget instead of uniting two"
        )
    return replace(one, keep=keep, reason="" if bool((~keep).any()) else one.reason)


def _mergeable(one: Part, two: Part) -> bool:
    """Whether keeping what both keep is the same as keeping the weights that both keep: not where units overlap."""
    alike = one.name == two.name and file.same(one.units, two.units)
    return alike and (not overlapping(one.units) or torch.equal(one.keep, two.keep))


def _pattern_meets_other(one: Part, two: Part) -> bool:
    fixed = one.units.keep_per_scope is not None or two.units.keep_per_scope is not None
    shared = {axis.parameter for axis in one.units.index} & {axis.parameter for axis in two.units.index}
    idle = bool(one.keep.all()) or bool(two.keep.all())
    return fixed and bool(shared) and not idle and not file.same(one.units, two.units)
