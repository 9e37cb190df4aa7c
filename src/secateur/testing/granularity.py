"""The laws of a granularity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.granularity import Granularity
from secateur.index_maps import How, IndexMap
from secateur.testing.common import ExampleNet, require, same_bits
from secateur.units import Units, removed_units, select

SPARSITIES = (0.0, 0.3, 0.5, 0.9, 1.0)


def check_granularity(granularity: Granularity, model: nn.Module | None = None, *, seed: int = 0) -> None:
    """Check that a granularity keeps the laws on which everything else relies.

    - It returns a `Units` for each name, and groups that may not be pruned say why (`frozen`).
    - The index map of a parameter has its shape. `numbers()` is int64, broadcasts to that shape (one more dimension in
      front where units overlap), and lies in `[-1, n_units)`. Every unit has a weight.
    - `counts`, `reduce` and `mask` say the same as the integers.
    - `select` removes exactly as many units as `removed_units` says, and leaves one in every scope.
    - The model stays as it was, and a second call gives the same.

    Args:
        granularity: What is checked.
        model: The model to try it on; by default `ExampleNet`.
        seed: Of the random values.

    Raises:
        ConformanceError: A law is broken.

    Example:
        A granularity of one's own: pairs of neighbouring rows of every linear layer leave together.

        >>> from secateur.index_maps import Arange
        >>> from secateur.units import ParameterAxis, Units
        >>> def row_pairs(model):
        ...     groups = {}
        ...     for name, module in model.named_modules():
        ...         if isinstance(module, torch.nn.Linear):
        ...             axis, shape = ParameterAxis(f"{name}.weight"), tuple(module.weight.shape)
        ...             pairs = Arange(shape, repeat=(2, shape[1]))
        ...             one_scope = Arange((pairs.n_units,), repeat=(pairs.n_units,))
        ...             groups[name] = Units({axis: pairs}, one_scope, {axis: "out"})
        ...     return groups
        >>> check_granularity(row_pairs)

        One that forgets a pair is told so:

        >>> def broken(model):
        ...     axis = ParameterAxis("linear.weight")
        ...     return {"linear": Units({axis: Arange((2, 8))}, Arange((16,), repeat=(16,)), {axis: "out"})}
        >>> check_granularity(broken)
        Traceback (most recent call last):
        ...
        secateur.testing.common.ConformanceError: group 'linear', 'linear.weight': the index map has the parameter's
        shape, (4, 4); found (2, 8). To mend it: build the map from tuple(parameter.shape)
    """
    model = ExampleNet(seed) if model is None else model
    before = _state(model)
    groups: Any = granularity(model)  # may be anything: it is what is checked
    _check_untouched(before, _state(model))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    draw = torch.Generator().manual_seed(seed)
    require(
        isinstance(groups, Mapping) and len(groups) > 0,
        "the result",
        f"a granularity returns its groups by name; found {type(groups).__name__}",
        "return a dict from names to Units, and raise ModelError where no layer fits",
    )
    for name, units in groups.items():
        require(
            isinstance(name, str) and isinstance(units, Units),
            f"group {name!r}",
            f"every group is a Units under a name; found {type(units).__name__} under {type(name).__name__}",
            "return {name: Units(...)}",
        )
        _check_group(name, units, parameters, draw)
    _check_same(groups, granularity(model))


def _state(model: nn.Module) -> dict[str, Any]:
    tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    state: dict[str, Any] = {
        f"{name!r}": (id(value), value.detach().clone(), value.requires_grad) for name, value in tensors.items()
    }
    modules = {f"module {name!r}": (id(module), None, _plain(module)) for name, module in model.named_modules()}
    return state | modules


def _plain(module: nn.Module) -> tuple[bool, list[str], int]:
    """What may hang on a module beside its tensors: its mode, attributes, and how many hooks."""
    attributes = vars(module)
    return (
        module.training,
        sorted(attributes),
        sum(len(attributes[name]) for name in attributes if name[-5:] == "hooks"),
    )


def _check_untouched(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    mend = "read the model, or work on copy.deepcopy(model)"
    changed = sorted(before.keys() ^ after.keys())
    require(not changed, "the model", f"a granularity leaves the model as it was; {changed} came or went", mend)
    for name, (identity, value, flag) in before.items():
        now = after[name]
        same = identity == now[0] and flag == now[2] and (value is None or same_bits(value, now[1]))
        require(same, "the model", f"a granularity leaves the model as it was; {name} changed", mend)


def _check_group(name: str, units: Units, parameters: Mapping[str, Tensor], draw: torch.Generator) -> None:
    group = f"group {name!r}"
    frozen: Any = units.frozen
    require(
        isinstance(frozen, str) and (not frozen or bool(frozen.strip())),
        group,
        f"a frozen group says why; found frozen={frozen!r}",
        "set frozen to a sentence for the reader of the plan, or to '' where units may go",
    )
    held = torch.zeros(units.n_units, dtype=torch.int64)
    for axis, index in units.index.items():
        where = f"{group}, {axis.parameter!r}"
        require(
            axis.parameter in parameters,
            where,
            "every parameter axis names a parameter of the model; this one is none",
            "use the names of model.named_parameters()",
        )
        held += _check_map(where, index, tuple(parameters[axis.parameter].shape), draw)
    empty = (held == 0).nonzero().flatten().tolist()
    require(not empty, group, f"every unit has a weight; units {empty[:5]} have none", "number units without gaps")
    _check_scope(group, units, draw)


def _check_map(where: str, index: IndexMap, shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
    """The laws of one index map.

    Returns:
        Weights in each unit, from the integers.
    """
    require(
        tuple(index.shape) == shape,
        where,
        f"the index map has the parameter's shape, {shape}; found {tuple(index.shape)}",
        "build the map from tuple(parameter.shape)",
    )
    layers = _layers(where, index.numbers(), shape, index.n_units)
    owned = [(layer.flatten() >= 0).nonzero().flatten() for layer in layers]
    owner = torch.cat([layer.flatten()[at] for layer, at in zip(layers, owned, strict=True)])
    counts = torch.bincount(owner, minlength=index.n_units)
    require(
        torch.equal(index.counts().cpu(), counts),
        where,
        "counts() is the number of weights in each unit, as numbers() has them; it differs",
        "return torch.bincount of the numbers that are not -1",
    )
    values = torch.randint(-1000, 1000, shape, generator=draw).double()  # whole numbers: sums are exact in any order
    taken = torch.cat([values.flatten()[at] for at in owned])
    for how in ("sum", "mean", "max"):
        _check_reduce(where, index, values, how, _folded(taken, owner, counts, how), counts > 0)
    _check_mask(where, index, layers, draw)
    return counts


def _layers(where: str, numbers: Tensor, shape: tuple[int, ...], n_units: int) -> Tensor:
    """The integers in full, `(layers, *shape)`: several layers where units overlap."""
    extra = numbers.ndim - len(shape)
    sizes = tuple(numbers.shape)[max(extra, 0) :]
    fits = 0 <= extra <= 1 and all(size in (1, full) for size, full in zip(sizes, shape, strict=True))
    require(
        fits and numbers.dtype == torch.int64,
        where,
        f"numbers() is int64 and broadcasts to {shape}, with one more dimension in front where units overlap; found "
        f"{numbers.dtype} of {tuple(numbers.shape)}",
        "give every dimension its size or 1",
    )
    low, high = int(numbers.min()), int(numbers.max())
    require(
        low >= -1 and high < n_units,
        where,
        f"numbers() lies between -1 (no unit) and n_units - 1 = {n_units - 1}; found {low} to {high}",
        "count units from 0",
    )
    front = tuple(numbers.shape[:extra]) if extra else (1,)
    return numbers.cpu().expand(*front, *shape)


def _folded(values: Tensor, owner: Tensor, counts: Tensor, how: How) -> Tensor:
    if how == "max":
        empty = torch.zeros(len(counts), dtype=values.dtype)
        return empty.scatter_reduce(0, owner, values, "amax", include_self=False)
    total = torch.zeros(len(counts), dtype=values.dtype).index_add(0, owner, values)
    return total if how == "sum" else total / counts.clamp(min=1)


def _check_reduce(where: str, index: IndexMap, values: Tensor, how: How, wanted: Tensor, held: Tensor) -> None:
    found = index.reduce(values, how)
    require(
        found.shape == wanted.shape and torch.equal(found[held], wanted[held]),
        where,
        f"reduce(values, {how!r}) is the {how} of the values of each unit's weights, as numbers() has them; it differs",
        "fold with index_add or scatter_reduce over numbers()",
    )


def _check_mask(where: str, index: IndexMap, layers: Tensor, draw: torch.Generator) -> None:
    everything = index.mask(torch.ones(index.n_units, dtype=torch.bool))
    require(
        everything.dtype == torch.bool and everything.shape == layers.shape[1:] and bool(everything.all()),
        where,
        "mask() of units that all stay is bool, of the parameter's shape, and True everywhere; it is not",
        "let weights that belong to no unit stay",
    )
    keep = torch.rand(index.n_units, generator=draw) < 0.5
    stays = ((layers >= 0) & keep[layers]).any(0) | (layers < 0).all(0)
    require(
        torch.equal(index.mask(keep), stays),
        where,
        "mask(keep) is keep[numbers()]: a weight stays with its unit, or with any of them where units overlap; it "
        "differs",
        "index keep with numbers(), and combine overlapping units by any()",
    )


def _check_scope(group: str, units: Units, draw: torch.Generator) -> None:
    scope = units.scope.numbers().cpu()
    sizes = torch.bincount(scope[scope >= 0], minlength=units.scope.n_units)
    require(
        scope.shape == (units.n_units,) and int(scope.min()) >= 0 and bool((sizes > 0).all()),
        group,
        f"every unit is in one of the scope map's {units.scope.n_units} scopes, and no scope is empty; not so here",
        "number the scopes 0, 1, 2, ... without gaps and without -1",
    )
    require(
        len(sizes) == units.scope.n_units and torch.equal(units.scope.counts().cpu(), sizes),
        group,
        "counts() of the scope is the number of units in each; it differs",
        "return torch.bincount of the scope's numbers",
    )
    full = units.full_sparsity
    scores = torch.rand(units.n_units, generator=draw)
    for sparsity in SPARSITIES:
        target = sparsity if full is None else sparsity * full
        keep = select(units, scores, target)
        kept, wanted = int(keep.sum()), units.n_units - removed_units(units, target)
        require(
            kept == wanted and torch.equal(torch.unique(scope[keep]), torch.arange(units.scope.n_units)),
            group,
            f"select() at sparsity {target:.4g} keeps {wanted} units and one of every scope; it keeps {kept}",
            "let numbers() and counts() of the scope map speak of the same scopes",
        )


def _check_same(first: Mapping[str, Units], second: Mapping[str, Units]) -> None:
    mend = "draw nothing at random, and keep no state between calls"
    require(list(first) == list(second), "the result", "a second call gives the same groups in the same order", mend)
    for name, units in first.items():
        again = second[name]
        same = (
            dict(units.role) == dict(again.role)
            and (units.n_units, units.keep_per_scope, units.frozen, units.note)
            == (again.n_units, again.keep_per_scope, again.frozen, again.note)
            and torch.equal(units.scope.numbers(), again.scope.numbers())
            and all(torch.equal(index.numbers(), again.index[axis].numbers()) for axis, index in units.index.items())
        )
        require(same, f"group {name!r}", "a second call gives the same units; they differ", mend)
