"""Criteria made of criteria."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from secateur.criteria.criterion import Criterion, Group
from secateur.errors import SecateurError, UnknownNameError

By = Literal["mean", "max", "sum", "std", "norm"]


def normalized(criterion: Criterion, by: By = "mean") -> Criterion:
    """Scores divided by a number of their group, so that groups can be compared in a global ranking.

    `score'(u) = score(u) / |by over v in group of score(v)|`, so that the order of the units stays as it is where
    scores are negative; a group whose number is 0 keeps its scores.

    Args:
        criterion: What is normalised.
        by: `mean`, `max`, `sum`, `std` (population) or `norm` (L2), over the group's scores.

    Returns:
        Criterion: scores without unit.

    Raises:
        UnknownNameError: `by` is none of these.

    Shapes:
        Scores `(n_units,)`, those of the criterion over one number.

    Reference:
        Molchanov, Tyree, Karras, Aila, Kautz (2017), Pruning Convolutional Neural Networks for Resource Efficient
        Inference (L2 norm of each layer's scores).

    Example:
        >>> fixed = Criterion("fixed", lambda group: torch.tensor([1.0, 3.0]))
        >>> normalized(fixed, by="mean").score(None)
        tensor([0.5000, 1.5000])
    """
    if by not in get_args(By):
        raise UnknownNameError("way to normalise", by, get_args(By))
    return Criterion(f"normalized({criterion.name}, by={by})", partial(_normalized, criterion, by), criterion.needs)


def _normalized(criterion: Criterion, by: By, group: Group) -> Tensor:
    scores = criterion.score(group)
    if by == "norm":
        size = torch.linalg.vector_norm(scores)
    elif by == "std":
        size = scores.std(correction=0)
    else:
        size = getattr(scores, by)()
    return scores / size.abs() if float(size) != 0 else scores


def weighted(*terms: tuple[float, Criterion]) -> Criterion:
    """A weighted sum of criteria: `score(u) = sum_i a_i score_i(u)`.

    Args:
        *terms: Pairs of a factor and a criterion. Factors may be negative.

    Returns:
        Criterion: the sum; it needs what its terms need.

    Raises:
        SecateurError: No term is given.

    Shapes:
        Scores `(n_units,)`, as those of every term.

    Example:
        >>> ones = Criterion("ones", lambda group: torch.tensor([1.0, 1.0]))
        >>> ramp = Criterion("ramp", lambda group: torch.tensor([0.0, 1.0]))
        >>> weighted((2.0, ones), (-1.0, ramp)).score(None)
        tensor([2., 1.])
    """
    if not terms:
        raise SecateurError("weighted() needs at least one pair of a factor and a criterion")
    name = " + ".join(f"{factor:g} {criterion.name}" for factor, criterion in terms)
    needs = frozenset[str]().union(*(criterion.needs for _, criterion in terms))
    return Criterion(f"weighted({name})", partial(_weighted, terms), needs)


def _weighted(terms: Sequence[tuple[float, Criterion]], group: Group) -> Tensor:
    first, *others = (factor * criterion.score(group) for factor, criterion in terms)
    return sum(others, first)
