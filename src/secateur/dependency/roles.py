"""What a dimension of a parameter is to the units that lie along it: made there, read there, or something else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secateur.dependency.record import Call, Record, Reference

Place = tuple[int, int]  # number of a parameter or buffer, dimension


@dataclass(frozen=True)
class _Origin:
    """A value that is a parameter with its dimensions reordered."""

    number: int
    dims: tuple[int, ...]


def roles(record: Record) -> dict[Place, str]:
    """The role of every dimension of parameters and buffers, by the first operation that tells.

    `out` makes a channel, `in` reads one, `norm_scale` and `norm_shift` belong to a norm, `bias` is added, `running` is
    a buffer, `direction` is scaled by another parameter to the length 1, `other` is the rest.

    Args:
        record: A forward pass.

    Returns:
        The role by the number of the value and the dimension.

    Example:
        >>> import torch
        >>> from secateur.dependency import record
        >>> found = record(torch.nn.Linear(3, 2), torch.zeros(1, 3))
        >>> roles(found)
        {(0, 0): 'out', (0, 1): 'in', (1, 0): 'bias'}
    """
    found: dict[Place, str] = {}
    origins = {
        number: _Origin(number, tuple(range(len(record.values[number].shape))))
        for number in record.numbers("parameter", "buffer")
    }
    for call in record.calls:
        given = call.given
        for name, value in given.items():
            if isinstance(value, Reference) and value.number in origins:
                _note(found, call, name, given, origins[value.number])
        moved = _moved(call, given, origins)
        if moved is not None and call.results[0] is not None:
            origins[call.results[0]] = moved
    known = {number for number, _ in found}
    return {place: found.get(place, _default(record, place[0], place[0] in known)) for place in _places(record)}


def _places(record: Record) -> list[Place]:
    return [
        (number, dim)
        for number in record.numbers("parameter", "buffer")
        for dim in range(len(record.values[number].shape))
    ]


def _default(record: Record, number: int, known: bool) -> str:
    """Kernels beside known dimensions are nothing in particular; a matrix of which nothing is known makes its units."""
    value = record.values[number]
    if value.source == "buffer":
        return "running"
    return "out" if len(value.shape) > 1 and not known else "other"


SAME = frozenset(["detach", "alias", "clone", "_to_copy", "contiguous", "lift_fresh"])


def _moved(call: Call, given: Mapping[str, Any], origins: Mapping[int, _Origin]) -> _Origin | None:
    """What is still the parameter after this operation."""
    first = given.get("v", given.get("self"))
    origin = origins.get(first.number) if isinstance(first, Reference) else None
    if origin is None:
        return None
    dims, name = list(origin.dims), call.name
    if name in SAME or name.startswith("_weight_norm"):
        return origin
    if name == "permute":
        return _Origin(origin.number, tuple(dims[dim] for dim in given["dims"]))
    if name in ("t", "transpose") and len(dims) > 1:
        one, other = given.get("dim0", 0), given.get("dim1", 1)
        dims[one], dims[other] = dims[other], dims[one]
        return _Origin(origin.number, tuple(dims))
    return None


# For each operation and argument the roles of the last dimensions, or of the first ones for what has a kernel.
PRODUCTS: dict[str, dict[str, tuple[str, str]]] = {
    "mm": {"self": ("out", "in"), "mat2": ("in", "out")},
    "bmm": {"self": ("out", "in"), "mat2": ("in", "out")},
    "addmm": {"mat1": ("out", "in"), "mat2": ("in", "out")},
    "baddbmm": {"batch1": ("out", "in"), "batch2": ("in", "out")},
}
BIASES = {"addmm": "self", "convolution": "bias"}


def _note(found: dict[Place, str], call: Call, name: str, given: Mapping[str, Any], origin: _Origin) -> None:
    operation = call.name
    told: dict[int, str] = {}
    if operation == "convolution" and name == "weight":
        told = dict(enumerate(("in", "out") if given.get("transposed") else ("out", "in")))
    elif name in PRODUCTS.get(operation, {}):
        last = len(origin.dims) - 2
        told = {last + at: role for at, role in enumerate(PRODUCTS[operation][name])}
    elif operation == "embedding" and name == "weight":
        told = {1: "out"}
    elif "norm" in operation and name in ("weight", "bias"):
        told = dict.fromkeys(range(len(origin.dims)), "norm_scale" if name == "weight" else "norm_shift")
    elif operation.startswith("_weight_norm") and name == "v":
        told = {given.get("dim", 0): "direction"}
    elif BIASES.get(operation) == name:
        told = {0: "bias"}
    for dim, role in told.items():
        found.setdefault((origin.number, origin.dims[dim]), role)
