"""Channels permuted for N:M: the inputs of a layer in another order, and the outputs that feed them too."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from secateur.batches import call, device_of, drop_caches, mode, to_device
from secateur.errors import ModelError
from secateur.granularity import Granularity, channel
from secateur.granularity.layers import LayerWeight, weight_layers
from secateur.masking import tensor_of
from secateur.reconstruction.column_order import best_magnitude, column_order, kept_magnitude
from secateur.reconstruction.matrix import as_matrix
from secateur.text import as_text, percent, table
from secateur.units import ParameterAxis, Units

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Efficacy:
    """What N:M by magnitude keeps of a layer, before and after its inputs were permuted.

    Args:
        layer: Name of the layer.
        before: Sum of the magnitudes kept in the order of the model.
        after: In the new order.
        best: Of the largest n/m of every row: what no order exceeds.

    Example:
        >>> Efficacy("fc", 10.0, 13.0, 20.0).value
        0.3
    """

    layer: str
    before: float
    after: float
    best: float

    @property
    def value(self) -> float:
        """`(after - before) / (best - before)`; 0 where nothing can be gained."""
        room = self.best - self.before
        return (self.after - self.before) / room if room > 1e-12 * self.best else 0.0


@dataclass(frozen=True, eq=False)
class Permuted(Generic[Model]):
    """A model that computes the same with its channels in another order.

    Args:
        model: The model.
        orders: For each group of channels that moved, the unit that came to the place of each.
        layers: What was gained in each layer that the pattern fits.
        left: Groups that kept their order though another were better, with the reason.
    """

    model: Model
    orders: Mapping[str, Tensor] = field(repr=False)
    layers: tuple[Efficacy, ...]
    left: Mapping[str, str]

    @property
    def efficacy(self) -> float:
        """Of all layers together, each by its sums of magnitudes."""
        return Efficacy(
            "", *(sum(getattr(one, name) for one in self.layers) for name in ("before", "after", "best"))
        ).value

    def table(self) -> Table:
        """The layers as a table.

        Returns:
            For a rich console.
        """
        rows = [[one.layer, f"{one.before:.4g}", f"{one.after:.4g}", percent(one.value)] for one in self.layers]
        return table(
            ["layer", "magnitude kept>", "permuted>", "efficacy>"], [*rows, ["total", "", "", percent(self.efficacy)]]
        )

    def __str__(self) -> str:
        """The table as plain text.

        Returns:
            Lines.
        """
        return as_text(self.table(), width=120)


def permuted(
    model: Model, example: Any, pattern: Granularity, *, pairs: int = 100, escapes: int = 10, seed: int = 0
) -> Permuted[Model]:
    """Order channels such that N:M by magnitude keeps more, and the model computes what it did.

    `max over permutations p of the sum over rows and runs of m columns of W[:, p] of the n largest |w|`

    The input channels of a layer are permuted; with them, through the groups of `granularity.channel(example)`, the
    outputs of what makes them, the norms between, and the inputs of every other layer that reads them. Only channels
    that are alike move: where a unit of a group has more or other slices than most, it stays. Whether the model
    computes the same is tried on the example with weights of its own size drawn anew; a group that fails keeps its
    order, and `left` names it. Inputs and outputs of the whole model keep theirs, and so do channels within attention
    heads, which move as one.

    Args:
        model: The model; it is not touched.
        example: Inputs of a batch, as the model takes them.
        pattern: What `granularity.pattern(n, m)` returns.
        pairs: So many pairs of stripes are looked at in a round of the search at most: see `column_order`.
        escapes: So many times the search goes on from two columns swapped at random.
        seed: Of what is drawn.

    Returns:
        A copy of the model, for a `Pruner` with the same pattern, and what was gained in each layer.

    Raises:
        ModelError: The granularity fixes no pattern, or fits no layer.

    Shapes:
        W `(O, h w I)` with its columns of one kernel position permuted alike: one permutation `(I,)` for a group.

    Reference:
        Pool, Yu (2021), Channel Permutations for N:M Sparsity.

    Example:
        The two large columns of the second layer share a stripe of 1:2; afterwards each has one for itself:

        >>> from secateur import granularity
        >>> net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
        >>> _ = net[2].weight.data.copy_(torch.tensor([[9.0, 8.0, 1.0, 2.0]]))
        >>> found = permuted(net, torch.zeros(1, 2), granularity.pattern(1, 2))
        >>> found.layers[-1]
        Efficacy(layer='2', before=11.0, after=17.0, best=17.0)
        >>> bool(torch.allclose(found.model(torch.ones(1, 2)), net(torch.ones(1, 2))))
        True
    """
    fitting = _fitting(model, pattern)
    changed, check = copy.deepcopy(model), _perturbed(model, seed)
    wanted = _outputs(check, example)
    orders: dict[str, Tensor] = {}
    left: dict[str, str] = {}
    for name, units in channel(example, cross_norms=True)(model).items():
        order = None if units.frozen else _order(changed, units, fitting, pairs=pairs, escapes=escapes, seed=seed)
        if order is None:
            continue
        before = _kept(changed, units, fitting)
        reorder(changed, units, order)
        moved = copy.deepcopy(check)
        reorder(moved, units, order)
        if _kept(changed, units, fitting) <= before:
            left[name] = "what one layer gains, others lose"
        elif not _alike(_outputs(moved, example), wanted):
            left[name] = "the model computes something else with these channels in another order"
        else:
            orders[name], check = order, moved
            continue
        reorder(changed, units, order.argsort())
    layers = tuple(_efficacy(layer, n, m, *_pair(model, changed, layer)) for layer, n, m in fitting.values())
    return Permuted(changed, orders, layers, left)


def reorder(model: nn.Module, units: Units, order: Tensor) -> None:
    """Put the units of a group into another order, in place.

    Args:
        model: The model.
        units: A group of coupled channels.
        order: For each unit the one that comes to its place, int64 `(n_units,)`.
    """
    with torch.no_grad():
        for axis, index in (*units.index.items(), *units.beside.items()):
            if axis.axis is not None:
                value = tensor_of(model, axis.parameter)
                places = _moved(index.numbers().flatten(), order).to(value.device)
                value.copy_(value.index_select(axis.axis, places))
    drop_caches(model)


def _moved(numbers: Tensor, order: Tensor) -> Tensor:
    """For each slice the one that comes to its place: the k-th of a unit takes the k-th of the other's."""
    places = torch.arange(len(numbers))
    sequence = numbers.argsort(stable=True)
    counts = torch.bincount(numbers[numbers >= 0], minlength=len(order))
    first = counts.cumsum(0) - counts + int((numbers < 0).sum())
    for unit in (order != torch.arange(len(order))).nonzero().flatten().tolist():
        other = int(order[unit])
        there = sequence[first[unit] : first[unit] + counts[unit]]
        places[there] = sequence[first[other] : first[other] + counts[other]]
    return places


