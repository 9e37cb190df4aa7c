"""Sparsities chosen by hand."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from secateur.allocation.scored import Allocation, Scored, along
from secateur.errors import BudgetError
from secateur.names import spelled_out
from secateur.recipe import Recipe


def fixed(sparsities: Mapping[str, float]) -> Allocation:
    """Sparsities in given proportions: `s_g = k r_g`, with the factor `k` that meets the total.

    Groups not named keep everything. To have exactly the sparsities `r_g` themselves, whatever the total, give them
    as the budget: `Budget(per_group=...)`.

    Args:
        sparsities: For each group, by name or pattern (`"conv*"`), its sparsity, at least 0; later entries win.

    Returns:
        Allocation: from groups and a sparsity to a sparsity per group.

    Raises:
        BudgetError: A sparsity is not in [0, 1), or none is above 0.

    Shapes:
        Groups of any shape to a sparsity each, a number.

    Example:
        >>> import torch
        >>> groups = {name: Scored(torch.ones(10), 10, torch.ones(10), (10,)) for name in ("conv1", "fc1", "fc2")}
        >>> {name: round(s, 6) for name, s in fixed({"fc*": 0.9, "fc2": 0.3})(groups, 0.2).items()}
        {'conv1': 0.0, 'fc1': 0.45, 'fc2': 0.15}
    """
    for name, value in sparsities.items():
        if not 0 <= value < 1:
            raise BudgetError(f"sparsity of {name!r} is a fraction removed, 0 <= s < 1; given: {value}")
    if not any(sparsities.values()):
        raise BudgetError("fixed() needs at least one group with a sparsity above 0")
    return Recipe("fixed", partial(_allocate, sparsities=dict(sparsities)))


def _allocate(groups: Mapping[str, Scored], sparsity: float, sparsities: Mapping[str, float]) -> dict[str, float]:
    ratios = dict.fromkeys(groups, 0.0) | spelled_out(sparsities, groups)

    def curve(t: float) -> dict[str, float]:
        return {name: min(1.0, ratio * t / max(1 - t, 1e-300)) for name, ratio in ratios.items()}

    return along(groups, sparsity, curve)
