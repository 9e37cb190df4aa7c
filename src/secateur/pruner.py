"""Pruner: a method, a granularity and an allocation, which together make a plan from a model and a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from secateur.allocation import Allocation, Scored
from secateur.budget import Budget, counts_for
from secateur.criteria import Criterion, Group
from secateur.dependency import record
from secateur.errors import BudgetError, DataError, ModelError, PlanError, UnknownNameError
from secateur.granularity import Granularity
from secateur.granularity.channel import example_of, solution_of
from secateur.names import matching, spelled_out
from secateur.plan import Part, Plan
from secateur.plan.file import same
from secateur.ranking import count
from secateur.recipe import name_of
from secateur.statistics import Statistics, calibrate
from secateur.units import Units, removed_units, select
from secateur.workload import Workload, from_solution

Selection = Callable[[nn.Module, Mapping[str, Units], Mapping[str, float], Iterable[Any]], Plan]
"""A method that chooses and mends together: from a model, its groups, their sparsities and batches to a plan."""

Refit = Callable[[nn.Module, Plan, Iterable[Any] | None], Mapping[str, Tensor]]
"""From a model, a plan and batches to new values of the weights that stay."""

Pick = str | type[nn.Module]
"""Groups picked out: by name, by pattern, or by the type of the module they belong to."""


@dataclass(frozen=True)
class Pruner:
    """How to prune: nothing here is tied to a model, so one pruner serves many.

    Args:
        method: A criterion, which scores units, or a `Selection`, which chooses and mends together.
        granularity: What leaves together.
        allocation: How the budget is shared out.
        refit: Mends the weights that stay, after the choice.
        exclude: Groups that keep everything and enter no ranking, by name, pattern or module type.
        minimum: Lowest sparsity of groups, by name or pattern.
        maximum: Highest sparsity of groups, by name or pattern.

    Example:
        The textbook neuron y = ReLU(10 x0 - 8 x1 + 0.1 x2) loses its 0.1:

        >>> from secateur import allocation, criteria, granularity
        >>> neuron = nn.Linear(3, 1, bias=False)
        >>> _ = neuron.weight.data.copy_(torch.tensor([[10.0, -8.0, 0.1]]))
        >>> pruner = Pruner(criteria.magnitude(), granularity.weight(), allocation.uniform())
        >>> pruner.plan(neuron, Budget(nonzeros=3)).masks()["weight"].tolist()
        [[True, True, False]]
    """

    method: Criterion | Selection
    granularity: Granularity
    allocation: Allocation
    refit: Refit | None = None
    exclude: tuple[Pick, ...] = ()
    minimum: Mapping[str, float] = field(default_factory=dict)
    maximum: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the bounds; one name to exclude is taken for a tuple of one, not for its letters.

        Raises:
            BudgetError: A bound is not a fraction.
        """
        exclude: Any = self.exclude
        if isinstance(exclude, str | type):
            object.__setattr__(self, "exclude", (exclude,))
        for name, value in (*self.minimum.items(), *self.maximum.items()):
            if not 0 <= value <= 1:
                raise BudgetError(f"the bound of {name!r} is a sparsity between 0 and 1; given: {value}")

    def groups(self, model: nn.Module) -> dict[str, Units]:
        """The groups of a model, excluded ones frozen.

        Args:
            model: The model.

        Returns:
            Units by name of the group; hand them to `plan` again to save work.

        Raises:
            ModelError: Nothing is left to prune.
        """
        groups = self.granularity(model)
        for pick in self.exclude:
            for name in _picked(pick, groups, model):
                if not groups[name].frozen:
                    groups[name] = replace(
                        groups[name], frozen=f"excluded by {pick if isinstance(pick, str) else pick.__name__}"
                    )
        if all(units.frozen for units in groups.values()):
            raise ModelError(f"every group is excluded or frozen: {list(groups)}")
        return groups

    def workload(self, model: nn.Module) -> Workload:
        """The shapes of what runs, for budgets that depend on them.

        Args:
            model: The model.

        Returns:
            What `plan` takes to save work.

        Raises:
            BudgetError: The granularity knows no example, and so no shapes.
        """
        solution = solution_of(self.granularity, model)
        if solution is None:
            raise BudgetError(
                f"a budget in parameters, macs or cost needs channels coupled across the layers of "
                f"{type(model).__name__}, which single layers cannot tell: use granularity.channel(example), or a "
                "budget in sparsity, weights_removed, nonzeros or per_group"
            )
        if not solution.record.training:
            return from_solution(solution)
        return from_solution(solution, {call.module for call in record(model, example_of(self.granularity)).calls})

    def plan(
        self,
        model: nn.Module,
        budget: Budget | None = None,
        *,
        data: Iterable[Any] | None = None,
        loss: Callable[[Any, Any], Tensor] | None = None,
        statistics: Statistics | None = None,
        units: Mapping[str, Units] | None = None,
        fraction: float = 1.0,
        start: Plan | None = None,
        workload: Workload | None = None,
    ) -> Plan:
        """Decide which units stay. The model is not touched.

        Args:
            model: The model.
            budget: How much; may be left out where the granularity fixes it (N:M, kernel patterns).
            data: Batches of inputs and targets, for criteria that need statistics and for methods that mend.
            loss: From outputs and targets to a scalar, for statistics that need it.
            statistics: What `calibrate` returned, instead of `data`.
            units: What `groups` returned, to save work.
            fraction: Of the budget, between 0 and 1; schedules use it.
            start: A plan of the same granularity whose removed units stay removed, also where the budget alone would
                bring some back. Methods that choose and mend do not look at it: what is zero they remove first.
            workload: What `workload` returned, to save work.

        Returns:
            The plan.
        """
        groups = dict(units) if units is not None else self.groups(model)
        free = {name: group for name, group in groups.items() if not group.frozen}
        if workload is None and budget is not None and budget.predicted:
            workload = self.workload(model)
        if isinstance(self.method, Criterion):
            scores = self._scores(
                self.method, model, free, statistics or self._calibrate(self.method, model, data, loss, free)
            )
            gone = _gone(start, groups)
            scores = {
                name: value.masked_fill(gone[name].to(value.device), -torch.inf) if name in gone else value
                for name, value in scores.items()
            }
            sparsities = self._sparsities(groups, scores, budget, fraction, workload, gone)
            plan = Plan(tuple(_part(name, group, scores, sparsities) for name, group in groups.items()))
        else:
            sparsities = self._sparsities(groups, {}, budget, fraction, workload, {})
            plan = _with_frozen(self.method(model, free, sparsities, _given(data, self.method)), groups)
        if self.refit is not None:
            plan = replace(plan, updates={**plan.updates, **self.refit(model, plan, data)})
        made_by = {**plan.made_by, **self.provenance(budget, fraction)}
        return replace(plan, made_by=made_by, example=example_of(self.granularity))

    def provenance(self, budget: Budget | None, fraction: float = 1.0) -> dict[str, Any]:
        """Where a plan comes from.

        Args:
            budget: Its budget.
            fraction: Of the budget.

        Returns:
            Plain JSON.
        """
        return {
            "method": name_of(self.method),
            "granularity": name_of(self.granularity),
            "allocation": name_of(self.allocation),
            "refit": name_of(self.refit) if self.refit else None,
            "exclude": [pick if isinstance(pick, str) else pick.__name__ for pick in self.exclude],
            "budget": budget.as_dict() if budget else None,
            "fraction": fraction,
        }

    def _calibrate(
        self,
        method: Criterion,
        model: nn.Module,
        data: Iterable[Any] | None,
        loss: Callable[[Any, Any], Tensor] | None,
        free: Mapping[str, Units],
    ) -> Statistics:
        if not method.needs:
            return Statistics()
        return calibrate(model, _given(data, method), method.needs, loss=loss, units=free)

    def _scores(
        self, method: Criterion, model: nn.Module, free: Mapping[str, Units], statistics: Statistics
    ) -> dict[str, Tensor]:
        scores: dict[str, Tensor] = {}
        refused: dict[str, ModelError] = {}
        for name, units in free.items():
            try:
                scores[name] = _score(method, model, name, units, statistics)
            except ModelError as error:  # go on, so that all groups to exclude are named at once
                refused[name] = error
        if refused:
            first, *others = refused
            likewise = f"; likewise {', '.join(map(repr, others))}" if others else ""
            raise ModelError(f"{refused[first]}{likewise}") from refused[first]
        return scores

    def _sparsities(
        self,
        groups: Mapping[str, Units],
        scores: Mapping[str, Tensor],
        budget: Budget | None,
        fraction: float,
        workload: Workload | None,
        gone: Mapping[str, Tensor],
    ) -> dict[str, float]:
        if not 0 <= fraction <= 1:
            raise BudgetError(f"fraction of the budget is between 0 and 1; given: {fraction}")
        low, high = spelled_out(self.minimum, groups), spelled_out(self.maximum, groups)
        scored = {
            name: _scored(name, units, scores.get(name), low.get(name, 0.0) * fraction, high.get(name, 1.0))
            for name, units in groups.items()
            if not units.frozen
        }
        already = {name: int(torch.count_nonzero(units)) / len(units) for name, units in gone.items()}
        return counts_for(budget, self.allocation, groups, scored, fraction, workload, already)


