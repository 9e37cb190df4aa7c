"""Share of zeros behind a layer's output channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.dependency import record
from secateur.dependency.record import plain_name
from secateur.errors import DataError, ModelError
from secateur.statistics.batch import Batch, counted_already
from secateur.statistics.channel_sums import ChannelSums
from secateur.statistics.function_calls import FirstPass, LaterPass, Seen
from secateur.statistics.rectifiers import RECTIFIERS, Rectifiers, Source, counted_dims, is_rectifier, rectifiers
from secateur.statistics.values import Statistics
from secateur.units import Units

# Single precision counts exactly up to here.
EXACT = 2**24


class Zeros:
    """Share of zeros among what the rectifier behind a layer puts out, for each output channel of the layer.

    `zeros_c = #{samples, positions: rectified value of channel c is 0} / #{samples, positions}`

    The rectifiers are found by recording the model on the first batch: whatever is exactly zero on a half line (relu,
    relu6, a clamp or threshold at 0, hardswish), called as a module or a function, in place or not. A layer is read by
    the rectifiers that its outputs come to first, through norms, pooling, sums, concatenation and reshaping; if there
    are several, such as along a residual stream, their counts are added. Channels of a layer that none of them reads,
    beside others that one does, are never zero. Memory does not grow with the data.

    Stored per weight parameter, shaped so that it multiplies the weight: `(O, 1, 1, 1)` for a convolution,
    `(1, O, 1, 1)` for a transposed one.

    Reference:
        Hu, Peng, Tai, Tang (2016), Network Trimming: A Data-Driven Neuron Pruning Approach towards Efficient Deep
        Architectures.
    """

    needs_loss = False

    def __init__(self) -> None:
        """Start empty."""
        self._counter: _Counter | None = None

    def prepare(self, model: nn.Module, inputs: Any) -> None:
        """Find the rectifiers.

        Args:
            model: The model.
            inputs: Of the first batch.

        Raises:
            ModelError: No rectifier reads the outputs of a layer.
        """
        found = rectifiers(record(model, inputs))
        if not found.sources:
            raise ModelError(
                f"zeros are counted behind rectifiers, and none reads a layer of {type(model).__name__}; activations "
                f"seen: {', '.join(found.smooth) or 'none'}. Use a criterion that needs no zeros, such as magnitude()"
            )
        self._counter = _Counter(found, type(model).__name__)

    def watch(self, model: nn.Module, groups: Mapping[str, Units]) -> Iterable[Any]:  # noqa: ARG002
        """Count while the model runs.

        Args:
            model: The model.
            groups: Not looked at.

        Returns:
            What ends the counting.
        """
        gate = _Gate(self._prepared)
        return (
            model.register_forward_pre_hook(gate.enter, prepend=True),
            model.register_forward_hook(gate.leave, always_call=True),
            gate,
        )

    @property
    def _prepared(self) -> _Counter:
        if self._counter is None:
            raise DataError("zeros are counted once prepare(model, inputs) has found the rectifiers; call it first")
        return self._counter

    def batch(self, batch: Batch) -> None:  # noqa: ARG002
        """Check that the batch went the way of the first.

        Args:
            batch: Not looked at.
        """
        self._prepared.end()

    def result(self) -> Statistics:
        """The shares.

        Returns:
            For each weight that a rectifier reads, a tensor broadcastable to it, between 0 and 1.
        """
        counter = self._prepared
        shares = {source.name: source.beside(counter.share(source)) for source in counter.found.sources}
        return Statistics({"zeros": shares})


@dataclass
class _Count:
    """What was counted along one dimension of a rectifier's results."""

    nonzeros: Tensor
    total: int = 0


