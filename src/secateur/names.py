"""Names of groups and modules, matched by shell patterns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase

from secateur.errors import UnknownNameError


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that a shell pattern matches, a plain name matching itself.

    Args:
        pattern: E.g. `"layer1.*"`.
        names: The names there are.

    Returns:
        Those that match, in order.

    Example:
        >>> matching("fc*", ["conv1", "fc1", "fc2"])
        ['fc1', 'fc2']
    """
    return [name for name in names if name == pattern or fnmatchcase(name, pattern)]


def spelled_out(values: Mapping[str, float], names: Collection[str]) -> dict[str, float]:
    """A mapping by pattern as one by name.

    Args:
        values: By name or pattern; later entries win.
        names: The names of the groups there are.

    Returns:
        A value for each name that an entry matches.

    Raises:
        UnknownNameError: An entry matches none.

    Example:
        >>> spelled_out({"fc*": 0.9, "fc2": 0.3}, ["conv1", "fc1", "fc2"])
        {'fc1': 0.9, 'fc2': 0.3}
    """
    found: dict[str, float] = {}
    for pattern, value in values.items():
        matched = matching(pattern, names)
        if not matched:
            raise UnknownNameError("group", pattern, names)
        found.update(dict.fromkeys(matched, value))
    return found
