"""The record of a forward pass: every operation on tensors, in order, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch._ops import OpOverload

from secateur.dependency.numbers import Expression
from secateur.errors import ModelError
from secateur.units import Attribute

Run = Callable[["Call", dict[int, Tensor]], None]
Source = Literal["parameter", "buffer", "input", "constant", "computed"]
SizeKind = Literal["size", "repeat", "start", "stop", "step", "index", "groups", "heads", "scale"]


@dataclass(frozen=True)
class Reference:
    """Stands for a tensor in the arguments of an operation.

    Args:
        number: Of the value.
    """

    number: int


@dataclass(frozen=True)
class Value:
    """A tensor of the forward pass; what an operation in place leaves is a new value.

    Args:
        shape: Its sizes.
        dtype: Its kind of number.
        source: Where it comes from; a constant is a tensor that the model holds or makes outside of all operations.
        names: Of a parameter or buffer, all of them where it is tied.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    source: Source
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call:
    """One operation.

    Args:
        op: The operation, such as ``torch.ops.aten.addmm.default``.
        arguments: Positional; a `Reference` in place of every tensor.
        keywords: By name, likewise.
        results: Numbers of the values it makes, in order; None for a result that is no tensor.
        module: Name of the innermost module that was running; empty for the model itself.
        line: `file:line` of the innermost code that is neither torch's nor ours; empty if there is none.
    """

    op: OpOverload[..., Any]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    results: tuple[int | None, ...]
    module: str
    line: str

    @property
    def name(self) -> str:
        """The operation's name without `aten::`, in place or not: `add` for `aten::add_.Tensor`."""
        return plain_name(self.op)

    @property
    def given(self) -> dict[str, Any]:
        """Arguments by the names of the operation's schema, without defaults."""
        names = (one.name for one in self.op._schema.arguments)
        return {**dict(zip(names, self.arguments, strict=False)), **self.keywords}


def plain_name(op: OpOverload[..., Any]) -> str:
    """The name by which rules know an operation.

    Args:
        op: An overload.

    Returns:
        Its name without `aten::` and without the underscore of what works in place.

    Example:
        >>> plain_name(torch.ops.aten.relu_.default), plain_name(torch.ops.aten._to_copy.default)
        ('relu', '_to_copy')
    """
    return str(op._schema.name).removeprefix("aten::").rstrip("_")


@dataclass(frozen=True)
class SizeUse:
    """An integer that a torch function was given, and what it says of a tensor.

    Args:
        kind: What it is: `size` of a dimension; how often a dimension of the source is there in this one (`repeat`);
            `start`, `stop` or `step` of a slice, negative ones as they are; `index` of a position; number of `groups`
            of channels; number of `heads` that share a dimension; what attention is divided by the root of (`scale`).
        value: Number of the value it is about: a result for `size` and `repeat` (a layer norm's input), the source for
            the others.
        dim: Which of its dimensions.
        expression: Where the integer came from; a plain integer if that is not known.
        call: Position in the record of the first operation that the function made.
        module: Name of the innermost module that was running.
        line: `file:line` in the user's code, as for a `Call`.
    """

    kind: SizeKind
    value: int
    dim: int
    expression: Expression
    call: int
    module: str
    line: str


@dataclass(frozen=True)
class Amount:
    """An integer that the code computes with as a number, such as the divisor in `x / x.shape[-1] ** 0.5`.

    It must come out the same whatever leaves.

    Args:
        expression: Where the integer came from.
        module: Name of the innermost module that was running.
        line: `file:line` in the user's code, as for a `Call`.
    """

    expression: Expression
    module: str
    line: str


@dataclass(frozen=True)
class RootMeanSquare:
    """A norm by the root of a mean over channels, which a weight and an eps make up for where some leave.

    Args:
        mean: Number of the mean.
        shifted: Number of the mean with eps added.
        weight: Number of the parameter that the normalised value is multiplied by.
        offset: What is added to it before.
        eps: The attribute that holds eps; None if that is not known.
        value: Of eps, as it was recorded.
    """

    mean: int
    shifted: int
    weight: int
    offset: float
    eps: Attribute | None
    value: float