class _Counter(TorchDispatchMode):
    """Counts the nonzeros of each rectifier call of a pass, the calls being told by their order.

    In the first pass every operation is looked at. Where each rectifier's result turns out to be what a function of
    torch returned, later passes look at calls of these functions only.
    """

    def __init__(self, found: Rectifiers, of: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found, self.of, self.at, self.sums = found, of, 0, ChannelSums()
        self.seen = Seen()
        self.modes: tuple[FirstPass | LaterPass | _Counter, ...] = (FirstPass(self.seen), self)
        self.counts = {
            place: _Count(torch.zeros(found.shapes[place[0]][place[1]], dtype=torch.float64))
            for place in counted_dims(found)
        }
        self.dims: dict[int, list[int]] = {}
        for at, dim in self.counts:
            self.dims.setdefault(at, []).append(dim)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if is_rectifier(func, args, kwargs or {}):
            self.take(result, plain_name(func), known=False)
            self.seen.count, self.seen.last = self.seen.count + 1, result
        return result

    def take(self, result: Tensor, name: str, known: bool) -> None:
        """Count in what the next rectifier put out.

        Args:
            result: It.
            name: Of the rectifier, as an operation or as a function.
            known: Whether the first batch called this function; its operation may have another name.

        Raises:
            DataError: The first batch had no such rectifier.
        """
        calls, at = self.found.calls, self.at
        self.at += 1
        same = at < len(calls) and (known or name == calls[at].name) and result.ndim == len(self.found.shapes[at])
        if not same:
            raise self._other(f"its rectifier number {at + 1} is {name} of {tuple(result.shape)}")
        for dim in self.dims.get(at, ()):
            self._add(self.counts[at, dim], result, dim)

    def _add(self, count: _Count, result: Tensor, dim: int) -> None:
        channels = result.shape[dim]
        if channels != len(count.nonzeros):
            raise self._other(f"rectifier number {self.at} gets {channels} channels, not {len(count.nonzeros)}")
        positions = result.numel() // max(1, channels)
        if positions > EXACT:
            others = [one for one in range(result.ndim) if one != dim]
            nonzeros = torch.count_nonzero(result, others) if others else result.ne(0)
        else:
            nonzeros = self.sums.nonzeros(result, dim)
        count.nonzeros = count.nonzeros.to(result.device) + nonzeros.double()
        count.total += positions

    def end(self) -> None:
        """After each batch."""
        at, self.at = self.at, 0
        first, *_ = self.modes
        same = first.end() if isinstance(first, LaterPass) else True
        if at != len(self.found.calls) or not same:
            raise self._other(f"it ends after {at} rectifiers")
        if isinstance(first, FirstPass):
            order = first.order()
            self.modes = (self,) if order is None else (LaterPass(order, RECTIFIERS, self.take),)
        self.seen.count, self.seen.last = 0, None

    def _other(self, how: str) -> DataError:
        wanted = ", ".join(call.name for call in self.found.calls)
        return DataError(
            f"{self.of} takes another way for this batch than for the first: {how}; expected as in the first batch "
            f"{wanted}. Give batches for which the model runs the same operations"
        )

    def share(self, source: Source) -> Tensor:
        """The share of zeros of each output channel of a weight."""
        zeros, totals = torch.zeros(2, source.channels, dtype=torch.float64)
        for one in source.readings:
            count = self.counts[one.rectifier, one.dim]
            here = one.positions >= 0
            each, units = one.positions[here], int(one.units.max()) + 1
            lies = torch.bincount(each, minlength=units).double() * count.total
            nonzeros = lies.new_zeros(units).index_add(0, each, count.nonzeros.cpu()[here])
            zeros += (lies - nonzeros)[one.units]
            totals += lies[one.units]
        first = source.readings[0]
        share: Tensor = (zeros / totals.clamp(min=1)).float()
        return share.to(self.counts[first.rectifier, first.dim].nonzeros.device)


class _Gate:
    """Lets a counter in when the model starts and out when it ends, however it ends."""

    def __init__(self, counter: _Counter) -> None:
        self.counter = counter
        self.inside: ExitStack | None = None
        self.fast = True

    def enter(self, *_: Any) -> None:
        if counted_already():
            return
        # The fused path of attention layers hides their rectifiers; the record has gone around it too.
        self.fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        self.inside = ExitStack()
        for one in self.counter.modes:
            self.inside.enter_context(one)

    def leave(self, *_: Any) -> None:
        self.remove()

    def remove(self) -> None:
        """End the counting, unless it has ended; a pass that was interrupted has not called its hooks."""
        if self.inside:
            self.inside.close()
            self.inside = None
            torch.backends.mha.set_fastpath_enabled(self.fast)
