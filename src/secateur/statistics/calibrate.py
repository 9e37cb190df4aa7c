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
from secateur.statistics.batch import Batch
from secateur.statistics.curvature_empirical_fisher import EmpiricalFisher
from secateur.statistics.curvature_exact import Exact
from secateur.statistics.curvature_hutchinson import Hutchinson, HutchinsonGGN
from secateur.statistics.curvature_monte_carlo import MonteCarlo
from secateur.statistics.curvature_recursion import FullRecursion, Recursion
from secateur.statistics.gradient import MeanGradient, Movement, SquaredGradient
from secateur.statistics.input_norm import InputNorm
from secateur.statistics.taylor import TaylorGates, TaylorGroups
from secateur.statistics.values import Statistics
from secateur.statistics.zeros import Zeros
from secateur.units import Units

Loss = Callable[[Any, Any], Tensor]


class Collector(Protocol):
    """What gathers one kind of statistic while batches pass; made anew for every calibration.

    A collector that runs the model once more does so within `running_again()`.
    """

    needs_loss: bool

    def watch(self, model: nn.Module, groups: Mapping[str, Units]) -> Iterable[Any]:
        """Put hooks on the model; their handles are removed when the calibration ends, however it ends.

        The groups are those that are pruned; none where they are not known.
        """
        ...

    def batch(self, batch: Batch) -> None:
        """Take in a batch that has just gone through the model."""
        ...

    def result(self) -> Statistics:
        """The statistic, of parameters or of units."""
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
    "squared_gradient": SquaredGradient,
    "movement": Movement,
    "taylor_groups": TaylorGroups,
    "taylor_gates": TaylorGates,
    "curvature_recursion": Recursion,
    "curvature_full_recursion": FullRecursion,
    "curvature_exact": Exact,
    "curvature_monte_carlo": MonteCarlo,
    "curvature_hutchinson": Hutchinson,
    "curvature_hutchinson_ggn": HutchinsonGGN,
    "curvature_empirical_fisher": EmpiricalFisher,
}
"""The statistics there are, by the name that criteria use in `needs`."""


def calibrate(
    model: nn.Module,
    batches: Iterable[tuple[Any, Any]],
    needs: Iterable[str],
    *,
    loss: Loss | None = None,
    units: Mapping[str, Units] | None = None,
    collectors: Mapping[str, Callable[[], Collector]] | None = None,
) -> Statistics:
    """Collect statistics in one streaming pass; memory does not grow with the data.

    The model runs in evaluation mode and is left as it was: mode, gradients, buffers.

    Args:
        model: The model.
        batches: Pairs of inputs and targets. Inputs that are a tuple, list or dict are unpacked into the call.
        needs: Which statistics: names of `COLLECTORS`.
        loss: From outputs and targets to a scalar, mean over the batch; wanted by all but `"input_norm"`.
        units: The groups to prune, for statistics that are a number per unit.
        collectors: Others, by name, or some of these with other settings, such as
            `{"curvature_hutchinson": partial(Hutchinson, probes=30)}`.

    Returns:
        The statistics.

    Raises:
        DataError: No batch came, a loss is missing, or a statistic is not finite.
        UnknownNameError: No such statistic.

    Shapes:
        Gradients and curvatures have the shapes of parameters, an input norm `(I,)`, statistics of units `(n_units,)`.

    Example:
        The gradient of the mean of `2 w` over two samples, 1 and 3, is `(1 + 3) / 2`:

        >>> line = nn.Linear(1, 1, bias=False)
        >>> data = [(torch.tensor([[1.0], [3.0]]), None)]
        >>> calibrate(line, data, ["gradient"], loss=lambda y, _: y.mean()).of("gradient", "weight")
        tensor([[2.]])
    """
    wanted = sorted(set(needs))
    known = {**COLLECTORS, **(collectors or {})}
    for name in wanted:
        if name not in known:
            raise UnknownNameError("statistic", name, known)
    chosen = [known[name]() for name in wanted]
    losing = any(collector.needs_loss for collector in chosen)
    if losing and loss is None:
        raise DataError(f"{wanted} need a loss: pass loss=..., a function of outputs and targets")
    stream = iter(batches)
    first = list(islice(stream, 1))
    for batch in first:
        _prepare(model, batch, chosen)
    with _watching(model, chosen, units or {}):
        samples = _pass(model, chain(first, stream), chosen, loss if losing else None)
    return united([collector.result() for collector in chosen], samples)


def _prepare(model: nn.Module, batch: Any, collectors: Iterable[Collector]) -> None:
    inputs, _ = pair(batch)
    for collector in collectors:
        if isinstance(collector, Prepared):
            collector.prepare(model, to_device(inputs, device_of(model)))


@contextmanager
def _watching(model: nn.Module, collectors: Iterable[Collector], groups: Mapping[str, Units]) -> Iterator[None]:
    with ExitStack() as stack:
        for collector in collectors:
            for handle in collector.watch(model, groups):
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
            collector.batch(Batch(inputs, targets, outputs, size, value, loss))
        total += size
    if total == 0:
        raise DataError(
            "the data for the statistics held no batch: is the loader exhausted, or a generator used twice?"
        )
    return total


def united(found: Iterable[Statistics], samples: int) -> Statistics:
    """Several statistics as one, checked.

    Args:
        found: Each of its own kinds.
        samples: How many samples they were taken over.

    Returns:
        The statistics.

    Raises:
        DataError: A number is not finite.
    """
    values: dict[str, Mapping[str, Tensor]] = {}
    units: dict[str, Mapping[str, Tensor]] = {}
    for one in found:
        for kind, numbers in (*one.values.items(), *one.units.items()):
            _check_finite(kind, numbers)
        values |= one.values
        units |= one.units
    return Statistics(values, samples, units)


def _check_finite(kind: str, values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        if not bool(torch.isfinite(value).all()):
            raise DataError(f"{kind!r} of {name!r} is not finite: look for NaN or infinity in the data or the loss")
