"""In which order columns of a matrix lose least to N:M: swaps, groups of two stripes, and escapes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations

import torch
from torch import Tensor

PARTITIONS = 100  # of two stripes at most: 35 for m = 4; with more, swaps have to do


def kept_magnitude(matrix: Tensor, n: int, m: int) -> float:
    """The sum of magnitudes that N:M keeps: of every m consecutive columns the n largest in each row.

    Args:
        matrix: `(rows, columns)`, m divides the columns.
        n: How many stay.
        m: Of how many.

    Returns:
        The sum.

    Example:
        >>> kept_magnitude(torch.tensor([[4.0, -3.0, 1.0, 2.0]]), 1, 2)
        6.0
    """
    return float(matrix.abs().unflatten(1, (-1, m)).topk(n, dim=2).values.sum(dtype=torch.float64))


def best_magnitude(matrix: Tensor, n: int, m: int) -> float:
    """The sum of magnitudes of the largest n/m of every row: what no order of the columns exceeds.

    Args:
        matrix: `(rows, columns)`.
        n: How many stay.
        m: Of how many.

    Returns:
        The sum.

    Example:
        >>> best_magnitude(torch.tensor([[4.0, -3.0, 1.0, 2.0]]), 1, 2)
        7.0
    """
    return float(matrix.abs().topk(matrix.shape[1] * n // m, dim=1).values.sum(dtype=torch.float64))


def column_order(
    matrix: Tensor, n: int, m: int, *, pairs: int = 100, escapes: int = 10, seed: int = 0
) -> tuple[int, ...]:
    """An order of the columns in which N:M by magnitude keeps more.

    Every m columns in a row are a stripe. First the swap of two columns that gains most is made, again and again, in
    all stripes that no better swap has touched; then the columns of two stripes are shared out anew, in the best of all
    ways; then two columns drawn at random change places and all is improved from there, so many times, which is undone
    where it leads to less. The sum of kept magnitudes never falls.

    Args:
        matrix: `(rows, columns)`, m divides the columns.
        n: How many stay of every m.
        m: Of how many.
        pairs: So many pairs of stripes are looked at in a round at most.
        escapes: So many times two columns are swapped at random.
        seed: Of what is drawn.

    Returns:
        For each place the number of the column that goes there.

    Reference:
        Pool, Yu (2021), Channel Permutations for N:M Sparsity.

    Example:
        The two large columns share a stripe, of which 1:2 would keep one:

        >>> sorted(column_order(torch.tensor([[9.0, 8.0, 1.0, 2.0]]), 1, 2)[:2]) in ([0, 2], [0, 3], [1, 2], [1, 3])
        True
    """
    search = _Search(matrix.abs().float(), n, m)
    if n == m or matrix.shape[1] <= m:
        return tuple(range(matrix.shape[1]))
    draw = torch.Generator().manual_seed(seed)
    search.improve(pairs, draw)
    for _ in range(escapes):
        before = search.state()
        one, two = (int(place) for place in torch.randperm(matrix.shape[1], generator=draw)[:2])
        if one // m != two // m:
            search.swap([(one, two)])
            search.improve(pairs, draw, search.stripes_of((one, two)))
            if search.kept <= float(before[3].sum()):
                search.restore(before)
    return tuple(search.order.tolist())


class _Search:
    """An order, and for each place what its stripe would keep with any other column there."""

    def __init__(self, matrix: Tensor, n: int, m: int) -> None:
        self._n, self._m, self._columns = n, m, matrix
        self.order = torch.arange(matrix.shape[1])
        self._with = matrix.new_zeros(matrix.shape[1], matrix.shape[1], dtype=torch.float64)
        self._kept = matrix.new_zeros(matrix.shape[1] // m, dtype=torch.float64)
        if n < m:
            self._measure(range(len(self._kept)))

    @property
    def kept(self) -> float:
        return float(self._kept.sum())

    def state(self) -> tuple[Tensor, ...]:
        return self._columns.clone(), self.order.clone(), self._with.clone(), self._kept.clone()

    def restore(self, state: tuple[Tensor, ...]) -> None:
        self._columns, self.order, self._with, self._kept = state

    def stripes_of(self, places: Sequence[int]) -> set[int]:
        return {place // self._m for place in places}

    def _measure(self, stripes: Sequence[int] | set[int] | range) -> None:
        """`kept(rest and x) = kept(rest) + sum over rows of max(0, x - the n-th largest of the rest)`."""
        for stripe in stripes:
            places = slice(stripe * self._m, (stripe + 1) * self._m)
            its = self._columns[:, places]
            self._kept[stripe] = its.topk(self._n, dim=1).values.sum(dtype=torch.float64)
            for place in range(self._m):
                rest = torch.cat([its[:, :place], its[:, place + 1 :]], 1).topk(self._n, dim=1).values
                gained = (self._columns - rest[:, -1:]).clamp_(min=0).sum(0, dtype=torch.float64)
                self._with[places.start + place] = rest.sum(dtype=torch.float64) + gained

    def swap(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Let columns change places; no stripe comes twice."""
        to = torch.arange(len(self.order))
        for one, two in pairs:
            to[one], to[two] = two, one
        self._move(to, self.stripes_of([place for pair in pairs for place in pair]))

    def _move(self, to: Tensor, stripes: set[int]) -> None:
        self._columns, self.order, self._with = self._columns[:, to], self.order[to], self._with[:, to]
        self._measure(stripes)

    def improve(self, pairs: int, draw: torch.Generator, changed: set[int] | None = None) -> None:
        """Swaps and groups of two stripes, until nothing gains."""
        stripes = set(range(len(self._kept))) if changed is None else set(changed)
        while True:
            stripes |= self._swaps()
            stripes = self._groups(stripes, pairs, draw)
            if not stripes:
                return

    def _swaps(self) -> set[int]:
        touched: set[int] = set()
        stripe = torch.arange(len(self.order)) // self._m
        while True:
            gains = self._with + self._with.T - self._kept[stripe][:, None] - self._kept[stripe][None]
            gains[stripe[:, None] >= stripe[None]] = 0  # each pair of stripes once
            values, flat = gains.flatten().topk(min(gains.numel(), 4 * len(self.order)))
            chosen, used = [], set[int]()
            for place in flat[values > self._least].tolist():
                one, two = divmod(place, len(self.order))
                if not {one // self._m, two // self._m} & used:
                    chosen.append((one, two))
                    used |= {one // self._m, two // self._m}
            if not chosen:
                return touched
            self.swap(chosen)
            touched |= used

    @property
    def _least(self) -> float:
        """What counts as a gain; rounding does not."""
        return 1e-6 * self.kept / len(self._kept)

    def _groups(self, changed: set[int], pairs: int, draw: torch.Generator) -> set[int]:
        """Share the columns of pairs of stripes out anew; the stripes that this has changed."""
        if len(_partitions(self._m)) > PARTITIONS:
            return set()
        every = [pair for pair in combinations(range(len(self._kept)), 2) if changed & set(pair)]
        some = torch.randperm(len(every), generator=draw)[:pairs].tolist()
        found = sorted(((*self._shared(*every[number]), every[number]) for number in some), reverse=True)
        used: set[int] = set()
        to = torch.arange(len(self.order))
        for gain, share, (one, two) in found:
            if gain <= self._least:
                break
            if not {one, two} & used:
                used |= {one, two}
                places = self._places(one, two)
                to[places] = places[torch.tensor(share)]
        if used:
            self._move(to, used)
        return used

    def _places(self, one: int, two: int) -> Tensor:
        each = torch.arange(self._m)
        return torch.cat([one * self._m + each, two * self._m + each])

    def _shared(self, one: int, two: int) -> tuple[float, tuple[int, ...]]:
        """The best way to share the columns of two stripes, and what it gains."""
        ways = _partitions(self._m)
        both = self._columns[:, self._places(one, two)][:, torch.tensor(ways)]
        kept = both.unflatten(2, (2, self._m)).topk(self._n, dim=3).values.sum((0, 2, 3), dtype=torch.float64)
        best = int(kept.argmax())
        return float(kept[best] - self._kept[one] - self._kept[two]), ways[best]


@cache
def _partitions(m: int) -> tuple[tuple[int, ...], ...]:
    """Every way to share 2m columns out to two stripes: the first m of an order go to the first."""
    if m > 4:
        return tuple((place,) for place in range(PARTITIONS + 1))  # too many to be tried
    return tuple(
        (0, *first, *(place for place in range(1, 2 * m) if place not in first))
        for first in combinations(range(1, 2 * m), m - 1)
    )
