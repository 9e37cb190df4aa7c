"""The layers whose weights can be pruned, seen alike: output channels, input channels, kernel, groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from secateur.errors import ModelError
from secateur.index_maps import Arange, IndexMap, Sizes
from secateur.recipe import Recipe
from secateur.units import ParameterAxis, Role, Units

Granularity = Callable[[nn.Module], dict[str, Units]]
"""From a model to its groups, by name."""

Build = Callable[["LayerWeight"], "Units | str"]
"""From a layer to its units, or to the reason why this granularity does not fit it."""

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
PRUNABLE = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)


@dataclass(frozen=True)
class LayerWeight:
    """The weight of one layer, whichever way its axes lie.

    Every weight can be cut into five parts: `groups`, output channels per group, input channels per group, and the
    kernel. `split` are the sizes after that cut in the order in which they lie in memory, `out`, `in_` and
    `kernel_dims` say where each part is.

    Args:
        name: Name of the module, which is the name of its group.
        parameter: Name of the weight.
        shape: Shape of the weight.
        groups: Convolution groups, 1 for a linear layer.
        transposed: Whether input channels come first (transposed convolution).
        note: Other names under which the same parameter stands.
        unsuited: Why the weight cannot be pruned at all; empty: it can.

    Example:
        >>> conv = next(weight_layers(nn.Conv2d(4, 8, 3, groups=2)))
        >>> conv.shape, conv.split, conv.sizes
        ((8, 2, 3, 3), (2, 4, 2, 3, 3), (2, 4, 2, (3, 3)))
    """

    name: str
    parameter: str
    shape: Sizes
    groups: int = 1
    transposed: bool = False
    note: str = ""
    unsuited: str = ""

    @property
    def kernel(self) -> Sizes:
        """Sizes of the kernel; empty for a linear layer."""
        return self.shape[2:]

    @property
    def sizes(self) -> tuple[int, int, int, Sizes]:
        """Groups, output channels per group, input channels per group, kernel."""
        first, second = self.shape[0] // self.groups, self.shape[1]
        out, in_ = (second, first) if self.transposed else (first, second)
        return self.groups, out, in_, self.kernel

    @property
    def split(self) -> Sizes:
        """Sizes after cutting the first axis into groups: five parts in the order in which they lie in memory."""
        return (self.groups, self.shape[0] // self.groups, *self.shape[1:])

    @property
    def im2col(self) -> Sizes:
        """Order of the parts as rows and columns of the im2col matrix: group, output | kernel position, input."""
        out, in_ = (2, 1) if self.transposed else (1, 2)
        return (0, out, *range(3, len(self.split)), in_)

    def shared(self, *, out: bool = False, in_: bool = False, kernel: tuple[bool, ...] = ()) -> Arange:
        """Units that span whole parts of the weight.

        Args:
            out: A unit spans the output channels of its group.
            in_: A unit spans the input channels of its group.
            kernel: For each kernel dimension, whether a unit spans it.

        Returns:
            The index map.
        """
        span = (False, in_, out) if self.transposed else (False, out, in_)
        spans = (*span, *kernel)
        repeat = tuple(size if whole else 1 for size, whole in zip(self.split, spans, strict=True))
        return Arange(self.shape, split=self.split, repeat=repeat)

    def units(self, index: IndexMap, role: Role = "out", *, scope: int = 0, keep: int | None = None) -> Units:
        """Units of this layer alone.

        Args:
            index: Unit of each weight.
            role: What the weights are to their units.
            scope: So many consecutive units compete; 0: all units of the layer.
            keep: How many units of every scope stay, where that is fixed.

        Returns:
            The units.
        """
        axis = ParameterAxis(self.parameter)
        competing = Arange((index.n_units,), repeat=(scope or index.n_units,))
        return Units({axis: index}, competing, {axis: role}, keep_per_scope=keep, note=self.note)

    def frozen(self, reason: str) -> Units:
        """The whole weight as one unit that stays.

        Args:
            reason: Why.

        Returns:
            The units.
        """
        axis = ParameterAxis(self.parameter)
        return Units(
            {axis: Arange(self.shape, repeat=self.shape)}, Arange((1,)), {axis: "out"}, None, reason, self.note
        )


def weight_layers(model: nn.Module) -> Iterator[LayerWeight]:
    """The linear and convolution layers of a model, in its own order; a shared weight comes once, with its other names.

    Args:
        model: Any module.

    Yields:
        One value per weight.

    Example:
        >>> net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Linear(2, 5))
        >>> [(layer.name, layer.shape) for layer in weight_layers(net)]
        [('0', (2, 1, 3)), ('2', (5, 2))]
    """
    names = _names_of_parameters(model)
    seen: set[int] = set()
    for name, module in model.named_modules():
        if not isinstance(module, PRUNABLE):
            continue
        weight = module._parameters.get("weight")
        if weight is None:
            yield from _computed(name, module)
        elif id(weight) not in seen and not _empty(weight):
            seen.add(id(weight))
            yield _layer(name, module, weight, names[id(weight)])


def _empty(weight: Any) -> bool:
    """Whether a layer of no channels has a weight of no elements; a lazy one has no size yet."""
    return not is_lazy(weight) and weight.numel() == 0


def _names_of_parameters(model: nn.Module) -> Mapping[int, list[str]]:
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return names


def _layer(name: str, module: nn.Module, weight: Tensor, names: list[str]) -> LayerWeight:
    if is_lazy(weight):
        raise ModelError(
            f"{name or type(module).__name__!r} is a lazy layer without a shape yet: run the model once on an example, "
            "then prune"
        )
    others = f"shared with {', '.join(names[1:])}" if names[1:] else ""
    groups = int(getattr(module, "groups", 1))
    return LayerWeight(
        name or "weight", names[0], tuple(weight.shape), groups, isinstance(module, TRANSPOSED), note=others
    )


def _computed(name: str, module: nn.Module) -> Iterator[LayerWeight]:
    """A weight that is no parameter: a parametrization or old-style weight norm computes it from others."""
    weight = getattr(module, "weight", None)
    sources = {source: tuple(value.shape) for source, value in module.named_parameters() if "weight" in source}
    if isinstance(weight, Tensor) and sources:
        largest = max(sources, key=lambda source: math.prod(sources[source]))
        reason = f"computed from {', '.join(sources)}: make it a plain weight first"
        parameter = f"{name}.{largest}" if name else largest
        yield LayerWeight(name or "weight", parameter, sources[largest], unsuited=reason)


def per_layer(name: str, build: Build) -> Granularity:
    """A granularity that treats every layer by itself.

    Args:
        name: How a reader would write it.
        build: From a layer to its units, or to the reason why it stays as it is.

    Returns:
        The granularity.
    """
    return Recipe(name, _PerLayer(name, build))


@dataclass(frozen=True)
class _PerLayer:
    name: str
    build: Build

    def __call__(self, model: nn.Module) -> dict[str, Units]:
        """Build the units of every layer.

        Args:
            model: The model.

        Returns:
            Units by name of the layer.

        Raises:
            ModelError: The model has no linear or convolution layer, or the granularity fits none of them.
        """
        groups = {layer.name: self._units(layer) for layer in weight_layers(model)}
        if not groups:
            raise ModelError(
                f"{type(model).__name__} has no Linear, Conv1d/2d/3d or ConvTranspose1d/2d/3d layer, "
                "so no prunable weights"
            )
        if all(units.frozen for units in groups.values()):
            reasons = "; ".join(f"{name}: {units.frozen}" for name, units in list(groups.items())[:5])
            raise ModelError(f"{self.name} fits no layer of {type(model).__name__} ({reasons})")
        return groups

    def _units(self, layer: LayerWeight) -> Units:
        built = layer.unsuited or self.build(layer)
        return layer.frozen(built) if isinstance(built, str) else built
