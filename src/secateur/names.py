"""Names of groups and modules, matched by shell patterns."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase


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
