"""The layers whose outputs can be reconstructed, in the order in which they run, and what follows them directly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from secateur.batches import call, device_of, pair, to_device
from secateur.errors import DataError
from secateur.granularity.layers import CONVOLUTIONS, LayerWeight, weight_layers
from secateur.reconstruction.batchnorm import keeping
from secateur.reconstruction.sampling import Sampling, outputs_at, patches_at, shape_of

ADDS = {"add", "add_", "__add__", "__radd__", "__iadd__"}
SUITED = (nn.Linear, *CONVOLUTIONS)
TOLERANCE = 0.02  # what a layer in half precision may be off


@dataclass(frozen=True)
class Site:
    """A layer that runs: linear or a convolution, of a weight that no other layer has.

    Args:
        layer: Its weight.
        norm: Name of the batch norm that its output goes into; empty: none that keeps statistics.
        added: Whether its output, after that norm, is added to something that was there before it ran: the shortcut
            around a residual branch.
        calls: How often it runs in a pass.
    """

    layer: LayerWeight
    norm: str = ""
    added: bool = False
    calls: int = 1

    @property
    def name(self) -> str:
        """Name of the module; empty for the model itself."""
        return self.layer.parameter.rpartition(".")[0]

    @property
    def label(self) -> str:
        """How messages call it."""
        return self.layer.name


def weight_matrix(layer: LayerWeight, weight: Tensor) -> Tensor:
    """A weight as the matrix that patches are multiplied with.

    Args:
        layer: Of the layer.
        weight: Of its shape.

    Returns:
        `(groups, columns, outputs)`.

    Example:
        >>> conv = nn.Conv2d(4, 6, 3, groups=2)
        >>> weight_matrix(next(weight_layers(conv)), conv.weight).shape
        torch.Size([2, 18, 3])
    """
    return weight.reshape(layer.split).flatten(2).mT


def from_matrix(layer: LayerWeight, matrix: Tensor) -> Tensor:
    """The way back from `weight_matrix`.

    Args:
        layer: Of the layer.
        matrix: `(groups, columns, outputs)`.

    Returns:
        A tensor of the weight's shape.
    """
    return matrix.mT.reshape(layer.shape)


class Branches(TorchFunctionMode):
    """Calls back where the output of a branch is added to something.

    Args:
        found: Called with the name of the branch's layer and the other operand, before they are added.
        remember: Whether to keep what the pass makes, so that `older` can tell what was there before.
    """

    def __init__(self, found: Callable[[str, Tensor], None], *, remember: bool = False) -> None:
        """Start with no branch."""
        super().__init__()
        self._found, self._remember = found, remember
        self._tails: dict[str, tuple[Tensor, int]] = {}
        self._made: list[Tensor] = []
        self._begun: dict[str, int] = {}

    def follow(self, name: str, tail: Tensor, *, begins: bool = True) -> None:
        """Wait for a tensor to be added; what is changed in place meanwhile is another one.

        Args:
            name: Of the branch's layer.
            tail: Its output.
            begins: Whether this is the layer's own output, not that of the norm behind it.
        """
        self._tails[name] = (tail, tail._version)
        if begins:
            self._begun[name] = len(self._made)

    def older(self, name: str, other: Tensor) -> bool:
        """Whether a tensor was there before a layer had run.

        Args:
            name: Of the layer.
            other: The tensor.

        Returns:
            True if so.
        """
        return not any(other is one for one in self._made[self._begun[name] :])

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Look at a function before it runs.

        Args:
            func: The function.
            types: Not looked at.
            args: Its arguments.
            kwargs: Its arguments by name.

        Returns:
            What it returns.
        """
        named = kwargs or {}
        if getattr(func, "__name__", "") in ADDS and named.get("alpha", 1) == 1:
            operands = [one for one in (*args, *named.values()) if isinstance(one, Tensor)]
            self._look(operands[:2])
        result = func(*args, **named)
        if self._remember and isinstance(result, Tensor):
            self._made.append(result)
        return result

    def _look(self, operands: list[Tensor]) -> None:
        if len(operands) < 2 or operands[0] is operands[1] or operands[0].shape != operands[1].shape:
            return
        for one, other in (operands, operands[::-1]):
            for name, (tail, version) in list(self._tails.items()):
                if one is tail and one._version == version:
                    del self._tails[name]
                    self._found(name, other)


