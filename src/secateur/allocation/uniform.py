"""The same sparsity everywhere."""

from __future__ import annotations

from collections.abc import Mapping

from secateur.allocation.scored import Allocation, Scored, along
from secateur.recipe import Recipe


def uniform() -> Allocation:
    """Every group loses the same fraction of its units: `s_g = s`.

    A group whose bounds do not allow that takes its bound, and the others share the rest equally.

    Returns:
        Allocation: from groups and a sparsity to a sparsity per group.

    Shapes:
        Scores `(n_g,)` of each group to a sparsity each, a number.

    Reference:
        Zhu, Gupta (2018), To Prune, or Not to Prune.

    Example:
        >>> import torch
        >>> groups = {name: Scored(torch.ones(10), 10, torch.ones(10), (10,)) for name in ("a", "b")}
        >>> {name: round(s, 6) for name, s in uniform()(groups, 0.3).items()}
        {'a': 0.3, 'b': 0.3}
    """
    return Recipe("uniform", _allocate)


def _allocate(groups: Mapping[str, Scored], sparsity: float) -> dict[str, float]:
    if all(group.least <= sparsity <= group.most for group in groups.values()):
        return dict.fromkeys(groups, sparsity)
    return along(groups, sparsity, lambda t: dict.fromkeys(groups, t))
