"""What a model returns, with stand-ins in place of its tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Build:
    """Stands for an object that is made by its class from keywords.

    Args:
        kind: The class.
        items: What it is given.
    """

    kind: Callable[..., Any]
    items: Mapping[str, Any]


def skeleton(value: Any, stand_in: Callable[[Tensor], Any], inside: Callable[[Any], Any]) -> Any:
    """The same containers with other leaves.

    Args:
        value: Usually what a model returned.
        stand_in: What comes in place of a tensor.
        inside: The tensors of an object of which nothing else is known.

    Returns:
        Tuples, lists and dicts as they are, a `Build` for a dataclass, plain numbers and words; of any other object its
        tensors in a tuple, or None if it has none.

    Example:
        >>> import torch
        >>> skeleton({"a": torch.zeros(2), "b": (True, None)}, lambda one: tuple(one.shape), list)
        {'a': (2,), 'b': (True, None)}
    """

    def walk(one: Any) -> Any:
        return skeleton(one, stand_in, inside)

    if isinstance(value, Tensor):
        return stand_in(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and _by_keywords(value):
        fields = {field.name: walk(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return Build(type(value), {name: one for name, one in fields.items() if one is not None})
    if isinstance(value, Mapping):
        return {key: walk(one) for key, one in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return Build(type(value), {name: walk(getattr(value, name)) for name in value._fields})
    if isinstance(value, list | tuple):
        return type(value)(map(walk, value)) if type(value) in (list, tuple) else tuple(map(walk, value))
    if value is None or isinstance(value, bool | float | complex | str):
        return value
    if isinstance(value, int):
        return int(value)  # one that knows its origin is plain again
    return tuple(map(stand_in, inside(value))) or None


def _by_keywords(value: Any) -> bool:
    return all(field.init for field in dataclasses.fields(value))
