"""A function with its arguments filled in and a name that a person can read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Recipe(Generic[P, R]):
    """A named function: what `granularity.pattern(2, 4)` or `allocation.uniform()` returns.

    Its name goes into tables and into a plan's provenance. It can be copied and sent to another process as
    long as `function` is a module-level function or a `functools.partial` of one.

    Args:
        name: How a reader would write it, e.g. ``"pattern(2, 4)"``.
        function: What is called.

    Example:
        >>> Recipe("absolute value", abs)(-3), Recipe("absolute value", abs)
        (3, absolute value)
    """

    name: str
    function: Callable[P, R]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function.

        Args:
            *args: Passed on.
            **kwargs: Passed on.

        Returns:
            What the function returns.
        """
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        """The name.

        Returns:
            The name.
        """
        return self.name


def name_of(function: object) -> str:
    """The name of a criterion, granularity, allocation or schedule, also of a user's plain function.

    Args:
        function: Anything callable.

    Returns:
        Its `name`, else its `__name__`, else its type's name.

    Example:
        >>> name_of(abs), name_of(Recipe("magnitude(p=2)", abs))
        ('abs', 'magnitude(p=2)')
    """
    for attribute in ("name", "__name__"):
        found = getattr(function, attribute, None)
        if isinstance(found, str):
            return found
    return type(function).__name__
