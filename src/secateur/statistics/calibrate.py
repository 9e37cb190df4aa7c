"""`calibrate`: one pass over data that collects all the statistics asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain, islice
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from secateur.batches import call, device_of, mode, pair, samples_in, to_device
from secateur.errors import DataError, UnknownNameError
from secateur.statistics.gradient import MeanGradient
from secateur.statistics.input_norm import InputNorm
from secateur.statistics.values import Statistics
from secateur.statistics.zeros import Zeros

Loss = Callable[[Any, Any], Tensor]


class Collector(Protocol):
    """What gathers one kind of statistic while batches pass; made anew for every calibration."""

    needs_loss: bool

    def watch(self, model: nn.Module) -> Iterable[Any]:
        """Put hooks on the model; their handles are removed when the calibration ends, however it ends."""
        ...

    def batch(self, loss: Tensor | None, samples: int) -> None:
        """Take in a batch that has just gone through the model."""
        ...

    def result(self) -> dict[str, Tensor]:
        """The statistic of each parameter."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """A collector that looks at the model and the first inputs before any collector puts its hooks on."""

    def prepare(self, model: nn.Module, inputs: Any) -> None:
        """Look at them, and leave the model as it is."""
        ...


COLLECTORS: Mapping[str, Callable[[], Collector]] = {
    "gradient": MeanGradient,
    "input_norm": InputNorm,
    "zeros": Zeros,
}
"""The statistics there are, by the name that criteria use in `needs`."""


def calibrate(
    model: nn.Module, batches: Iterable[tuple[Any, Any]], needs: Iterable[str], *, loss: Loss | None = None
) -> Statistics:
    """Collect statistics in one streaming pass; memory does not grow with the data.

    The model runs in evaluation mode and is left as it was: mode, gradients, buffers.

    Args:
        model: The model.
        batches: Pairs of inputs and targets. Inputs that are a tuple, list or dict are unpacked into the call.
        needs: Which statistics: names of `COLLECTORS`.
        loss: From outputs and targets to a scalar, mean over the batch; wanted by `"gradient"`.

    Returns:
        The statistics.

    Raises:
        DataError: No batch came, a loss is missing, or a statistic is not finite.
        UnknownNameError: No such statistic.

    Example:
        The gradient of the mean of `2 w` over two samples, 1 and 3, is `(1 + 3) / 2`:

        >>> line = nn.Linear(1, 1, bias=False)
        >>> data = [(torch.tensor([[1.0], [3.0]]), None)]
        >>> calibrate(line, data, ["gradient"], loss=lambda y, _: y.mean()).of("gradient", "weight")
        tensor([[2.]])
    """
    wanted = sorted(set(needs))
    for name in wanted:
        if name not in COLLECTORS:
            raise UnknownNameError("statistic", name, COLLECTORS)
    collectors = {name: COLLECTORS[name]() for name in wanted}
    losing = any(collector.needs_loss for collector in collectors.values())
    if losing and loss is None:
        raise DataError(f"{wanted} need a loss: pass loss=..., a function of outputs and targets")
    stream = iter(batches)
    first = list(islice(stream, 1))
    for batch in first:
        _prepare(model, batch, collectors.values())
    with _watching(model, collectors.values()):
        samples = _pass(model, chain(first, stream), collectors.values(), loss if losing else None)
    return Statistics({name: _finite(name, collector.result()) for name, collector in collectors.items()}, samples)


def _prepare(model: nn.Module, batch: Any, collectors: Iterable[Collector]) -> None:
    inputs, _ = pair(batch)
    for collector in collectors:
        if isinstance(collector, Prepared):
            collector.prepare(model, to_device(inputs, device_of(model)))


@contextmanager
def _watching(model: nn.Module, collectors: Iterable[Collector]) -> Iterator[None]:
    with ExitStack() as stack:
        for collector in collectors:
            for handle in collector.watch(model):
                stack.callback(handle.remove)
        stack.enter_context(mode(model, training=False))
        yield


def _pass(model: nn.Module, batches: Iterable[Any], collectors: Iterable[Collector], loss: Loss | None) -> int:
    total = 0
    device = device_of(model)
    for batch in batches:
        inputs, targets = (to_device(part, device) for part in pair(batch))
        with torch.set_grad_enabled(loss is not None):
            outputs = call(model, inputs)
            value = loss(outputs, targets) if loss is not None else None
        size = samples_in(inputs)
        for collector in collectors:
            collector.batch(value, size)
        total += size
    if total == 0:
        raise DataError(
            "the data for the statistics held no batch: is the loader exhausted, or a generator used twice?"
        )
    return total


def _finite(name: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
    for parameter, value in values.items():
        if not bool(torch.isfinite(value).all()):
            raise DataError(
                f"{name!r} of {parameter!r} is not finite: look for NaN or infinity in the data or the loss"
            )
    return values