@dataclass(frozen=True)
class Record:
    """A forward pass.

    Args:
        values: All tensors, by number: parameters and buffers, inputs, then the rest as it came up.
        calls: All operations, in order.
        outputs: Numbers of the tensors in the model's output.
        constants: The tensors of source `constant`, by number.
        sizes: The integers given to functions that make, cut or group dimensions, in order.
        amounts: The integers that are computed with, each once.
        training: Whether the pass was made in train mode.
        returned: What the model returned, a `Reference` in place of each tensor.
        norms: Norms by root mean squares that can be made up for.
    """

    values: tuple[Value, ...]
    calls: tuple[Call, ...]
    outputs: tuple[int, ...]
    constants: Mapping[int, Tensor]
    sizes: tuple[SizeUse, ...] = ()
    amounts: tuple[Amount, ...] = ()
    training: bool = False
    returned: Any = None
    norms: tuple[RootMeanSquare, ...] = ()

    def numbers(self, *sources: Source) -> tuple[int, ...]:
        """Numbers of the values that come from somewhere.

        Args:
            *sources: From where.

        Returns:
            The numbers, rising.
        """
        return tuple(number for number, value in enumerate(self.values) if value.source in sources)


def replay(
    record: Record, state: Mapping[str, Tensor], inputs: tuple[Tensor, ...], run: Run | None = None
) -> tuple[Tensor, ...]:
    """Run a record again.

    Args:
        record: Of a forward pass.
        state: Parameters and buffers by name; buffers and inputs are copied, since a pass may change them.
        inputs: The tensors of the example's shapes, in the order in which the record numbers them.
        run: Runs a call in place of its own operation.

    Returns:
        The tensors of the model's output.

    Raises:
        ModelError: A tensor is missing.
    """
    tensors = {number: constant.clone() for number, constant in record.constants.items()}
    for number in record.numbers("parameter", "buffer"):
        value = record.values[number]
        held = next((state[name] for name in value.names if name in state), None)
        if held is None:
            raise ModelError(f"the state to replay with lacks {value.names[0]}; expected all parameters and buffers")
        tensors[number] = held.clone() if value.source == "buffer" else held
    slots = record.numbers("input")
    if len(slots) != len(inputs):
        raise ModelError(f"the record has {len(slots)} inputs; given: {len(inputs)}")
    tensors.update(zip(slots, (one.clone() for one in inputs), strict=True))
    last_use = _last_uses(record)
    with torch.no_grad():
        for position, call in enumerate(record.calls):
            (run or execute)(call, tensors)
            for number in last_use.get(position, ()):
                tensors.pop(number, None)
    return tuple(tensors[number] for number in record.outputs)


def references(call: Call) -> tuple[int, ...]:
    """Numbers of the values that an operation takes.

    Args:
        call: The operation.

    Returns:
        The numbers, in the order of the arguments, repeated ones too.
    """
    found: list[int] = []
    replaced((call.arguments, call.keywords), Reference, lambda one: found.append(one.number))
    return tuple(found)


def replaced(value: Any, kind: Any, function: Callable[[Any], Any]) -> Any:
    """Arguments of an operation with something in place of everything of a kind.

    Torch's pytrees do the same, also for containers that no operation takes, in ten times as long.

    Args:
        value: An argument, or several in tuples, lists and dicts.
        kind: A type, or a tuple of types.
        function: Gives what shall be there.

    Returns:
        The same containers, all else as it was.

    Example:
        >>> replaced((2, [3, "a"]), int, lambda one: one + 1)
        (3, [4, 'a'])
    """
    if isinstance(value, kind):
        return function(value)
    if type(value) is tuple:
        return tuple([replaced(one, kind, function) for one in value])
    if type(value) is list:
        return [replaced(one, kind, function) for one in value]
    if isinstance(value, Mapping):
        return {key: replaced(one, kind, function) for key, one in value.items()}
    return value


def execute(call: Call, tensors: dict[int, Tensor]) -> None:
    """Run one operation.

    Args:
        call: The operation.
        tensors: The values so far by number; its results are put there.
    """
    given = (call.arguments, call.keywords)
    arguments, keywords = replaced(given, Reference, lambda one: tensors[one.number])
    results = call.op(*arguments, **keywords)
    made = zip(call.results, as_list(results), strict=True)
    tensors.update((number, result) for number, result in made if number is not None)


def as_list(results: Any) -> list[Any]:
    """What an operation returned, tensors in lists of it side by side.

    Args:
        results: One result, or several.

    Returns:
        All of them.
    """
    if isinstance(results, list | tuple):
        return [inner for one in results for inner in as_list(one)]
    return [results]


def _last_uses(record: Record) -> dict[int, list[int]]:
    """Numbers of the values that nothing needs after a call."""
    position = {number: at for at, call in enumerate(record.calls) for number in (*references(call), *_made(call))}
    found: dict[int, list[int]] = {}
    for number in position.keys() - set(record.outputs):
        found.setdefault(position[number], []).append(number)
    return found


def _made(call: Call) -> list[int]:
    return [number for number in call.results if number is not None]
