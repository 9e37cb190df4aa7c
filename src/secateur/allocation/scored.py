"""What an allocation sees of a group, and the arithmetic that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from secateur.errors import BudgetError

Allocation = Callable[[Mapping[str, "Scored"], float], dict[str, float]]
"""From the groups and a sparsity of all their units to a sparsity for each group, within its `least` and `most`."""

STEPS = 100  # halvings: below the spacing of doubles


@dataclass(frozen=True)
class Scored:
    """A group as an allocation sees it.

    Args:
        scores: `(n_units,)`, or a function that computes them when asked.
        n_units: How many units compete.
        weights_per_unit: Weights in each unit, `(n_units,)`.
        shape: Shape of the weight that gives the group its name.
        least: Lowest sparsity allowed.
        most: Highest sparsity allowed; below 1, since one unit of every scope stays.

    Example:
        >>> import torch
        >>> Scored(torch.tensor([3.0, 1.0]), 2, torch.tensor([9, 9]), (2, 1, 3, 3), most=0.5).values()
        tensor([3., 1.])
    """

    scores: Tensor | Callable[[], Tensor]
    n_units: int
    weights_per_unit: Tensor
    shape: tuple[int, ...]
    least: float = 0.0
    most: float = 1.0

    def values(self) -> Tensor:
        """The scores.

        Returns:
            `(n_units,)`.
        """
        return self.scores() if callable(self.scores) else self.scores

    def clamp(self, sparsity: float) -> float:
        """The nearest sparsity that the group allows.

        Args:
            sparsity: Any number.

        Returns:
            Between `least` and `most`.
        """
        return min(max(sparsity, self.least), self.most)


def removed(groups: Mapping[str, Scored], sparsities: Mapping[str, float]) -> float:
    """Units removed over all groups.

    Args:
        groups: The groups.
        sparsities: Sparsity of each.

    Returns:
        A number of units, not rounded.
    """
    return sum(group.n_units * sparsities[name] for name, group in groups.items())


def check_reachable(groups: Mapping[str, Scored], sparsity: float) -> None:
    """Refuse what the groups' bounds cannot meet, naming what they can.

    Args:
        groups: The groups.
        sparsity: Asked of all units together.

    Raises:
        BudgetError: Less than the minima or more than the maxima allow.
    """
    total = sum(group.n_units for group in groups.values())
    low = removed(groups, {name: group.least for name, group in groups.items()})
    high = removed(groups, {name: group.most for name, group in groups.items()})
    if not low - 0.5 <= sparsity * total <= high + 0.5:
        raise BudgetError(
            f"sparsity {sparsity:.6g} of {total} units cannot be met: minima and maxima per group, fixed patterns and "
            f"one unit that stays in every scope leave {low / total:.6g} to {high / total:.6g}"
        )


def along(
    groups: Mapping[str, Scored], sparsity: float, curve: Callable[[float], Mapping[str, float]]
) -> dict[str, float]:
    """The point of a curve of sparsities at which the total is met, each group held within its bounds.

    Args:
        groups: The groups.
        sparsity: Wanted of all units together.
        curve: From 0 to 1; every group's sparsity must not fall along it, and reach 0 at 0 and its highest at 1.

    Returns:
        Sparsity of each group.

    Raises:
        BudgetError: The end of the curve is less than what is wanted.

    Example:
        Two groups of 4 and 6 units, the first of which may not lose more than half:

        >>> import torch
        >>> group = lambda n, most: Scored(torch.ones(n), n, torch.ones(n), (n,), most=most)
        >>> shared = along({"a": group(4, 0.5), "b": group(6, 1.0)}, 0.8, lambda t: {"a": t, "b": t})
        >>> {name: round(value, 6) for name, value in shared.items()}
        {'a': 0.5, 'b': 1.0}
    """
    check_reachable(groups, sparsity)
    wanted = sparsity * sum(group.n_units for group in groups.values())

    def held(t: float) -> dict[str, float]:
        point = curve(t)
        return {name: group.clamp(point[name]) for name, group in groups.items()}

    if (most := removed(groups, held(1.0))) < wanted - 0.5:
        raise BudgetError(
            f"sparsity {sparsity:.6g} cannot be met: this allocation removes at most {most:.0f} of the "
            f"{sum(group.n_units for group in groups.values())} units. Name more groups in it, or ask for less"
        )
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if removed(groups, held(middle)) < wanted else (low, middle)
    return held(high)
