"""Labels: integers that say which slices leave together, united as a record is gone through."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


class Labels:
    """Disjoint sets of integers that only grow: the smallest of a set stands for it.

    Every operation is a few passes over arrays, so millions of labels take about a second.

    Reference:
        Shiloach, Vishkin (1982), An O(log n) Parallel Connectivity Algorithm: hooking and pointer jumping.

    Example:
        >>> labels = Labels()
        >>> weight, bias = labels.fresh(3), labels.fresh(3)
        >>> labels.unite(weight, bias)
        >>> labels.find(bias).tolist()
        [0, 1, 2]
        >>> labels.unite(weight[:2], weight[1:])
        >>> labels.find(bias).tolist()
        [0, 0, 0]
    """

    def __init__(self) -> None:
        """No label yet."""
        self._parents: Numbers = np.empty(0, np.int64)
        self._count = 0

    def __len__(self) -> int:
        """How many labels there are.

        Returns:
            The number.
        """
        return self._count

    def fresh(self, count: int) -> Numbers:
        """New labels, each a set of its own.

        Args:
            count: How many.

        Returns:
            The labels, `(count,)`, the next integers.
        """
        start, self._count = self._count, self._count + count
        if self._count > len(self._parents):
            grown = np.arange(max(self._count, 2 * len(self._parents)), dtype=np.int64)
            grown[:start] = self._parents[:start]
            self._parents = grown
        return np.arange(start, self._count, dtype=np.int64)

    def find(self, labels: Numbers) -> Numbers:
        """The smallest label of the set of each.

        Args:
            labels: Any shape.

        Returns:
            Of the same shape; equal where two labels are in one set.
        """
        roots = self._parents[labels]
        while True:
            above = self._parents[roots]
            if (above == roots).all():
                break
            roots = above
        self._parents[labels] = roots  # so that the next way is short
        return roots

    def unite(self, one: Numbers, other: Numbers) -> None:
        """Make one set of the sets of two labels, for every pair.

        Args:
            one: Any shape.
            other: A shape that broadcasts with it.
        """
        first, second = (side.ravel() for side in np.broadcast_arrays(one, other))
        while True:
            first, second = self.find(first), self.find(second)
            apart = first != second
            if not apart.any():
                return
            first, second = first[apart], second[apart]
            # A larger root goes below a smaller one, so no circle can come about; where several want to take the same
            # root, the smallest wins and the rest try again.
            larger = np.maximum(first, second)
            np.minimum.at(self._parents, larger, np.minimum(first, second))
            self._flatten(larger)

    def _flatten(self, below: Numbers) -> None:
        """Put what was just hooked below its root; all links of a new chain are here, so a pass halves its length."""
        while True:
            roots = self._parents[below]
            above = self._parents[roots]
            if (above == roots).all():
                return
            self._parents[below] = above