Fitting = Mapping[str, tuple[LayerWeight, int, int]]


def _fitting(model: nn.Module, pattern: Granularity) -> Fitting:
    """The layers that the pattern fits, with its n and m, by name of the weight."""
    layers = {layer.name: layer for layer in weight_layers(model)}
    found = {}
    for name, units in pattern(model).items():
        if units.frozen:
            continue
        if units.keep_per_scope is None or name not in layers:
            raise ModelError("channels are permuted for a fixed pattern: give granularity.pattern(n, m)")
        found[layers[name].parameter] = (layers[name], units.keep_per_scope, units.n_units // units.scope.n_units)
    return found


def _order(model: nn.Module, units: Units, fitting: Fitting, **search: int) -> Tensor | None:
    """A better order of a group's units; None where there is none."""
    alike = _alike_units(units)
    places: Tensor | None = None
    matrices, n, m = [], 0, 0
    for axis, matrix, columns, kept, size in _consumers(model, units, fitting):
        del axis
        slots = _slots(columns, alike, size)
        if places is None and len(slots) > size:
            places, n, m = slots, kept, size
        if places is not None and size == m and _same_stripes(columns, places, m):
            matrices.append(matrix[:, columns[places]])
    if places is None:
        return None
    stacked = torch.cat(matrices)
    found = torch.tensor(column_order(stacked, n, m, **search))
    if kept_magnitude(stacked[:, found], n, m) <= kept_magnitude(stacked, n, m) * (1 + 1e-6):
        return None
    order = torch.arange(units.n_units)
    order[places] = places[found]
    return order


def _alike_units(units: Units) -> Tensor:
    """The units that have as many slices of everything as most have, bool."""
    indices = [*units.index.values(), *units.beside.values()]
    counts = [torch.bincount(one.numbers().flatten() + 1, minlength=units.n_units + 1)[1:] for one in indices]
    described = torch.stack([*counts, *units.attributes.values()], 1)
    kinds, kind, sizes = described.unique(dim=0, return_inverse=True, return_counts=True)
    del kinds
    common: Tensor = kind == sizes.argmax()
    return common


def _consumers(
    model: nn.Module, units: Units, fitting: Fitting
) -> Iterator[tuple[ParameterAxis, Tensor, Tensor, int, int]]:
    """The layers that read the channels, one column for each: the weight as rows of columns, and each unit's column."""
    for axis, index in units.index.items():
        if units.role[axis] != "in" or axis.axis is None or axis.parameter not in fitting:
            continue
        layer, n, m = fitting[axis.parameter]
        numbers = index.numbers().flatten()
        known = numbers >= 0
        counts = torch.bincount(numbers[known], minlength=units.n_units)
        if axis.axis != (0 if layer.transposed else 1) or bool((counts > 1).any()):
            continue
        columns = torch.full((units.n_units,), -1)
        columns[numbers[known]] = known.nonzero().flatten()
        weight = tensor_of(model, axis.parameter).detach().cpu()
        yield axis, weight.movedim(axis.axis, -1).flatten(0, -2), columns, n, m


def _slots(columns: Tensor, alike: Tensor, m: int) -> Tensor:
    """The units that can move, stripe by stripe: those in stripes that hold nothing else."""
    units = (alike & (columns >= 0)).nonzero().flatten()
    units = units[columns[units].argsort()]
    stripes = columns[units] // m
    full = torch.bincount(stripes, minlength=1) == m
    return units[full[stripes]] if len(units) else units


def _same_stripes(columns: Tensor, places: Tensor, m: int) -> bool:
    """Whether another layer has the same units in each of its stripes."""
    its = columns[places]
    stripes = (its // m).reshape(-1, m)
    return bool((its >= 0).all()) and bool((stripes == stripes[:, :1]).all())


def _kept(model: nn.Module, units: Units, fitting: Fitting) -> float:
    """What the pattern keeps of all layers that a group touches."""
    touched = {axis.parameter for axis in units.index} & fitting.keys()
    return sum(_kept_of(model, *fitting[name]) for name in sorted(touched))


def _kept_of(model: nn.Module, layer: LayerWeight, n: int, m: int) -> float:
    return kept_magnitude(_pair(model, model, layer)[0], n, m)


def _pair(before: nn.Module, after: nn.Module, layer: LayerWeight) -> tuple[Tensor, Tensor]:
    one, two = (
        as_matrix(layer, tensor_of(model, layer.parameter).detach()).flatten(0, 1).float() for model in (before, after)
    )
    return one, two


def _efficacy(layer: LayerWeight, n: int, m: int, before: Tensor, after: Tensor) -> Efficacy:
    return Efficacy(layer.name, kept_magnitude(before, n, m), kept_magnitude(after, n, m), best_magnitude(before, n, m))


def _perturbed(model: nn.Module, seed: int) -> nn.Module:
    """The model with noise of each tensor's own size, so that no weight hides a wrong order by being zero."""
    changed = copy.deepcopy(model)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in changed.parameters():
            if value.is_floating_point():
                noise = 0.5 + torch.rand(value.shape, generator=draw)
                size = value.abs().mean().clamp(min=1e-3)
                value.copy_((value + size) * noise.to(value.device, value.dtype))
    drop_caches(changed)
    return changed


def _outputs(model: nn.Module, example: Any) -> list[Tensor]:
    with mode(model, training=False), torch.no_grad():
        found = call(model, to_device(example, device_of(model)))
    return [leaf.clone() for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]


def _alike(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> bool:
    """Equal to the rounding of sums in another order; a wrong order is off by the size of the numbers themselves."""
    return len(found) == len(wanted) and all(map(_near, found, wanted))


def _near(one: Tensor, two: Tensor) -> bool:
    if one.shape != two.shape or not two.is_floating_point():
        return torch.equal(one, two)
    allowed = torch.finfo(two.dtype).eps ** 0.5 * float(two.abs().amax()) if two.numel() else 0.0
    return torch.allclose(one, two, rtol=0, atol=allowed, equal_nan=True)
