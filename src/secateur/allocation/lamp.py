"""LAMP: a global ranking that knows what each layer has left."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from torch import Tensor

from secateur.allocation.global_ranking import rank_globally
from secateur.allocation.scored import Allocation, Scored
from secateur.recipe import Recipe


def lamp() -> Allocation:
    """Layer-adaptive magnitudes: a global ranking of squared scores, each over the sum of those not smaller.

    `lamp(u) = s(u)^2 / sum over v in the group that do not come before u in ascending order of s(v)^2`

    The last score of every group gets 1, so no group is emptied. Meant for magnitudes: scores are taken as at least 0.

    Returns:
        Allocation: from groups and a sparsity to a sparsity per group.

    Shapes:
        Scores `(n_g,)` of each group to a sparsity each, a number.

    Reference:
        Lee, Park, Mo, Ahn, Shin (2021), Layer-adaptive Sparsity for the Magnitude-based Pruning.

    Example:
        Magnitudes 1, 2, 3 become 1/14, 4/13 and 1:

        >>> import torch
        >>> lamp_scores(torch.tensor([1.0, 3.0, 2.0]))
        tensor([0.0714, 0.3077, 1.0000])
    """
    return Recipe("lamp", _allocate)


def _allocate(groups: Mapping[str, Scored], sparsity: float) -> dict[str, float]:
    ranked = {name: replace(group, scores=partial(_of, group)) for name, group in groups.items()}
    return rank_globally(ranked, sparsity)


def _of(group: Scored) -> Tensor:
    return lamp_scores(group.values())


def lamp_scores(scores: Tensor) -> Tensor:
    """LAMP scores of a group, ascending: an allocation needs how many lie below a threshold, not where they are.

    Args:
        scores: `(n,)`, magnitudes; `-inf` for what has gone already.

    Returns:
        `(n,)`, ascending, the dtype of `scores`.
    """
    ordered = scores.sort().values
    squares = ordered.clamp(min=0).double().square()
    left = squares.flip(0).cumsum(0).flip(0)
    ratio = (squares / left.clamp(min=1e-300)).to(scores.dtype)
    return ratio.masked_fill(ordered == -math.inf, -math.inf)