def _picked(pick: Pick, groups: Mapping[str, Units], model: nn.Module) -> list[str]:
    if isinstance(pick, str):
        names = matching(pick, groups)
        if not names:
            raise UnknownNameError("group", pick, groups)
        return names
    held = {id(value) for module in model.modules() if isinstance(module, pick) for value in module.parameters(False)}
    return [
        name
        for name, units in groups.items()
        if any(id(model.get_parameter(axis.parameter)) in held for axis in units.index)
    ]


def _scored(name: str, units: Units, scores: Tensor | None, least: float, most: float) -> Scored:
    """A group with its bounds: the user's, the pattern's, and one unit that stays in every scope."""
    floor = removed_units(units, 1.0) / units.n_units if units.keep_per_scope is None else 1.0
    full = units.full_sparsity
    highest = min(most, floor) if full is None else min(most, full)
    if units.scope.n_units == 1:  # a sparsity means so many whole units, as in `select`
        least, highest = (round(value * units.n_units) / units.n_units for value in (least, highest))
    if least > highest + 1e-12:
        raise BudgetError(f"{name!r}: its lowest sparsity, {least:.4g}, is above its highest, {highest:.4g}")
    return Scored(
        _no_scores if scores is None else scores, units.n_units, units.weights_per_unit, units.shape, least, highest
    )


