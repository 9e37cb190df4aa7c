"""Small things that every loop over data needs: groups of batches, devices, how a model is called."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager, suppress
from itertools import islice
from operator import length_hint
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from secateur.errors import DataError

T = TypeVar("T")


def grouped(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one perhaps shorter.

    Args:
        items: What to group.
        size: At least 1.

    Yields:
        The next items.

    Example:
        >>> list(grouped("abcde", 2))
        [['a', 'b'], ['c', 'd'], ['e']]
    """
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


def pair(batch: Any) -> tuple[Any, Any]:
    """A batch as its two parts.

    Args:
        batch: Inputs and targets.

    Returns:
        Inputs, targets.

    Raises:
        DataError: It is no pair.

    Example:
        >>> pair([torch.zeros(2), None])
        (tensor([0., 0.]), None)
    """
    if not isinstance(batch, Tensor | Mapping | str):  # which would come apart into samples, keys, letters
        with suppress(TypeError, ValueError):
            inputs, targets = batch
            return inputs, targets
    length = f" of length {length_hint(batch)}" if isinstance(batch, Sized) else ""
    raise DataError(
        f"a batch is a {type(batch).__name__}{length}; expected a pair (inputs, targets). Wrap the data so that it"
        " yields pairs"
    )


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's first parameter.

    Args:
        model: Any module.

    Returns:
        The device; the CPU for a model without parameters.

    Example:
        >>> device_of(nn.Linear(2, 2))
        device(type='cpu')
    """
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def to_device(value: Any, device: torch.device) -> Any:
    """Tensors moved to a device, also inside dicts, lists and tuples.

    Args:
        value: A tensor, a container of tensors, or anything else, which is left alone.
        device: Where to.

    Returns:
        The value on that device.
    """
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, PackedSequence):  # a named tuple, but one part of it stays on the CPU
        return value.to(device)  # type: ignore[arg-type]
    if isinstance(value, Mapping):
        return {key: to_device(inner, device) for key, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(to_device(inner, device) for inner in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a named tuple
        return type(value)(*(to_device(inner, device) for inner in value))
    return value


def call(model: nn.Module, inputs: Any) -> Any:
    """Run a model on one batch of inputs.

    Args:
        model: Any module.
        inputs: A tuple or list is passed as positional arguments, a dict as keyword arguments,
            anything else as the only argument.

    Returns:
        The model's output.

    Example:
        >>> call(nn.Bilinear(1, 2, 3), (torch.zeros(5, 1), torch.zeros(5, 2))).shape
        torch.Size([5, 3])
    """
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, list | tuple):
        return model(*inputs)
    return model(inputs)


def samples_in(inputs: Any) -> int:
    """How many samples a batch has: the length of its first tensor.

    Args:
        inputs: A tensor, or a list, tuple or dict of tensors.

    Returns:
        The number.

    Example:
        >>> samples_in((torch.zeros(5, 2), torch.zeros(5)))
        5
    """
    if isinstance(inputs, Mapping):
        return samples_in(next(iter(inputs.values())))
    if isinstance(inputs, list | tuple):
        return samples_in(inputs[0])
    return len(inputs)


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Generator[None, None, None]:
    """Put a model in train or eval mode, and every module back into its own mode at the end.

    Args:
        model: Any module.
        training: True: train mode. False: eval mode.

    Yields:
        Nothing.

    Example:
        >>> dropout = nn.Dropout()
        >>> with mode(dropout, training=False):
        ...     dropout.training
        False
        >>> dropout.training
        True
    """
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        _back(before)


def drop_caches(model: nn.Module) -> None:
    """Let modules forget what they have computed from their parameters, as some do in eval mode.

    Those that keep such values drop them, or compute them anew, when `train` or `eval` is called. So both are, and
    every module is in its own mode at the end.

    Args:
        model: A model whose parameters have been changed.
    """
    before = [(module, module.training) for module in model.modules()]
    model.train(not model.training)
    model.train(before[0][1])
    _back(before)


def _back(modes: list[tuple[nn.Module, bool]]) -> None:
    """Every module into a mode of its own; a module comes before those inside it."""
    for module, training in modes:
        if module.training != training:
            module.train(training)
    for module, training in modes:
        module.training = training
