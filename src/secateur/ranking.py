"""Exact order statistics over very many scores, in little memory.

Sorting 100 million scores takes half a minute and several copies. A threshold needs neither: a small sample brackets
it, one pass counts what lies below the bracket, and only what lies inside is looked at closely. Nothing here draws
random numbers, so equal scores give equal answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

CHUNK = 1 << 22  # elements looked at together: temporaries stay at a few MB
SAMPLE = 1 << 16


def chunks(values: Tensor) -> Iterator[Tensor]:
    """A tensor in pieces small enough that a temporary of one costs nothing.

    Args:
        values: Any shape.

    Yields:
        Flat views, in order.
    """
    yield from values.flatten().split(CHUNK)


def count(values: Tensor, test: Callable[[Tensor], Tensor]) -> int:
    """How many values pass a test.

    Args:
        values: Any shape.
        test: From a piece of the values to bools.

    Returns:
        The number.

    Example:
        >>> count(torch.tensor([1.0, 2.0, 3.0]), lambda x: x > 1)
        2
    """
    return sum(int(torch.count_nonzero(test(piece))) for piece in chunks(values))


def kth_smallest(values: Sequence[Tensor], k: int) -> float:
    """The k-th smallest of all values, counted from 1; exact.

    Args:
        values: Tensors of one floating dtype, any shapes; infinities are allowed, NaN is not.
        k: Between 1 and the number of values.

    Returns:
        The value.

    Example:
        >>> kth_smallest([torch.tensor([5.0, 1.0]), torch.tensor([3.0])], 2)
        3.0
    """
    total = sum(part.numel() for part in values)
    if total <= 4 * SAMPLE:
        return _kth_of_all(values, k)
    low, high = _bracket(values, k, total)
    below, at_low, at_high = (
        sum(count(part, test) for part in values)
        for test in (lambda x: x < low, lambda x: x <= low, lambda x: x <= high)
    )
    if not below < k <= at_high:
        return _kth_of_all(values, k)
    if k <= at_low:
        return low
    inside = [piece[(piece > low) & (piece < high)] for part in values for piece in chunks(part)]
    between = torch.cat(inside)
    if k - at_low > len(between):
        return high
    return float(between.kthvalue(k - at_low).values)


def _kth_of_all(values: Sequence[Tensor], k: int) -> float:
    return float(torch.cat([part.flatten() for part in values]).kthvalue(k).values)


def _bracket(values: Sequence[Tensor], k: int, total: int) -> tuple[float, float]:
    """Two values between which the k-th smallest almost surely lies: ranks around it in an evenly spaced sample."""
    stride = -(-total // SAMPLE)
    sample = torch.cat([part.flatten()[::stride] for part in values]).sort().values
    middle, margin = k * len(sample) // total, 4 * int(len(sample) ** 0.5)
    return float(sample[max(0, middle - margin)]), float(sample[min(len(sample) - 1, middle + margin)])


def keep_best(scores: Tensor, kept: int) -> Tensor:
    """Exactly the `kept` highest scores; of equal scores the first stay.

    Args:
        scores: `(n,)`.
        kept: Between 0 and n.

    Returns:
        bool, `(n,)`.

    Example:
        >>> keep_best(torch.tensor([2.0, 7.0, 2.0, 1.0]), 2).tolist()
        [True, True, False, False]
    """
    removed = len(scores) - kept
    if removed <= 0 or kept <= 0:
        return torch.full_like(scores, kept > 0, dtype=torch.bool)
    threshold = kth_smallest([scores], removed)
    keep = scores > threshold
    missing = kept - int(torch.count_nonzero(keep))
    for piece, mask in zip(chunks(scores), chunks(keep), strict=True):
        if missing == 0:
            break
        tied = (piece == threshold).nonzero()[:missing, 0]
        mask[tied] = True
        missing -= len(tied)
    return keep


def keep_best_per_row(scores: Tensor, kept: int) -> Tensor:
    """Exactly the `kept` highest scores of every row; of equal scores the first stay.

    Args:
        scores: `(rows, n)`.
        kept: Between 0 and n.

    Returns:
        bool, `(rows, n)`.

    Example:
        >>> keep_best_per_row(torch.tensor([[1.0, 3.0, 2.0, 2.0]]), 2).tolist()
        [[False, True, True, False]]
    """
    keep = torch.zeros_like(scores, dtype=torch.bool)
    rows = max(1, CHUNK // max(1, scores.shape[1]))
    for piece, mask in zip(scores.split(rows), keep.split(rows), strict=True):
        order = piece.sort(dim=1, descending=True, stable=True).indices
        mask.scatter_(1, order[:, :kept], True)
    return keep


def keep_best_per_scope(scores: Tensor, scope: Tensor, kept: Tensor) -> Tensor:
    """Exactly `kept[s]` highest scores of every scope `s`, scopes of any sizes; of equal scores the first stay.

    Args:
        scores: `(n,)`.
        scope: int64, `(n,)`.
        kept: int64, `(scopes,)`.

    Returns:
        bool, `(n,)`.

    Example:
        >>> scores, scope = torch.tensor([1.0, 2.0, 9.0, 8.0, 7.0]), torch.tensor([0, 0, 1, 1, 1])
        >>> keep_best_per_scope(scores, scope, torch.tensor([1, 2])).tolist()
        [False, True, True, True, False]
    """
    order = scores.argsort(descending=True, stable=True)
    order = order[scope[order].argsort(stable=True)]
    sizes = torch.bincount(scope, minlength=len(kept))
    first = sizes.cumsum(0) - sizes
    rank = torch.arange(len(scores), device=scores.device) - first[scope[order]]
    keep = torch.zeros_like(scores, dtype=torch.bool)
    keep[order] = rank < kept[scope[order]]
    return keep