def run(model: nn.Module, inputs: Any) -> None:
    """Run a model on inputs of the user's data.

    Args:
        model: The model.
        inputs: Of a batch.

    Raises:
        DataError: The model does not take them.
    """
    try:
        with torch.no_grad():
            call(model, inputs)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        sizes = [tuple(one.shape) for one in _tensors(inputs)]
        raise DataError(
            f"{type(model).__name__} fails on a batch of the calibration data, inputs of shapes {sizes}: {error}. "
            "Give batches of what the model takes, as pairs (inputs, targets)"
        ) from error


def _tensors(inputs: Any) -> list[Tensor]:
    values = (
        inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, list | tuple) else [inputs]
    )
    return [one for one in values if isinstance(one, Tensor)]


def survey(model: nn.Module, batches: Iterable[Any]) -> list[Site]:
    """Find the layers that can be reconstructed, on the first batch.

    Left out are transposed convolutions, weights that several layers share or that are computed from others, layers
    that do not run as modules, and those whose class computes something else than their base class.

    Args:
        model: In eval mode.
        batches: Of which the first is looked at.

    Returns:
        The sites in the order in which they first run.

    Raises:
        DataError: There is no batch.
    """
    inputs = first_inputs(model, batches)
    watch = _Survey(model)
    with ExitStack() as stack:
        for handle in watch.hooks():
            stack.callback(handle.remove)
        with watch.branches:
            run(model, inputs)
    return watch.sites()


def first_inputs(model: nn.Module, batches: Iterable[Any]) -> Any:
    """Inputs of the first batch, on the model's device.

    Args:
        model: The model.
        batches: Pairs.

    Returns:
        The inputs.

    Raises:
        DataError: There is no batch.
    """
    for batch in batches:
        return to_device(pair(batch)[0], device_of(model))
    raise DataError(
        "reconstruction needs data: there was no batch. Is the loader exhausted, or a generator used twice?"
    )


class _Survey:
    """What one pass tells of every layer."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.found: dict[str, Site] = {}
        self.unsuited: set[str] = set()
        self.norms: list[str] = []
        self.outputs: dict[str, Tensor] = {}
        self.branches = Branches(self._added, remember=True)

    def hooks(self) -> Iterator[Any]:
        names = dict(self.model.named_modules())
        for layer in weight_layers(self.model):
            name = layer.parameter.rpartition(".")[0]
            if not (layer.unsuited or layer.note) and isinstance(names.get(name), SUITED):
                yield names[name].register_forward_hook(partial(self._ran, layer), with_kwargs=True)
        for norm in keeping(self.model):
            name = next(name for name, module in names.items() if module is norm)
            yield norm.register_forward_hook(partial(self._normed, name), with_kwargs=True)

    def _ran(self, layer: LayerWeight, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        site = self.found.get(layer.parameter)
        self.found[layer.parameter] = Site(layer) if site is None else Site(layer, calls=site.calls + 1)
        if not _plain(layer, module, args[0] if args else kwargs["input"], output):
            self.unsuited.add(layer.parameter)
        self.outputs[layer.parameter] = output
        self.branches.follow(layer.parameter, output)

    def _normed(self, name: str, _: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        given = args[0] if args else kwargs["input"]
        self.norms.append(name)
        for parameter, before in self.outputs.items():
            if before is given and self.found[parameter].calls == 1:
                self.found[parameter] = replace(self.found[parameter], norm=name)
                self.branches.follow(parameter, output, begins=False)

    def _added(self, parameter: str, other: Tensor) -> None:
        if self.found[parameter].calls == 1 and self.branches.older(parameter, other):
            self.found[parameter] = replace(self.found[parameter], added=True)

    def sites(self) -> list[Site]:
        """One mean of a norm cannot take the intercepts of several layers."""
        several = {name for name in self.norms if self.norms.count(name) > 1}
        plain = [replace(site, norm="", added=False) if site.norm in several else site for site in self.found.values()]
        return [site for site in plain if site.layer.parameter not in self.unsuited]


def _plain(layer: LayerWeight, module: Any, inputs: Tensor, output: Tensor) -> bool:
    """Whether a layer computes `X W + b`, at some points."""
    samples, positions = shape_of(module, output)
    at = Sampling(points=4).places(layer.name, batch=0, samples=samples, positions=positions)
    wanted = outputs_at(module, output, at).float()
    found = torch.einsum(
        "mgp,gpn->mgn", patches_at(module, inputs, at).float(), weight_matrix(layer, module.weight).float()
    )
    if module.bias is not None:
        found = found + module.bias.float().reshape(found.shape[1:])
    scale = float(wanted.abs().max())
    # NaN is not the layer's doing: what the data hold is looked at where they are gathered.
    return not float((found - wanted).abs().max()) > TOLERANCE * max(scale, 1e-12)
