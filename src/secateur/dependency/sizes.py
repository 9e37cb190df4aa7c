"""Watch which sizes a forward pass reads, and which integers it gives to torch's functions."""

from __future__ import annotations

from collections.abc import Sized
from numbers import Integral
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from secateur.dependency.numbers import Expression, Number, Size, Trace, expression_of
from secateur.dependency.record import Amount, SizeUse
from secateur.dependency.size_rules import RULES, Given, Noted

READS = frozenset({Tensor.shape.__get__, Tensor.size})  # type: ignore[attr-defined]


class Watched(Protocol):
    """What is told of the recording."""

    @property
    def calls(self) -> Sized:
        """The operations so far."""

    def number_of(self, tensor: Tensor) -> int | None:
        """The number of a tensor's value, if it has been seen."""

    def place(self) -> tuple[str, str]:
        """The module and the line that are running."""


class SizeMode(TorchFunctionMode):
    """Lets sizes remember their tensor; notes integers that make, cut or group dimensions or are computed with.

    It sees what the model's own code calls. What torch's Python functions call in turn stays unseen: nothing is noted
    of the views within `F.multi_head_attention_forward`. A function that caches what it computed from sizes hands out
    the origin of the first ones.

    Args:
        recording: The recording it is part of.
        trace: Of the numbers that are made; None: sizes stay plain integers.
    """

    def __init__(self, recording: Watched, trace: Trace | None) -> None:
        super().__init__()
        self.recording = recording
        self.trace = trace
        self.uses: list[SizeUse] = []
        self.amounts: dict[Expression, Amount] = {}
        if trace is not None:
            trace.notice = self.computed_with

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in READS:
            return self._read(Given(args, kwargs), func(*args, **kwargs))
        if func is functional.scaled_dot_product_attention:
            self._scaled(Given(args, kwargs))
        rule = RULES.get(func)
        if rule is None:
            self._arguments((args, kwargs))
            return func(*args, **kwargs)
        given, calls = Given(args, kwargs), len(self.recording.calls)
        # an assignment may leave the source as another value
        source = given.source
        before = self.recording.number_of(source) if isinstance(source, Tensor) else None
        result = func(*args, **kwargs)
        noted = list(rule(given, result))
        if noted:
            self._note(noted, {id(source): before} if before is not None else {}, calls)
        return result

    def computed_with(self, expression: Expression) -> None:
        """Note that the value of an integer itself counts."""
        if expression not in self.amounts and not isinstance(expression, int):
            self.amounts[expression] = Amount(expression, *self.recording.place())

    def _scaled(self, given: Given) -> None:
        """Attention divides by the root of a head's size, out of sight where it runs as plain operations.

        Fused, it takes queries, keys and values of one size, so the size of values is noted too.
        """
        if given.one(6, "scale") is None:
            sides = (given.one(0, "query"), given.one(2, "value"))
            noted: list[Noted] = [("scale", one, one.dim() - 1, one.shape[-1]) for one in sides]
            self._note(noted, {}, len(self.recording.calls))

    def _arguments(self, value: Any) -> None:
        """A function of which nothing is known has to be given the same integers."""
        if isinstance(value, Number):
            self.computed_with(value.expression)
        elif isinstance(value, list | tuple):
            for one in value:
                self._arguments(one)
        elif isinstance(value, dict):
            self._arguments(list(value.values()))

    def _read(self, given: Given, result: Any) -> Any:
        """Sizes as numbers, if the tensor has been seen."""
        value = self.recording.number_of(given.source)
        if value is None or self.trace is None:
            return result
        if isinstance(result, tuple):
            return torch.Size([Number(size, Size(value, dim), self.trace) for dim, size in enumerate(result)])
        dim = given.one(1, "dim")
        if not isinstance(dim, Integral):
            return result
        return Number(result, Size(value, int(dim) % given.source.dim()), self.trace)

    def _note(self, noted: list[Noted], before: dict[int, int], calls: int) -> None:
        module, line = self.recording.place()
        for kind, tensor, dim, given in noted:
            number = _integer(given)
            value = before.get(id(tensor), self.recording.number_of(tensor))
            if value is None or not isinstance(number, Integral) or not -tensor.dim() <= dim < tensor.dim():
                continue
            at = int(dim) % tensor.dim()
            # -1, the shorter last piece of a split, bounds that were clamped
            if kind == "size" and number != tensor.shape[at]:
                continue
            expression = int(number) if kind == "step" else expression_of(number)  # type: ignore[arg-type]
            self.uses.append(SizeUse(kind, value, at, expression, calls, module, line))


def _integer(given: Any) -> Any:
    """The integer in a tensor that has a value, such as a bound of a slice that was computed with tensors."""
    if not isinstance(given, Tensor):
        return given
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        whole = given.numel() == 1 and not given.is_meta and not given.is_floating_point() and not given.is_complex()
        return int(given) if whole else None