def _no_scores() -> Tensor:
    raise BudgetError("this allocation ranks scores, and the method has none: use uniform(), fixed() or erdos_renyi()")


def _score(method: Criterion, model: nn.Module, name: str, units: Units, statistics: Statistics) -> Tensor:
    parameters = {axis: _tensor(model, axis.parameter, units, name) for axis in units.index}
    scores: Any = method.score(Group(name, units, parameters, statistics))
    if not isinstance(scores, Tensor) or scores.shape != (units.n_units,):
        found = f"scores of shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        raise PlanError(f"{method.name} gave {name!r} {found}; it has {units.n_units} units, each wants a score")
    if not scores.is_floating_point():
        raise PlanError(f"{method.name} gave {name!r} scores of {scores.dtype}; floating point is expected")
    if bad := count(scores, lambda x: ~torch.isfinite(x)):
        weights = sum(count(value, lambda x: ~torch.isfinite(x)) for value in parameters.values())
        cause = f"{weights} of its weights are NaN or infinite" if weights else "its weights are finite"
        raise ModelError(f"{method.name} gave {bad} of {len(scores)} scores of {name!r} as NaN or infinite ({cause})")
    scored: Tensor = scores.detach()
    return scored


def _tensor(model: nn.Module, name: str, units: Units, group: str) -> Tensor:
    try:
        value = model.get_parameter(name).detach()
    except AttributeError as error:
        raise PlanError(f"group {group!r} speaks of {name!r}, which {type(model).__name__} does not have") from error
    shape = next(index.shape for axis, index in units.index.items() if axis.parameter == name)
    if value.is_meta:
        raise ModelError(f"{name!r} is on the meta device: load the weights before scoring them")
    if tuple(value.shape) != shape:
        raise PlanError(f"{name!r} has shape {tuple(value.shape)}, its units were made for {shape}")
    return value


def _gone(start: Plan | None, groups: Mapping[str, Units]) -> dict[str, Tensor]:
    """The units that an earlier plan removed, by group."""
    gone: dict[str, Tensor] = {}
    for part in start.parts if start else ():
        if bool(part.keep.all()):
            continue
        units = groups.get(part.name)
        if units is None or units.frozen or not (part.units is units or same(part.units, units)):
            frozen = f"stays as it is ({units.frozen})" if units and units.frozen else ""
            why = "is no group here" if units is None else frozen or "has other units here"
            raise PlanError(
                f"the plan to start from removes units of {part.name!r}, which {why}: start from a plan of the same "
                "granularity, with nothing more excluded"
            )
        gone[part.name] = ~part.keep | gone.get(part.name, ~part.keep)
    return gone


def _part(name: str, units: Units, scores: dict[str, Tensor], sparsities: Mapping[str, float]) -> Part:
    if units.frozen:
        return Part(name, units, torch.ones(units.n_units, dtype=torch.bool), units.frozen)
    keep = select(units, scores.pop(name), sparsities[name])  # each group's scores are let go as soon as they are used
    return Part(name, units, keep, _why_whole(units, sparsities[name]) if bool(keep.all()) else "")


def _with_frozen(plan: Plan, groups: Mapping[str, Units]) -> Plan:
    """A plan that also says what stays, in the order of the groups."""
    frozen = [_part(name, units, {}, {}) for name, units in groups.items() if units.frozen]
    order = {name: at for at, name in enumerate(groups)}
    return replace(plan, parts=tuple(sorted((*plan.parts, *frozen), key=lambda part: order.get(part.name, len(order)))))


def _why_whole(units: Units, sparsity: float) -> str:
    """Why a group that is free to lose units loses none."""
    if units.n_units == units.scope.n_units:
        return "one unit stays in every scope"
    return "nothing allocated" if sparsity == 0 else "less than one unit allocated"


def _given(data: Iterable[Any] | None, method: object) -> Iterable[Any]:
    if data is None:
        raise DataError(f"{name_of(method)} needs data: pass data=, batches of inputs and targets")
    return data
