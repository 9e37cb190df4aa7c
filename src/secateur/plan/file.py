"""A plan as a file: safetensors for the numbers, JSON for the rest; and back, believing nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from secateur.errors import PlanError, RunError
from secateur.index_maps import Arange, Cover, Embedded, IndexMap, Stored
from secateur.plan.part import Part
from secateur.state import load_state, save_state
from secateur.units import Attribute, Eps, ParameterAxis, Role, Units

KIND = "secateur.plan"
DIMENSIONS = 64  # what a tensor can have
WRONG = (AssertionError, AttributeError, KeyError, IndexError, OverflowError, RuntimeError, TypeError, ValueError)

Contents = tuple[tuple[Part, ...], dict[str, Tensor], dict[str, Any]]


def write(path: Path, parts: tuple[Part, ...], updates: Mapping[str, Tensor], made_by: Mapping[str, Any]) -> None:
    """Write a plan, atomically.

    Args:
        path: Where.
        parts: Its parts.
        updates: New values of parameters.
        made_by: Provenance.

    Raises:
        PlanError: The file cannot be written; what was there before is still there.
    """
    tree = {"parts": [_part(part) for part in parts], "updates": dict(updates), "made_by": dict(made_by)}
    try:
        save_state(path, tree, kind=KIND)
    except RunError as error:
        raise PlanError(f"the plan was not saved: {error}") from error


def read(path: Path) -> Contents:
    """Read a plan.

    Args:
        path: Where.

    Returns:
        Parts, new values of parameters, provenance.

    Raises:
        PlanError: The file is missing, truncated, of another kind, or its numbers contradict one another.
    """
    try:
        return _contents(load_state(path, kind=KIND))
    except RunError as error:
        raise PlanError(f"the plan was not read: {error}") from error
    except WRONG as error:
        raise PlanError(f"{path} is damaged: {type(error).__name__}: {error}. Make the plan again") from error


def same(first: Units, second: Units) -> bool:
    """Whether two groups number their weights alike.

    Args:
        first: One group.
        second: Another.

    Returns:
        True if units, scopes and patterns are equal.
    """
    one, two = _units(first), _units(second)
    return all(_equal(one[key], two[key]) for key in ("index", "scope", "keep_per_scope"))


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_equal(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)):
        return len(one) == len(two) and all(map(_equal, one, two))
    return type(one) is type(two) and bool(one == two)


def _part(part: Part) -> dict[str, Any]:
    packed = torch.from_numpy(np.packbits(part.keep.cpu().numpy()))
    return {"name": part.name, "reason": part.reason, "units": _units(part.units), "keep": packed}


def _units(units: Units) -> dict[str, Any]:
    index = [[axis.parameter, axis.axis, units.role[axis], _map(inner)] for axis, inner in units.index.items()]
    fixed = {"keep_per_scope": units.keep_per_scope, "frozen": units.frozen, "note": units.note}
    beside = [[axis.parameter, axis.axis, _map(inner)] for axis, inner in units.beside.items()]
    attributes = [[one.module, list(one.path), parts] for one, parts in units.attributes.items()]
    rescaled = [
        [name, one.attribute.module, list(one.attribute.path), one.value, one.offset]
        for name, one in units.rescaled.items()
    ]
    more = {"beside": beside, "attributes": attributes, "crosses": units.crosses, "rescaled": rescaled}
    more |= {"step": units.step, "least": units.least}
    return {"index": index, "scope": _map(units.scope), **fixed, **more}


def _map(index: IndexMap) -> dict[str, Any]:
    match index:
        case Arange():
            steps = {"split": index.split, "permute": index.permute, "join": index.join, "repeat": index.repeat}
            return {"kind": "arange", "shape": index.shape, **steps}
        case Cover():
            return {"kind": "cover", "shape": index.shape, "kernel": index.kernel, "patterns": index.patterns}
        case Stored():
            return {"kind": "stored", "shape": index.shape, "units": index.units, "n_units": index.n_units}
        case Embedded():
            return {"kind": "embedded", "shape": index.shape, "inner": _map(index.inner), "kept": index.kept}
    raise PlanError(f"an index map of type {type(index).__name__} cannot be saved: use those of secateur.index_maps")


def _contents(tree: Any) -> Contents:
    parts = tuple(_read_part(part) for part in tree["parts"])
    updates = {_text(name): _checked(value, Tensor) for name, value in tree["updates"].items()}
    return parts, updates, _checked(tree["made_by"], dict)


def _read_part(tree: Any) -> Part:
    units = _read_units(tree["units"])
    packed = tree["keep"]
    if packed.dtype != torch.uint8 or packed.shape != (-(-units.n_units // 8),):
        raise ValueError(f"{units.n_units} decisions do not lie in {tuple(packed.shape)} bytes")
    bits = np.unpackbits(packed.numpy())
    if bits[units.n_units :].any():
        raise ValueError("decisions about units that do not exist")
    keep = torch.from_numpy(bits[: units.n_units].astype(bool))
    return Part(_text(tree["name"]), units, keep, _text(tree["reason"]))


def _read_units(tree: Any) -> Units:
    index, role = {}, {}
    for parameter, axis, part_role, inner in tree["index"]:
        key = _axis(parameter, axis)
        if part_role not in get_args(Role):
            raise ValueError(f"unknown role {part_role!r}")
        index[key], role[key] = _read_map(inner), part_role
    keep = tree["keep_per_scope"]
    return Units(
        index,
        _read_map(tree["scope"]),
        role,
        None if keep is None else _number(keep),
        _text(tree["frozen"]),
        _text(tree["note"]),
        {_axis(parameter, axis): _read_map(inner) for parameter, axis, inner in tree.get("beside", ())},
        {_attribute(*one): _checked(parts, Tensor) for *one, parts in tree.get("attributes", ())},
        _text(tree.get("crosses", "")),
        {_text(name): _eps(*one) for name, *one in tree.get("rescaled", ())},
        _number(tree.get("step", 1)),
        _number(tree.get("least", 1)),
    )


def _axis(parameter: Any, axis: Any) -> ParameterAxis:
    return ParameterAxis(_text(parameter), None if axis is None else _number(axis))


def _attribute(module: Any, path: Any) -> Attribute:
    steps = tuple(step if isinstance(step, str) else _number(step) for step in path)
    if not steps or any(isinstance(step, str) and step.startswith("__") for step in steps):
        raise ValueError(f"{path!r} names no attribute")
    return Attribute(_text(module), steps)


def _eps(module: Any, path: Any, value: Any, offset: Any) -> Eps:
    if type(value) is not float or not 0 < value < math.inf or type(offset) is not float or not math.isfinite(offset):
        raise ValueError(f"{value!r} and {offset!r} are no eps and no number added to a weight")
    return Eps(_attribute(module, path), value, offset)


def _read_map(tree: Any, depth: int = 0) -> IndexMap:
    shape = _sizes(tree["shape"])
    match tree["kind"]:
        case "arange":
            return Arange(shape, *(_sizes(tree[step]) for step in ("split", "permute", "join", "repeat")))
        case "cover":
            return Cover(shape, _sizes(tree["kernel"]), tuple(map(_numbers, _checked(tree["patterns"], tuple))))
        case "stored":
            return Stored(shape, _checked(tree["units"], Tensor), _number(tree["n_units"]))
        case "embedded" if depth < 4:
            kept = tuple(_checked(at, Tensor) for at in tree["kept"])
            return Embedded(_read_map(tree["inner"], depth + 1), shape, kept)
    raise ValueError(f"unknown index map {tree['kind']!r}")


def _sizes(values: Any) -> tuple[int, ...]:
    if len(values) > DIMENSIONS:  # a product of very many sizes takes very long
        raise ValueError(f"{len(values)} dimensions")
    return _numbers(values)


def _numbers(values: Any) -> tuple[int, ...]:
    return tuple(_number(value) for value in _checked(values, tuple))


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**48:
        raise ValueError(f"{value!r} is no size")
    return value


def _text(value: Any) -> str:
    return str(_checked(value, str))


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{kind.__name__} expected, found {type(value).__name__}")
    return value
