"""Root mean square norms of a record: where a mean over channels can be made up for by a weight and an eps.

Of `n` channels `m` stay. Masked ones add nothing to the sum of squares `S`, so plain masking computes
`x / sqrt(S/n + eps) * w`, and the smaller model `x / sqrt(S/m + eps') * w'`. Both are equal for `eps' = eps * n/m` and
`w' = w * sqrt(n/m)`; where a number is added to the weight first, both together are what grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import nn
from torch.utils._pytree import tree_leaves

from secateur.dependency.deadline import OutOfTime
from secateur.dependency.record import Call, Record, Reference, RootMeanSquare, references
from secateur.units import Attribute

CAST = "_to_copy"
CLOSE = 1e-5  # a number that was kept as float32 is so close to what it was


def traced(model: nn.Module, found: Record, again: Callable[[], Record]) -> tuple[RootMeanSquare, ...]:
    """The norms of which it is certain which parameter and which attribute to rescale.

    Which attribute is the eps of a norm is tried: each that could be is changed, and the pass recorded again.

    Args:
        model: The model that was recorded.
        found: Its forward pass.
        again: Records it again.

    Returns:
        The norms whose weight is read by nothing else, and whose eps changes nothing else.

    Raises:
        OutOfTime: Recording takes too long.
    """
    chains = _alone(found, list(_chains(found)))
    tried = dict(_candidates(model, found, chains))
    if not tried:
        return ()
    with _changed(model, tried):
        try:
            other = again()
        except OutOfTime:
            raise
        except Exception:  # whatever it is: nothing is certain
            return ()
    changed = _differing(found, other)
    if changed is None or not changed.keys() <= {chain.shifted for chain in chains}:
        return ()
    by_value = {chain.shifted: _nearest(tried, changed[chain.shifted]) for chain in chains if chain.shifted in changed}
    known = [replace(chain, eps=by_value[chain.shifted]) for chain in chains if by_value.get(chain.shifted)]
    return tuple(one for one in known if _to_each_its_own(one, known, chains))


def _to_each_its_own(one: RootMeanSquare, known: list[RootMeanSquare], chains: list[RootMeanSquare]) -> bool:
    """Whether a weight has one eps, and this eps no other weight, and all of its norms are known."""
    alike = [other for other in known if other.weight == one.weight or other.eps == one.eps]
    whole = sum(chain.weight == one.weight for chain in chains) == len(alike)
    same = (one.weight, one.offset, one.eps)
    return whole and all((other.weight, other.offset, other.eps) == same for other in alike)


def _chains(found: Record) -> Iterator[RootMeanSquare]:
    """Means over the last dimension, to which a number is added, of whose root a product is divided and weighted."""
    uses = _uses(found)
    held = _held(found)
    for call in found.calls:
        if call.name != "mean" or call.results[0] is None or not _over_last(found, call):
            continue
        shift = _next(found, uses, call.results[0])
        if shift is None or not _adds_a_number(shift):
            continue
        scaled = _inverse_root(found, uses, shift)
        weighted = None if scaled is None else _next(found, uses, scaled)
        if weighted is None or weighted.name != "mul":
            continue
        weights = [held[number] for number in references(weighted) if number in held]
        size = found.values[call.given["self"].number].shape[-1]
        if len(weights) == 1 and found.values[weights[0][0]].shape == (size,):
            yield RootMeanSquare(call.results[0], shift.results[0] or 0, *weights[0], None, float(shift.given["other"]))


def _over_last(found: Record, call: Call) -> bool:
    dims, last = call.given.get("dim"), len(found.values[call.given["self"].number].shape) - 1
    alone = isinstance(dims, list | tuple) and [dim % (last + 1) for dim in dims] == [last]
    return alone and bool(call.given.get("keepdim"))


def _adds_a_number(call: Call) -> bool:
    other = call.given.get("other")
    return call.name == "add" and isinstance(other, float) and other > 0 and call.given.get("alpha", 1) == 1


def _inverse_root(found: Record, uses: Mapping[int, list[int]], shift: Call) -> int | None:
    """The value that is something times one over the root of a value, by any way to write it."""
    root = _next(found, uses, shift.results[0])
    if root is None:
        return None
    inverse = root.name == "rsqrt" or (root.name == "pow" and root.given.get("exponent") == -0.5)
    if not inverse and root.name != "sqrt":
        return None
    product = _next(found, uses, root.results[0])
    if product is not None and not inverse and product.name == "reciprocal":
        inverse, root, product = True, product, _next(found, uses, product.results[0])
    if product is None:
        return None
    other = product.given.get("other")
    divides = isinstance(other, Reference) and other.number == _cast(found, uses, root.results[0])
    fits = product.name == "mul" if inverse else product.name == "div" and divides
    return product.results[0] if fits else None


def _uses(found: Record) -> dict[int, list[int]]:
    """Positions of the calls that read a value; -1 for the output."""
    uses: dict[int, list[int]] = {}
    for at, call in enumerate(found.calls):
        for number in references(call):
            uses.setdefault(number, []).append(at)
    for number in found.outputs:
        uses.setdefault(number, []).append(-1)
    return uses


def _cast(found: Record, uses: Mapping[int, list[int]], number: int | None) -> int | None:
    """The value after casts, if each is all that reads the one before."""
    while number is not None and len(at := uses.get(number, [])) == 1 and at[0] >= 0:
        call = found.calls[at[0]]
        if call.name != CAST:
            return number
        number = call.results[0]
    return None


def _next(found: Record, uses: Mapping[int, list[int]], number: int | None) -> Call | None:
    """The only operation that reads a value, casts aside."""
    last = _cast(found, uses, number)
    return None if last is None else found.calls[uses[last][0]]


def _held(found: Record) -> dict[int, tuple[int, float]]:
    """The parameter that a value is, cast or not, and a number that has been added."""
    held = {number: (number, 0.0) for number in found.numbers("parameter")}
    for call in found.calls:
        if _passes(call, held) and call.results[0] is not None:
            parameter, offset = held[_source(call)]
            held[call.results[0]] = (parameter, offset + float(call.given.get("other", 0)))
    return held


def _passes(call: Call, held: Mapping[int, tuple[int, float]]) -> bool:
    """Whether an operation hands on a parameter: casts it, or adds a number to it, not in place."""
    if _source(call) not in held or call.op._schema.is_mutable:
        return False
    other = call.given.get("other")
    adds = call.name == "add" and type(other) in (int, float) and call.given.get("alpha", 1) == 1
    return call.name == CAST or adds


def _source(call: Call) -> int:
    source = call.given.get("self")
    return source.number if isinstance(source, Reference) else -1


def _alone(found: Record, chains: list[RootMeanSquare]) -> list[RootMeanSquare]:
    """Norms whose weight, under its one name, is read by as many operations as there are norms with it."""
    held = _held(found)
    read: dict[int, int] = {}
    for call in found.calls:
        for number in references(call) if not _passes(call, held) else ():
            if number in held:
                read[held[number][0]] = read.get(held[number][0], 0) + 1
    returned = {held[number][0] for number in found.outputs if number in held}
    count = {chain.weight: 0 for chain in chains}
    for chain in chains:
        count[chain.weight] += 1
    return [
        chain
        for chain in chains
        if read.get(chain.weight) == count[chain.weight]
        and len(found.values[chain.weight].names) == 1
        and chain.weight not in returned
    ]


def _candidates(model: nn.Module, found: Record, chains: list[RootMeanSquare]) -> Iterator[tuple[Attribute, float]]:
    """Attributes beside a norm's weight that hold the number added, and a value to try for each."""
    seen: set[Attribute] = set()
    for chain in chains:
        path = found.values[chain.weight].names[0].rpartition(".")[0]
        module = model.get_submodule(path)
        for key, value in vars(module).items():
            close = type(value) is float and math.isclose(value, chain.value, rel_tol=CLOSE)
            # torch's own class chooses a number where its eps is None
            attribute = Attribute(path, (key,))
            if attribute not in seen and (close or (isinstance(module, nn.RMSNorm) and key == "eps")):
                seen.add(attribute)
                yield attribute, chain.value * (1 + len(seen))


