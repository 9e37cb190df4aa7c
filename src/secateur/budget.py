"""Budget: how much is to go, in one of several measures, and what that means for every group."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from secateur.allocation import Allocation, Scored
from secateur.allocation.scored import check_reachable
from secateur.errors import BudgetError
from secateur.limits import Limit, fewest
from secateur.names import matching, spelled_out
from secateur.plan import Part
from secateur.plan.part import overlapping
from secateur.recipe import name_of
from secateur.units import Units, removed_units, select
from secateur.workload import Cost, CostModel, Workload

Pairs = Mapping[str, float]


@dataclass(frozen=True)
class Budget:
    """How much is to go. Exactly one measure is given.

    Args:
        sparsity: Fraction of the units to remove, of all that are free to go, 0 <= s < 1.
        weights_removed: Fraction of the weights to remove, of all in groups that are free to go.
        nonzeros: The `N` of `||W||_0 < N`: strictly fewer weights than this stay, frozen ones included.
        parameters: Fraction of the model's parameters that may stay. This and the next two need channels coupled
            through the model, as by `granularity.channel(example)`: what stays is predicted from the shapes, and
            `shrink` keeps to it. As few units go as meet the budget.
        macs: Fraction of the multiply-accumulates that may stay.
        cost: A cost model and the cost that may not be exceeded, `(cost.macs(), Cost(macs=1e6))`.
        per_group: The sparsity of each group, by name or pattern; the others keep everything.

    Raises:
        BudgetError: None or several are given, or one is out of range.

    Example:
        >>> Budget(sparsity=0.9).as_dict()
        {'sparsity': 0.9}
    """

    sparsity: float | None = None
    weights_removed: float | None = None
    nonzeros: int | None = None
    parameters: float | None = None
    macs: float | None = None
    cost: tuple[CostModel, Cost] | None = None
    per_group: Pairs | None = None

    def __post_init__(self) -> None:
        """Check that one measure is given, and its range.

        Raises:
            BudgetError: None or several are given, or one is out of range.
        """
        given = self.as_dict()
        if len(given) != 1:
            raise BudgetError(
                f"a budget is given in exactly one measure, e.g. Budget(sparsity=0.9); given: {given or 'none'}"
            )
        for name, value in given.items():
            if name not in ("cost", "per_group") and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise BudgetError(f"{name} is a number; given: {value!r}")
        for name in ("sparsity", "weights_removed"):
            if name in given and not 0 <= given[name] < 1:
                raise BudgetError(f"{name} is the fraction removed, 0 <= s < 1 (0.9 for 90 %); given: {given[name]}")
        for name in ("parameters", "macs"):
            if name in given and not 0 < given[name] <= 1:
                raise BudgetError(f"{name} is the fraction that may stay, 0 < f <= 1; given: {given[name]}")
        if self.nonzeros is not None and not self.nonzeros >= 1:
            raise BudgetError(f"nonzeros is the N of ||W||_0 < N, at least 1; given: {self.nonzeros}")
        if self.cost is not None:
            _check_cost(self.cost)
        for name, value in (self.per_group or {}).items():
            if not 0 <= value < 1:
                raise BudgetError(f"sparsity of {name!r} is the fraction removed, 0 <= s < 1; given: {value}")

    def as_dict(self) -> dict[str, Any]:
        """The measure that is given.

        Returns:
            Its name and value; of a cost the name of the model and the limits.
        """
        given = {item.name: value for item in fields(self) if (value := getattr(self, item.name)) is not None}
        match given.get("cost"):
            case (model, Cost() as most):
                given["cost"] = {"model": name_of(model), **most.as_dict()}
        return given

    @property
    def predicted(self) -> bool:
        """Whether it takes the shapes of what runs to tell if it is met."""
        return self.limit is not None

    @property
    def limit(self) -> Limit | None:
        """What may not be exceeded, where the shapes of what runs tell."""
        if self.macs is not None:
            return Limit(_counts, {"macs": self.macs}, relative=True)
        if self.parameters is not None:
            return Limit(_counts, {"parameters": self.parameters}, relative=True)
        return Limit(self.cost[0], self.cost[1].as_dict(), relative=False) if self.cost is not None else None


def _counts(workload: Workload) -> Cost:
    return Cost(macs=workload.macs, parameters=workload.parameter_count)


def _check_cost(given: object) -> None:
    match given:
        case (model, Cost() as most) if callable(model) and most.as_dict():
            return
    raise BudgetError(
        "cost is a cost model and the cost that may not be exceeded, Budget(cost=(cost.macs(), Cost(macs=1e6))); "
        f"given: {given!r}"
    )


def counts_for(
    budget: Budget | None,
    allocation: Allocation,
    groups: Mapping[str, Units],
    scored: Mapping[str, Scored],
    fraction: float,
    workload: Workload | None = None,
    gone: Pairs | None = None,
) -> dict[str, float]:
    """The sparsity of every free group: the budget resolved, shared out, rounded to whole units, the total exact.

    Args:
        budget: The budget; None where the granularity fixes it.
        allocation: How it is shared out.
        groups: All groups, frozen ones included.
        scored: The free ones.
        fraction: Of the budget.
        workload: Of the model as it is, for budgets that are `predicted`.
        gone: Sparsity that groups have already and do not go below, whatever the budget says.

    Returns:
        Sparsity by group.

    Raises:
        BudgetError: The budget cannot be met.
    """
    if budget is not None and budget.sparsity is not None:
        check_reachable(scored, budget.sparsity * fraction)  # by the bounds alone: what is gone may exceed the budget
    scored = {name: _already(group, (gone or {}).get(name, 0.0)) for name, group in scored.items()}
    if budget is None:
        return _fixed_by_patterns(groups, scored, fraction)
    if budget.per_group is not None:
        return _as_given(budget.per_group, groups, scored, fraction)
    if budget.sparsity is not None:
        units = sum(group.n_units for group in scored.values())
        return _shared(allocation, groups, scored, max(budget.sparsity * fraction, _least(scored) / units))
    if workload is not None and (limit := budget.limit) is not None:
        most = sum(round(group.most * group.n_units) for group in scored.values())
        range_ = range(_least(scored), most + 1)
        return fewest(
            limit, fraction, workload, groups, scored, range_, partial(_units_shared, allocation, groups, scored)
        )
    return _by_weights(allocation, groups, scored, _weights_to_remove(budget, groups, fraction))


def _already(group: Scored, gone: float) -> Scored:
    """A group that does not go below what it has lost, though its maximum be lower."""
    return replace(group, least=max(group.least, gone), most=max(group.most, gone))


def _fixed_by_patterns(groups: Mapping[str, Units], scored: Mapping[str, Scored], fraction: float) -> dict[str, float]:
    full = {name: groups[name].full_sparsity for name in scored}
    free = [name for name, value in full.items() if value is None]
    if free:
        raise BudgetError(
            f"how much is to go? {free[:5]} have no fixed pattern: pass a Budget, e.g. Budget(sparsity=0.9)"
        )
    return {name: scored[name].clamp((value or 0.0) * fraction) for name, value in full.items()}


def _as_given(
    sparsities: Pairs, groups: Mapping[str, Units], scored: Mapping[str, Scored], fraction: float
) -> dict[str, float]:
    for entry in sparsities:
        frozen = [name for name in matching(entry, groups) if name not in scored]
        if frozen and not matching(entry, scored):
            raise BudgetError(f"{entry!r} keeps everything ({groups[frozen[0]].frozen}): leave it out of the budget")
    found = {
        name: value * fraction for name, value in (dict.fromkeys(scored, 0.0) | spelled_out(sparsities, scored)).items()
    }
    for name, value in found.items():
        if round(value * scored[name].n_units) > round(scored[name].most * scored[name].n_units):
            raise BudgetError(f"{name!r} can lose at most {scored[name].most:.6g} of its units; {value:.6g} was asked")
    return {name: max(value, scored[name].least) for name, value in found.items()}


def _shared(
    allocation: Allocation, groups: Mapping[str, Units], scored: Mapping[str, Scored], sparsity: float
) -> dict[str, float]:
    """Share a sparsity out, then round to whole units: each group within one unit of its share, the total exact."""
    shares = allocation(scored, sparsity)
    whole = [name for name in scored if groups[name].scope.n_units == 1]
    exact = {name: shares[name] * scored[name].n_units for name in whole}
    counts = {name: math.floor(value + 1e-9) for name, value in exact.items()}
    left = round(sum(exact.values())) - sum(counts.values())
    for name in sorted(whole, key=lambda name: counts[name] - exact[name]):
        if left > 0 and counts[name] < round(scored[name].most * scored[name].n_units):
            counts[name] += 1
            left -= 1
    return {**shares, **{name: count / scored[name].n_units for name, count in counts.items()}}


def _units_shared(
    allocation: Allocation, groups: Mapping[str, Units], scored: Mapping[str, Scored], units: int
) -> dict[str, float]:
    return _shared(allocation, groups, scored, units / sum(group.n_units for group in scored.values()))


def _weights_to_remove(budget: Budget, groups: Mapping[str, Units], fraction: float) -> int:
    free = {name: units for name, units in groups.items() if not units.frozen}
    if budget.nonzeros is not None:
        return math.ceil(max(0, _weights_in(groups) - budget.nonzeros + 1) * fraction)
    return math.ceil(_weights_in(free) * (budget.weights_removed or 0.0) * fraction - 1e-6)


def _weights_in(groups: Mapping[str, Units]) -> int:
    """Weights of all parameters of some groups, each parameter counted once."""
    sizes = {axis.parameter: math.prod(index.shape) for units in groups.values() for axis, index in units.index.items()}
    return sum(sizes.values())


def _by_weights(
    allocation: Allocation, groups: Mapping[str, Units], scored: Mapping[str, Scored], target: int
) -> dict[str, float]:
    """The lowest sparsity of units that takes `target` weights along; by bisection where units differ in size."""
    total = sum(group.n_units for group in scored.values())
    most = sum(round(group.most * group.n_units) for group in scored.values())
    _check_weights(groups, scored, target)
    if (size := _one_size(groups, scored)) is not None:
        return _shared(allocation, groups, scored, max(math.ceil(target / size), _least(scored)) / total)

    def enough(units: int) -> bool:
        try:
            return _weights(groups, scored, _shared(allocation, groups, scored, units / total)) >= target
        except BudgetError:  # more than this allocation can remove
            return True

    low, high = _least(scored), most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return _shared(allocation, groups, scored, high / total)


def _least(scored: Mapping[str, Scored]) -> int:
    """Units that go in any case."""
    return sum(math.ceil(group.least * group.n_units - 1e-9) for group in scored.values())


def _one_size(groups: Mapping[str, Units], scored: Mapping[str, Scored]) -> int | None:
    """Weights per unit if all units of all groups are of one size, do not overlap, and each group is one scope."""
    if any(overlapping(groups[name]) or groups[name].scope.n_units > 1 for name in scored):
        return None
    sizes = {_size(group) for group in scored.values()}
    return sizes.pop() if len(sizes) == 1 else None


def _check_weights(groups: Mapping[str, Units], scored: Mapping[str, Scored], target: int) -> None:
    reach = _weights(groups, scored, {name: group.most for name, group in scored.items()})
    if target > reach:
        free = _weights_in({name: groups[name] for name in scored})
        raise BudgetError(
            f"{target} weights cannot go: frozen groups, maxima and one unit that stays in every scope let at most "
            f"{reach} go, i.e. weights_removed={reach / free:.6g} or nonzeros={_weights_in(groups) - reach + 1}"
        )


def _weights(groups: Mapping[str, Units], scored: Mapping[str, Scored], sparsities: Pairs) -> int:
    return sum(_weights_gone(groups[name], group, sparsities[name]) for name, group in scored.items())


def _weights_gone(units: Units, group: Scored, sparsity: float) -> int:
    """Weights that a sparsity of units takes along; of units that differ or overlap only the choice itself tells."""
    size = _size(group)
    if size is not None and not overlapping(units):
        return removed_units(units, sparsity) * size
    return Part("", units, select(units, group.values(), sparsity)).weights_removed


def _size(group: Scored) -> int | None:
    """Weights per unit, if it is one number; units that a rule numbers alike come as one number repeated."""
    counts = group.weights_per_unit
    if counts.stride() != (0,) and bool((counts != counts[0]).any()):
        return None
    return int(counts[0])
