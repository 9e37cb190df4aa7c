"""Limits on what a smaller model takes, met by sizing its workload again and again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.allocation import Scored
from secateur.errors import BudgetError
from secateur.plan import Part, Plan
from secateur.units import Units, select
from secateur.workload import CostModel, Workload, resize

Share = Callable[[int], dict[str, float]]
"""From a number of units that go to the sparsity of each group."""

EPS = 1e-9  # a fraction of a count need not come out whole in floating point


@dataclass(frozen=True)
class Limit:
    """What may not be exceeded.

    Args:
        model: Tells what a workload takes.
        most: By name of the measure, such as `macs`: how much may stay.
        relative: Whether these are fractions of what the whole model takes.
    """

    model: CostModel
    most: Mapping[str, float]
    relative: bool

    def of(self, workload: Workload) -> dict[str, float]:
        """What a workload takes.

        Args:
            workload: The shapes of what runs.

        Returns:
            The measures that are limited.

        Raises:
            BudgetError: The cost model does not tell one of them.
        """
        found = self.model(workload).as_dict()
        if missing := [name for name in self.most if name not in found]:
            raise BudgetError(f"the cost model tells {list(found)}; the budget limits {missing}")
        return {name: found[name] for name in self.most}

    def allowed(self, whole: Mapping[str, float], fraction: float) -> dict[str, float]:
        """How much may stay on the way to the budget.

        Args:
            whole: What the whole model takes.
            fraction: Of the way.

        Returns:
            `whole - fraction (whole - most)`, where the whole takes more than that.
        """
        most = {name: value * (whole[name] if self.relative else 1) for name, value in self.most.items()}
        return {name: whole[name] - fraction * max(0.0, whole[name] - value) for name, value in most.items()}


def fewest(
    limit: Limit,
    fraction: float,
    workload: Workload,
    groups: Mapping[str, Units],
    scored: Mapping[str, Scored],
    counts: range,
    share: Share,
) -> dict[str, float]:
    """The sparsities at which as few units go as the limit asks for, found by bisection.

    The more units go, the less the model takes; where a measured cost does not fall with every unit, a number is found
    that meets the limit while one less does not.

    Args:
        limit: What may not be exceeded.
        fraction: Of the way to the limit.
        workload: Of the whole model.
        groups: All groups.
        scored: The free ones.
        counts: How many units may go.
        share: How they are shared out; it may refuse more than it can place.

    Returns:
        Sparsity by group.

    Raises:
        BudgetError: The limit cannot be met.
    """
    whole = limit.of(workload)
    allowed = limit.allowed(whole, fraction)
    scores = {name: _scores(group) for name, group in scored.items()}

    def takes(units: int) -> dict[str, float]:
        shares = share(units)
        parts = (Part(name, groups[name], select(groups[name], scores[name], shares[name])) for name in scored)
        return limit.of(resize(workload, Plan(tuple(parts))))

    def enough(units: int) -> bool:
        return all(value <= allowed[name] * (1 + EPS) for name, value in takes(units).items())

    highest = _highest(counts, share)
    if not enough(highest):
        raise BudgetError(_unreachable(limit, fraction, whole, takes(highest)))
    return share(_first(range(counts.start, highest), enough))


def _first(numbers: range, holds: Callable[[int], bool]) -> int:
    """The first number for which something holds that holds for all after it; the end of the range if for none."""
    low, high = numbers.start, max(numbers.start, numbers.stop)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high


def _highest(counts: range, share: Share) -> int:
    """The most units that an allocation can place."""

    def refused(units: int) -> bool:
        try:
            share(units)
        except BudgetError:
            return True
        return False

    return max(counts.start, _first(range(counts.start, counts.stop), refused) - 1)


def _scores(group: Scored) -> Tensor:
    """Scores to choose by; a method that chooses by itself has none, and any choice stands for it."""
    try:
        return group.values()
    except BudgetError:
        return torch.arange(group.n_units, 0, -1, dtype=torch.float32)


def _unreachable(limit: Limit, fraction: float, whole: Mapping[str, float], least: Mapping[str, float]) -> str:
    asked = ", ".join(f"{name}={value:.6g}" for name, value in limit.most.items())
    found = ", ".join(f"{least[name]:.6g} of {whole[name]:.6g} {name}" for name in limit.most)
    scale = {name: (least[name] - (1 - fraction) * whole[name]) / max(fraction, EPS) for name in limit.most}
    closest = {name: _up(value / (whole[name] or 1)) if limit.relative else _up(value) for name, value in scale.items()}
    told = ", ".join(f"{name}={value:.7g}" for name, value in closest.items())
    return (
        f"a budget of {asked} cannot be met: frozen groups, minima, maxima and one unit that stays in every scope "
        f"leave at least {found}; the closest is {told}"
    )


def _up(value: float) -> float:
    """Rounded up to six digits, so that it can be met."""
    digits = 6 - math.ceil(math.log10(value)) if value > 0 else 0
    scale = float(10**digits)
    return math.ceil(value * scale - EPS) / scale
