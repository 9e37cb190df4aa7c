"""One ranking over all groups."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from secateur.allocation.scored import Allocation, Scored, check_reachable
from secateur.ranking import count, kth_smallest
from secateur.recipe import Recipe


def global_() -> Allocation:
    """One threshold for all units of all groups: `s_g = #{u in g: score(u) < t} / n_g`.

    `t` is the score below which the wanted number of units lies. A group that would fall below its minimum or lose
    more than its maximum (or its last unit) takes its bound, and the threshold is set for the others. Of equal scores
    at the threshold those of the first groups go.

    Returns:
        Allocation: from groups and a sparsity to a sparsity per group.

    Shapes:
        Scores `(n_g,)` of each group to a sparsity each, a number.

    Reference:
        Frankle, Carbin (2019), The Lottery Ticket Hypothesis, section 4 (global pruning); Blalock et al. (2020), What
        is the State of Neural Network Pruning?

    Example:
        >>> import torch
        >>> def group(*scores):
        ...     return Scored(
        ...         torch.tensor(scores), len(scores), torch.ones(1), (len(scores),), most=1 - 1 / len(scores)
        ...     )
        >>> global_()({"a": group(1.0, 2.0, 3.0, 4.0), "b": group(2.5, 9.0, 9.5, 9.9)}, 0.5)
        {'a': 0.75, 'b': 0.25}
    """
    return Recipe("global", rank_globally)


def rank_globally(groups: Mapping[str, Scored], sparsity: float) -> dict[str, float]:
    """The allocation of `global_`, for others that only rank by other scores.

    Args:
        groups: The groups, with the scores to rank by.
        sparsity: Of all units.

    Returns:
        Sparsity of each group.
    """
    check_reachable(groups, sparsity)
    scores = {name: group.values() for name, group in groups.items()}
    least = {name: round(group.least * group.n_units) for name, group in groups.items()}
    most = {name: round(group.most * group.n_units) for name, group in groups.items()}
    wanted = round(sparsity * sum(group.n_units for group in groups.values()))
    gone: dict[str, int] = {}
    free = dict(scores)
    while free:
        counts = _below_one_threshold(free, wanted - sum(gone.values()))
        held = {name: min(max(value, least[name]), most[name]) for name, value in counts.items()}
        excess = sum(held.values()) - sum(counts.values())
        bound = [name for name in free if excess and _is_bound(counts[name], held[name], excess)]
        gone.update({name: held[name] for name in bound or free})
        free = {name: values for name, values in free.items() if name not in gone}
    return {name: gone[name] / group.n_units for name, group in groups.items()}


def _is_bound(wanted: int, held: int, excess: int) -> bool:
    """Whether a group is held for good: those held back first where too few go, those pushed where too many do."""
    return held < wanted if excess < 0 else held > wanted


def _below_one_threshold(scores: Mapping[str, Tensor], removed: int) -> dict[str, int]:
    """How many units of each group lie below the one threshold that removes `removed`; ties in the groups' order."""
    total = sum(len(values) for values in scores.values())
    removed = min(max(removed, 0), total)
    if removed == 0:
        return dict.fromkeys(scores, 0)
    threshold = kth_smallest(list(scores.values()), removed)
    below = {name: count(values, lambda x: x < threshold) for name, values in scores.items()}
    left = removed - sum(below.values())
    for name, values in scores.items():
        tied = min(left, count(values, lambda x: x == threshold)) if left else 0
        below[name] += tied
        left -= tied
    return below
