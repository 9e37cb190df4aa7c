"""Names on the command line, resolved from the `__all__` of the packages: the only place where a name is a string."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from secateur.errors import SecateurError, UnknownNameError

RETURNS = {
    "granularity": (("secateur.granularity",), {"Granularity"}),
    "criterion": (("secateur.criteria", "secateur.reconstruction"), {"Criterion", "Selection"}),
    "allocation": (("secateur.allocation",), {"Allocation"}),
}
EXAMPLE = "example"
SIMPLE = {"int", "float", "str", "bool", "Axis", "By"}


def factories(kind: str) -> dict[str, Callable[..., Any]]:
    """The names that an option takes: public functions that can be called with plain numbers and words.

    Args:
        kind: `granularity`, `criterion` (also methods that choose and mend together) or `allocation`.

    Returns:
        Functions by name; `global_` is called `global` here.

    Example:
        >>> sorted(factories("allocation"))
        ['erdos_renyi', 'global', 'lamp', 'uniform']
    """
    places, wanted = RETURNS[kind]
    modules = [import_module(place) for place in places]
    found = {name.rstrip("_"): getattr(module, name) for module in modules for name in module.__all__}
    return {name: value for name, value in found.items() if inspect.isfunction(value) and _plain(value, wanted)}


def _plain(function: Callable[..., Any], wanted: set[str]) -> bool:
    signature = inspect.signature(function)
    if any(item.kind is item.VAR_POSITIONAL for item in signature.parameters.values()):
        return False
    required = [item for item in _asked(function) if item.default is item.empty]
    simple = all(item.annotation in SIMPLE and item.kind is item.POSITIONAL_OR_KEYWORD for item in required)
    return signature.return_annotation in wanted and simple


def _asked(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The arguments that a user writes: inputs of the model come from the task, and what is named needs Python."""
    given = inspect.signature(function).parameters.values()
    return [item for item in given if item.name != EXAMPLE and (item.kind is item.POSITIONAL_OR_KEYWORD)]


def resolve(kind: str, text: str, example: Any = None, options: Mapping[str, Any] | None = None) -> Any:
    """What `NAME` or `NAME:ARGUMENTS` stands for; arguments are separated by commas, colons or an x.

    Args:
        kind: `granularity`, `criterion` or `allocation`.
        text: What the user wrote; `2:4` is short for `pattern:2:4`.
        example: Inputs of the task's model, for what looks at how it runs.
        options: Arguments that have an option of their own, by that option; those that are not given are left out.

    Returns:
        The granularity, criterion or allocation.

    Raises:
        UnknownNameError: No such name; the nearest are listed.
        SecateurError: The arguments do not fit; what they should be is said.

    Example:
        >>> resolve("granularity", "2:4"), resolve("granularity", "block:4x1"), resolve("criterion", "magnitude:1")
        (pattern(2, 4), block(4, 1), magnitude(p=1))
    """
    name, _, rest = (f"pattern:{text}" if re.fullmatch(r"\d+:\d+", text) else text).partition(":")
    known = factories(kind)
    if name.replace("-", "_") not in known:
        raise UnknownNameError(kind, name, known)
    function = known[name.replace("-", "_")]
    arguments = [_value(part) for part in re.split(r"[:,]|(?<=\d)x(?=\d)", rest) if part]
    if EXAMPLE in inspect.signature(function).parameters:
        function = partial(function, example)
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        raise SecateurError(f"{kind} {text!r}: {error}; it is used as {usage(name, function)}") from error
    if any(isinstance(value, str) for value in arguments) and "str" not in _annotations(function):
        raise SecateurError(f"{kind} {text!r}: numbers are expected; it is used as {usage(name, function)}")
    return function(*arguments, **_named(kind, name, known, options or {}))


NAMED = {"--round-to": "round_to", "--min-channels": "minimum", "--cross-norms": "cross_norms"}
"""Arguments with an option of their own."""


def _named(kind: str, name: str, known: Mapping[str, Callable[..., Any]], options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name, of which the function takes every one."""
    for option in options:
        takers = [one for one, made in known.items() if NAMED[option] in inspect.signature(made).parameters]
        if name.replace("-", "_") not in takers:
            raise SecateurError(f"{option} goes with --{kind} {' or '.join(takers)}; given: {name}. Leave it out")
    return {NAMED[option]: value for option, value in options.items()}


def _annotations(function: Callable[..., Any]) -> set[str]:
    kinds = {str(item.annotation) for item in inspect.signature(function).parameters.values()}
    return kinds | ({"str"} if kinds & {"Axis", "By", "bool"} else set())


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def usage(name: str, function: Callable[..., Any]) -> str:
    """How a name is written with its arguments.

    Args:
        name: The name.
        function: What it stands for.

    Returns:
        The text.

    Example:
        >>> from secateur.granularity import block
        >>> usage("block", block)
        'block:ROWS:COLUMNS'
    """
    items = _asked(function)
    shown = [
        item.name.upper() if item.default is item.empty else f"[{item.name.upper()}]"
        for item in items
        if item.annotation in SIMPLE
    ]
    return ":".join([name, *shown])


def summary(function: Callable[..., Any]) -> str:
    """The first sentence of a docstring.

    Args:
        function: Anything with one.

    Returns:
        The sentence, on one line.
    """
    return (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")


def numbers(option: str, texts: list[str]) -> int | Mapping[str, int]:
    """`NUMBER`, for all groups, or `NAME=NUMBER` options.

    Args:
        option: Name of the option, for errors.
        texts: What the user wrote.

    Returns:
        One number, or numbers by name.

    Raises:
        SecateurError: A text is not of either form, or the number is not whole and above 0.

    Example:
        >>> numbers("--round-to", ["8"]), numbers("--round-to", ["conv1=8", "fc*=16"])
        (8, {'conv1': 8, 'fc*': 16})
    """
    found = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not value.isdecimal() or int(value) < 1 or bool(equals) != bool(name) or (not name and len(texts) > 1):
            raise SecateurError(f"{option} takes one whole number, e.g. 8, or some of NAME=NUMBER; given: {texts}")
        found[name] = int(value)
    return found.get("", found)


def pairs(kind: str, texts: list[str]) -> Mapping[str, float]:
    """`NAME=NUMBER` options as a mapping.

    Args:
        kind: Name of the option, for errors.
        texts: What the user wrote.

    Returns:
        Numbers by name.

    Raises:
        SecateurError: A text is not of that form.

    Example:
        >>> pairs("--maximum", ["conv1=0.5"])
        {'conv1': 0.5}
    """
    found = {}
    for text in texts:
        if kind == "--minimum" and text.isdecimal() and int(text) > 0:
            raise SecateurError(f"--minimum takes NAME=SPARSITY; channels that stay are --min-channels {text}")
        name, equals, value = text.rpartition("=")
        number = _value(value)
        if not equals or not name or not isinstance(number, (int, float)):
            raise SecateurError(f"{kind} takes NAME=NUMBER, e.g. conv1=0.5; given: {text!r}")
        found[name] = float(number)
    return found