@contextmanager
def _changed(model: nn.Module, tried: Mapping[Attribute, float]) -> Generator[None, None, None]:
    """Attributes with other values for as long as it takes."""
    places = [(vars(model.get_submodule(one.module)), str(one.path[0]), value) for one, value in tried.items()]
    before = [held[key] for held, key, _ in places]
    try:
        for held, key, value in places:
            held[key] = value
        yield
    finally:
        for (held, key, _), value in zip(places, before, strict=True):
            held[key] = value


def _differing(found: Record, other: Record) -> dict[int, float] | None:
    """By the first result of an operation, the number that is another in the other record; None if more differs."""
    if [(call.op, call.results) for call in found.calls] != [(call.op, call.results) for call in other.calls]:
        return None
    changed: dict[int, float] = {}
    for one, two in zip(found.calls, other.calls, strict=True):
        pairs = [*zip(_leaves(one), _leaves(two), strict=False)]
        different = [(a, b) for a, b in pairs if type(a) is not type(b) or (a != b and a == a)]  # noqa: PLR0124  nan
        if different:
            (_, value), *more = different
            if more or type(value) is not float or one.results[0] is None:
                return None
            changed[one.results[0]] = value
    return changed


def _leaves(call: Call) -> list[Any]:
    return tree_leaves((list(call.arguments), dict(call.keywords)))


def _nearest(tried: Mapping[Attribute, float], value: float) -> Attribute | None:
    near = [one for one, given in tried.items() if math.isclose(given, value, rel_tol=CLOSE)]
    return near[0] if len(near) == 1 else None
