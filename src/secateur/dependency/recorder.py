"""Watch a forward pass and write down what it does."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from secateur import batches
from secateur.batches import call, device_of, drop_caches, mode, to_device
from secateur.dependency.deadline import Deadline, OutOfTime
from secateur.dependency.hygiene import buffers_kept, modules, norms_in_eval, quiet
from secateur.dependency.numbers import Number
from secateur.dependency.record import (
    Amount,
    Call,
    Record,
    Reference,
    SizeUse,
    Source,
    Value,
    as_list,
    references,
    replaced,
)
from secateur.dependency.root_mean_square import traced
from secateur.dependency.sizes import SizeMode
from secateur.dependency.skeleton import skeleton
from secateur.dependency.tagging import INTERNAL, tagged
from secateur.errors import ModelError

# Not the code of a user's model.
OWN = (*(str(Path(place).parent) for place in (torch.__file__, __file__)), batches.__file__)


def record(
    model: nn.Module,
    example: Any,
    *,
    compute: bool | None = None,
    training: bool = False,
    deadline: Deadline | None = None,
) -> Record:
    """Write down every operation of a forward pass, without gradients.

    Without computing, parameters count as tensors without values, and so does all that is computed from them; what is
    not, such as positions and masks, has values. The model is left as it was: its modes, the values of its buffers, its
    hooks, its attributes other than integers and the like that it sets itself; so are the example and torch's random
    generator. What it has cached in eval mode is forgotten for the pass.

    While it runs, the integers it holds and the sizes it reads are numbers that know their origin; if it fails with
    them, it is recorded again with plain ones.

    Args:
        model: Any module.
        example: Inputs of a batch, as `finetune` takes them.
        compute: Whether values are really computed; None: only if the pass looks at them.
        training: Whether in train mode, but for batch norms; else in eval mode.
        deadline: When it has to be done; looked at with every operation.

    Returns:
        The record.

    Raises:
        ModelError: The forward pass fails on the example, or returns no tensor.
        OutOfTime: It takes too long.

    Example:
        >>> found = record(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.zeros(1, 3))
        >>> [(str(one.op), one.module) for one in found.calls]
        [('aten.t.default', '0'), ('aten.addmm.default', '0'), ('aten.relu.default', '1')]
        >>> [found.values[number].names for number in found.numbers("parameter")]
        [('0.weight',), ('0.bias',)]
    """
    ways = [(False, True), (True, True), (True, False)] if compute is None else [(compute, True), (compute, False)]
    for computed, numbered in ways[:-1]:
        try:
            return _with_norms(
                model, example, compute=computed, numbered=numbered, training=training, deadline=deadline
            )
        except OutOfTime:
            raise
        except Exception:  # noqa: S112  whatever it is: the plainest pass shows whether the model is at fault
            continue
    return _with_norms(model, example, compute=ways[-1][0], numbered=False, training=training, deadline=deadline)


def _with_norms(model: nn.Module, example: Any, **how: Any) -> Record:
    """A record that knows its norms by root mean squares; if there may be some, the pass is made twice."""
    found = _recorded(model, example, **how)
    return dataclasses.replace(found, norms=traced(model, found, lambda: _recorded(model, example, **how)))


def record_all(model: nn.Module, example: Any, *, deadline: Deadline | None = None) -> Record:
    """Write down a forward pass that reads all parameters, if one of both modes does.

    Heads that help while training are only run in train mode, and have to fit the smaller model there.

    Args:
        model: Any module.
        example: Inputs of a batch.
        deadline: As for `record`.

    Returns:
        The record in eval mode; that in train mode if it reads the same parameters and more.

    Raises:
        OutOfTime: It takes too long.
    """
    found = record(model, example, deadline=deadline)
    read = read_in(found)
    if not read.issuperset(found.numbers("parameter")):
        try:
            trained = record(model, example, training=True, deadline=deadline)
        except OutOfTime:
            raise
        except ModelError:  # such as a batch norm of a single value
            return found
        if read < read_in(trained):
            return trained
    return found


def read_in(found: Record) -> set[int]:
    """Numbers of the parameters that operations read.

    Args:
        found: A forward pass.

    Returns:
        The numbers.
    """
    return set(found.numbers("parameter")).intersection(one for call in found.calls for one in references(call))


def _recorded(
    model: nn.Module, example: Any, *, compute: bool, numbered: bool, training: bool, deadline: Deadline | None
) -> Record:
    example = tree_map_only(Tensor, torch.clone, to_device(example, device_of(model)))
    recorder = _Recorder(model, example, compute=compute, deadline=deadline)
    try:
        with (
            quiet(),
            buffers_kept(model),
            _caches_kept(model),
            mode(model, training=training),
            norms_in_eval(model),
            modules(model) as recorder.stack,
            tagged(model) if numbered else nullcontext() as trace,
            recorder,
            SizeMode(recorder, trace) as sizes,
        ):
            output = call(model, example)
    except OutOfTime:
        raise
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} failed on the example{recorder.failed}: {type(error).__name__}: {error}. "
            "Give inputs as the model takes them"
        ) from error
    found = recorder.finished(output, tuple(sizes.uses), tuple(sizes.amounts.values()))
    return dataclasses.replace(found, training=training)


class _Recorder(TorchDispatchMode):
    """Numbers every tensor and notes every operation."""

    def __init__(self, model: nn.Module, example: Any, *, compute: bool, deadline: Deadline | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.compute, self.deadline, self.of = compute, deadline, type(model).__name__
        self.device = device_of(model)
        self.values: list[Value] = []
        self.calls: list[Call] = []
        self.constants: dict[int, Tensor] = {}
        self.stack: list[str] = []
        self.failed = ""  # where an operation failed, in words
        self.numbers = WeakTensorKeyDictionary()
        self.bare: dict[int, Tensor] = {}  # by id of a parameter, which lives as long as the model: it without values
        for source, named in (("parameter", model.named_parameters), ("buffer", model.named_buffers)):
            self._held(source, named)  # type: ignore[arg-type]
        for tensor in tensors_in(example):
            self._number(tensor, "input")

    def _held(self, source: Source, named: Any) -> None:
        names: dict[int, list[str]] = {}
        held: dict[int, Tensor] = {}
        for name, tensor in named(remove_duplicate=False):
            names.setdefault(id(tensor), []).append(name)
            held[id(tensor)] = tensor
        for key, tensor in held.items():
            self._number(tensor, source, tuple(names[key]))
            if source == "parameter" and not self.compute:
                self.bare[key] = _without_values(tensor)

    def _number(self, tensor: Tensor, source: Source, names: tuple[str, ...] = ()) -> int:
        number = len(self.values)
        self.values.append(Value(tuple(tensor.shape), tensor.dtype, source, names))
        self.numbers[tensor] = number
        return number

    def _reference(self, tensor: Tensor) -> Reference:
        number = self.numbers.get(tensor)
        if number is None:
            number = self._number(tensor, "constant")
            self.constants[number] = tensor.detach().clone()
        return Reference(number)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():  # sizes that are read here are not the model's
            return self._run(func, args, self._on_device(kwargs or {}))

    def _run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if self.deadline is not None:
            self.deadline.check(self._stage)
        arguments, keywords = replaced((tuple(args), kwargs), (Tensor, Number), self._plain)
        try:
            results = func(*args, **kwargs) if self.compute else self._without_computing(func, args, kwargs)
        except Exception:
            self.failed = f", in {self.where() or 'its own forward'}"
            raise
        numbers = tuple(self._number(one, "computed") if isinstance(one, Tensor) else None for one in as_list(results))
        self.calls.append(Call(func, arguments, keywords, numbers, *self.place()))
        return results

    def _plain(self, argument: Tensor | Number) -> Reference | int:
        return self._reference(argument) if isinstance(argument, Tensor) else int(argument)

    def _without_computing(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operation; if it touches a tensor without values, the result has none."""
        given: list[Tensor] = []
        replaced((args, kwargs), Tensor, given.append)
        if not any(one.is_meta or id(one) in self.bare for one in given):
            return func(*args, **kwargs)
        bare_args, bare_kwargs = replaced((args, kwargs), Tensor, self._bared)
        if bare_kwargs.get("device") is not None:
            bare_kwargs["device"] = torch.device("meta")
        results = _like_a_norm(func, bare_args) or func(*bare_args, **bare_kwargs)
        # an operation in place returns the object that it was given
        return args[0] if args and results is bare_args[0] else results

    def _on_device(self, keywords: dict[str, Any]) -> dict[str, Any]:
        """A tensor made beside one without values is meant to be where the model is."""
        if self.compute or keywords.get("device") is None or torch.device(keywords["device"]).type != "meta":
            return keywords
        return {**keywords, "device": self.device}

    def _bared(self, tensor: Tensor) -> Tensor:
        return self.bare[id(tensor)] if id(tensor) in self.bare else _without_values(tensor)

    def where(self) -> str:
        """The innermost module that is running."""
        return self.stack[-1] if self.stack else ""

    def place(self) -> tuple[str, str]:
        """The module and the line that are running."""
        return self.where(), _line()

    def _stage(self) -> str:
        module, line = self.place()
        where = f" at {line}" if line else ""
        return (
            f"{self.of} was still running on the example: {len(self.calls)} operations were recorded, the last "
            f"in {module or 'its own forward'}{where}"
        )

    def number_of(self, tensor: Tensor) -> int | None:
        """The number of a tensor's value, if it has been seen."""
        number: int | None = self.numbers.get(tensor)
        return number

    def finished(self, output: Any, sizes: tuple[SizeUse, ...], amounts: tuple[Amount, ...]) -> Record:
        """The record, once the model has returned."""
        outputs = tuple(self._reference(one).number for one in tensors_in(output))
        if not outputs:
            raise ModelError(
                f"the model returned a {type(output).__name__} without tensors that can be found; expected tensors, "
                "also in tuples, lists, dicts and dataclasses"
            )
        returned = skeleton(output, self._reference, tensors_in)
        return Record(tuple(self.values), tuple(self.calls), outputs, self.constants, sizes, amounts, returned=returned)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in a value, also in containers, dataclasses and what pytrees know.

    Args:
        value: Anything.

    Yields:
        The tensors, in order.
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from tensors_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from tensors_in(inner)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors_in(getattr(value, field.name))
    else:
        leaves = tree_leaves(value)
        if not (len(leaves) == 1 and leaves[0] is value):
            yield from tensors_in(leaves)


