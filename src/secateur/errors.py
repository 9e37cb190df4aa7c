"""The errors of the library: one family, each message with what was given, what was expected, and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SecateurError(Exception):
    """Base of every error the library raises on purpose."""


class ModelError(SecateurError):
    """The model cannot be worked on as it is: no prunable weights, weights not finite, a name it lacks."""


class DataError(SecateurError):
    """The data is missing, empty, or of another shape than the model wants."""


class BudgetError(SecateurError):
    """The budget is out of range or cannot be met."""


class PlanError(SecateurError):
    """A plan does not fit the model, its file is damaged, or two plans cannot be united."""


class RunError(SecateurError):
    """A run folder, a checkpoint or a training step is in no state to go on."""


class UnknownNameError(SecateurError):
    """A name that nothing here bears; the message lists the nearest ones.

    Args:
        kind: What the name should be, e.g. ``"granularity"``.
        name: The name given.
        known: The names there are.

    Example:
        >>> print(UnknownNameError("granularity", "filtre", ["filter", "kernel"]))
        no granularity is named 'filtre'; nearest: filter; there are: filter, kernel
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
        super().__init__(f"no {kind} is named {name!r}{hint}; there are: {shown or 'none'}")
        self.kind, self.name, self.known = kind, name, names

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, list[str]]]:
        # A worker process that cannot hand its error over would look as if it had crashed.
        return type(self), (self.kind, self.name, self.known)
