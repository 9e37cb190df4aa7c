"""Results of rectifiers by the calls of torch's functions that returned them, which costs less than every operation."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

Take = Callable[[Tensor, str, bool], None]


@dataclass
class Seen:
    """What rectifiers have put out so far in a pass: how often, and the last of it."""

    count: int = 0
    last: Tensor | None = None


class FirstPass(TorchFunctionMode):
    """Notes which calls of functions end in a rectifier, while something else looks at every operation.

    Args:
        seen: What rectifiers have put out so far in this pass; it changes as the pass goes on.
    """

    def __init__(self, seen: Seen) -> None:
        """Note calls, beginning with none."""
        super().__init__()
        self._seen = seen
        self._calls: list[tuple[Any, int]] = []
        self._whole = True

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call, and see how many rectifiers ran within.

        Args:
            func: The function.
            types: Not looked at.
            args: Positional arguments.
            kwargs: Others.

        Returns:
            What the function returns.
        """
        before = self._seen.count
        result = func(*args, **(kwargs or {}))
        within = self._seen.count - before
        self._whole &= within == 0 or (within == 1 and result is self._seen.last)
        self._calls.append((func, within))
        return result

    def order(self) -> Order | None:
        """What later passes have to look at.

        Returns:
            None where some rectifier's result is not what a call returned, such as within a whole layer of attention.
        """
        if not self._whole or sum(within for _, within in self._calls) != self._seen.count:
            return None
        functions = frozenset(func for func, within in self._calls if within)
        rectifies = tuple(within == 1 for func, within in self._calls if func in functions)
        return Order(functions, rectifies, frozenset(func for func, _ in self._calls))


@dataclass(frozen=True)
class Order:
    """The calls of a pass that matter.

    Args:
        functions: Those that rectify at least once.
        rectifies: Of each of their calls, in order, whether it does.
        known: All functions that were called.
    """

    functions: frozenset[Any]
    rectifies: tuple[bool, ...]
    known: frozenset[Any]


class LaterPass(TorchFunctionMode):
    """Hands on what the calls return that returned a rectifier's result in the first pass, and any new rectifier's.

    Args:
        order: Of the first pass.
        names: Of functions that may rectify.
        take: Gets each result, the name of the function, and whether the first pass called that.
    """

    def __init__(self, order: Order, names: Collection[str], take: Take) -> None:
        """Begin at the first call."""
        super().__init__()
        self._order, self._names, self._take = order, names, take
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call, and hand the result on if it is a rectifier's.

        Args:
            func: The function.
            types: Not looked at.
            args: Positional arguments.
            kwargs: Others.

        Returns:
            What the function returns.
        """
        result = func(*args, **(kwargs or {}))
        if func in self._order.functions:
            at, self.calls = self.calls, self.calls + 1
            if at >= len(self._order.rectifies) or self._order.rectifies[at]:
                self._take(result, _name(func), True)
        elif func not in self._order.known and _name(func) in self._names:
            self._take(result, _name(func), False)
        return result

    def end(self) -> bool:
        """Whether the pass had as many calls as the first; the next begins anew."""
        calls, self.calls = self.calls, 0
        return calls == len(self._order.rectifies)


def _name(func: Any) -> str:
    return str(getattr(func, "__name__", "")).strip("_")