def _without_values(tensor: Tensor) -> Tensor:
    if tensor.is_meta:
        return tensor
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _like_a_norm(func: Any, args: Any) -> tuple[Tensor, ...] | None:
    """What a batch norm in eval mode returns, which torch finds out by carrying out all its parts."""
    if func is not torch.ops.aten.native_batch_norm.default or args[5]:
        return None
    return torch.empty_like(args[0]), args[0].new_empty(0), args[0].new_empty(0)


def _line() -> str:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<") or name.startswith(OWN):
            if name == __file__ and frame.f_code.co_name == "record":
                return ""
            frame = frame.f_back
            continue
        return f"{name}:{frame.f_lineno}"
    return ""


@contextmanager
def _caches_kept(model: nn.Module) -> Generator[None, None, None]:
    """Attributes that hold tensors as they were: what a pass caches may have no values."""
    modules = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    held = [
        (vars(module), {key: one for key, one in vars(module).items() if key not in INTERNAL}) for module in modules
    ]
    inside = [(one, one.copy()) for _, saved in held for one in saved.values() if type(one) in (dict, list)]
    try:
        drop_caches(model)
        yield
    finally:
        for attributes, saved in held:
            for key in [key for key in attributes if key not in INTERNAL and _holds_tensors(attributes[key])]:
                if key in saved:
                    attributes[key] = saved[key]
                else:
                    del attributes[key]
        for container, items in inside:
            if _holds_tensors(container):
                container.clear()
                container.extend(items) if isinstance(container, list) else container.update(items)


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Tensor | list | tuple | dict) and next(tensors_in(value), None) is not None
