"""Integers of a model's modules as numbers that know which attribute they are, for as long as it is recorded."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from secateur.dependency.numbers import Number, Trace
from secateur.units import Attribute

# What torch keeps in every module: parameters, submodules, hooks.
INTERNAL = frozenset(vars(nn.Module()))
NO_CONFIG = (
    *(nn.Module, Tensor, type, ModuleType, Enum, str, bytes, int, float, complex),
    *(FunctionType, MethodType, BuiltinFunctionType, partial),
)
# Longer ones are vocabularies and tables of positions, not sizes.
LONGEST = 1000
# Objects within objects: a cache, its layers, what each holds.
DEEPEST = 3


@contextmanager
def tagged(model: nn.Module) -> Generator[Trace, None, None]:
    """Let every integer attribute of a model's modules remember which one it is.

    Also those in lists, tuples, dicts and objects such as a `config` that are attributes; one that several modules
    share bears the name of the first. At the end all is put back, and where the model has kept a number, it becomes a
    plain integer, also as the key of a dict. Left alone are class attributes, scripted modules, and containers of more
    than a thousand items.

    Args:
        model: Any module.

    Yields:
        The trace that the numbers belong to; over at the end.

    Example:
        >>> attention = nn.MultiheadAttention(8, 2)
        >>> with tagged(attention):
        ...     attention.num_heads.expression
        Attribute(module='', path=('num_heads',))
        >>> type(attention.num_heads)
        <class 'int'>
    """
    trace = Trace()
    tagger = _Tagger(trace)
    modules = list(model.named_modules())
    try:
        for name, module in modules:
            if not isinstance(module, torch.jit.ScriptModule):
                tagger.module(name, module)
        yield trace
    finally:
        trace.over = True
        tagger.undo()
        sweeper = _Sweeper()
        for module in (*(module for _, module in modules), *model.modules()):
            sweeper.module(module)


def integers(model: nn.Module) -> dict[Attribute, int]:
    """Every integer that `tagged` would let remember where it is from.

    Args:
        model: Any module.

    Returns:
        The values, by attribute.

    Example:
        >>> found = integers(nn.Linear(2, 3))
        >>> {attribute.path: value for attribute, value in found.items()}
        {('in_features',): 2, ('out_features',): 3}
    """
    reader = _Reader()
    for name, module in model.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            reader.module(name, module)
    return reader.found


class _Tagger:
    """Puts numbers in the place of integers, and remembers what was there."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.name = ""
        self.held: dict[int, Any] = {}  # containers dealt with, by id, which they keep as long as they are held
        self.replaced: list[tuple[Any, Any, Any, Any]] = []

    def module(self, name: str, module: nn.Module) -> None:
        self.name = name
        attributes = vars(module)
        self.items(attributes, [key for key in attributes if key not in INTERNAL], ())

    def items(self, holder: Any, keys: Iterable[str | int], path: tuple[str | int, ...]) -> None:
        """Those items of a list or dict that are integers, or hold some."""
        for key in list(keys):
            old = _get(holder, key)
            new = self.tag(old, (*path, key))
            if new is not old:
                _set(holder, key, new)
                self.replaced.append((holder, key, old, new))

    def tag(self, value: Any, path: tuple[str | int, ...]) -> Any:
        if type(value) is int:
            return Number(value, Attribute(self.name, path), self.trace)
        if isinstance(value, tuple):
            return _rebuilt(value, [self.tag(one, (*path, at)) for at, one in enumerate(value[:LONGEST])])
        if id(value) in self.held:
            return value
        if isinstance(value, list | dict) and len(value) <= LONGEST:
            self.held[id(value)] = value
            keys = range(len(value)) if isinstance(value, list) else [key for key in value if type(key) in (str, int)]
            self.items(value, keys, path)
        if len(path) == 1 and (attributes := _attributes(value)) is not None:
            self.held[id(value)] = value
            self.items(attributes, attributes, path)
        return value

    def undo(self) -> None:
        for holder, key, old, new in reversed(self.replaced):
            present = key in holder if isinstance(holder, dict) else key < len(holder)
            if present and _get(holder, key) is new:
                _set(holder, key, old)


class _Reader(_Tagger):
    """Goes where a tagger goes and only looks."""

    def __init__(self) -> None:
        super().__init__(Trace())
        self.found: dict[Attribute, int] = {}

    def tag(self, value: Any, path: tuple[str | int, ...]) -> Any:
        if type(value) is int:
            self.found[Attribute(self.name, path)] = value
            return value
        return super().tag(value, path)


class _Sweeper:
    """Makes plain integers of the numbers that the model has kept."""

    def __init__(self) -> None:
        self.seen: dict[int, Any] = {}

    def module(self, module: nn.Module) -> None:
        attributes = vars(module)
        for key in [key for key in attributes if key not in INTERNAL]:
            self.item(attributes, key, 0)

    def item(self, holder: Any, key: Any, depth: int) -> None:
        old = _get(holder, key)
        new = self.plain(old, depth)
        if new is not old:
            _set(holder, key, new)

    def plain(self, value: Any, depth: int) -> Any:
        if isinstance(value, Number):
            return int(value)
        if isinstance(value, tuple):
            return _rebuilt(value, [self.plain(one, depth) for one in value])
        if isinstance(value, frozenset):
            return frozenset(self.plain(one, depth) for one in value) if _has_numbers(value) else value
        if id(value) in self.seen:
            return value
        self.seen[id(value)] = value
        self.within(value, depth)
        return value

    def within(self, value: Any, depth: int) -> None:
        """Numbers in what can be changed in place."""
        if isinstance(value, list | deque):
            for at in range(len(value)):
                self.item(value, at, depth)
        elif isinstance(value, set) and _has_numbers(value):
            items = [self.plain(one, depth) for one in value]
            value.clear()
            value.update(items)
        elif isinstance(value, dict):
            if _has_numbers(value):
                pairs = [(self.plain(key, depth), _get(value, key)) for key in value]
                value.clear()
                value.update(pairs)
            for key in list(value):
                self.item(value, key, depth)
        if depth < DEEPEST and (attributes := _attributes(value)) is not None:
            for key in list(attributes):
                self.item(attributes, key, depth + 1)


def _get(holder: Any, key: Any) -> Any:
    """An item, past what a subclass makes of that."""
    return _base(holder).__getitem__(holder, key)


def _set(holder: Any, key: Any, value: Any) -> None:
    _base(holder).__setitem__(holder, key, value)


def _base(holder: Any) -> Any:
    return next(kind for kind in (dict, list, deque) if isinstance(holder, kind))


def _rebuilt(old: tuple[Any, ...], items: list[Any]) -> tuple[Any, ...]:
    """A tuple of the same kind with other items; the same one if none is another, or its kind is unknown."""
    if len(items) != len(old) or all(one is two for one, two in zip(old, items, strict=True)):
        return old
    if type(old) in (tuple, torch.Size):
        return type(old)(items)
    return old._make(items) if hasattr(old, "_make") else old


def _attributes(value: Any) -> dict[str, Any] | None:
    """Attributes of an object such as a config; None for functions, tensors, modules and all that is torch's."""
    if isinstance(value, NO_CONFIG) or type(value).__module__.partition(".")[0] == "torch":
        return None
    attributes = getattr(value, "__dict__", None)
    return attributes if isinstance(attributes, dict) else None


def _has_numbers(items: Iterable[Any]) -> bool:
    return any(isinstance(one, Number) or (isinstance(one, tuple | frozenset) and _has_numbers(one)) for one in items)
