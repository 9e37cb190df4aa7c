"""SparseGPT: weights leave column by column, and the columns to the right make up for them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import DataError, ModelError, SecateurError
from secateur.granularity.layers import LayerWeight, weight_layers
from secateur.masking import tensor_of
from secateur.plan import Part, Plan
from secateur.pruner import Selection
from secateur.recipe import Recipe
from secateur.reconstruction.choice import Choose, Chooser, chooser
from secateur.reconstruction.forward_order import Pass, forward_order, inputs_of, read, users_of
from secateur.reconstruction.layerwise import by_weight
from secateur.reconstruction.matrix import as_matrix, from_matrix, gram, input_rows
from secateur.reconstruction.stages import AUTO
from secateur.units import Units

SHOWN = 5  # layers in a warning


def sparsegpt(*, block: int = 128, damping: float = 0.01, stages: str | None = AUTO) -> Selection:
    """Prune every layer so that its outputs stay, and mend the weights that stay.

    For each layer, in forward order, with what the already pruned layers before it put out as its inputs X (one row per
    position): `H = 2 X^T X + lambda I`, `lambda = damping * mean(diag H)`, and `U^T U = H^-1` with U upper triangular.
    Columns go from left to right. A weight that leaves costs `w_j^2 / U_jj^2`, and its error `w_j / U_jj`, times row j
    of U, is taken from the columns to its right. Which weights leave is chosen for `block` columns at once, among the
    weights as they have become by then; for N:M, for m columns at once.

    The bias stays. Weights on inputs that were zero in all the data leave first and compensate nothing. Where fewer
    positions than inputs were seen, H without damping is singular, and a warning says so.

    Args:
        block: Columns of which the mask is chosen together, and whose corrections reach the columns to the right
            together; rounded up to a multiple of m.
        damping: Fraction of the mean of H's diagonal that is added to it. It is raised tenfold, with a warning, until H
            can be decomposed.
        stages: Modules that run one after the other, of which one at a time runs: see `forward_order`.

    Returns:
        Selection: the method of a `Pruner`, for `granularity.weight()` and `granularity.pattern(n, m)`. The plan holds
        new weights as updates, and under `made_by["relative_error"]` for each layer `||X (W - W')^T||^2 / ||X W^T||^2`.

    Raises:
        SecateurError: `block` is below 1 or `damping` below 0.

    Shapes:
        W `(O, C)` with C = I h w columns, X `(positions, C)`, H and U `(C, C)`.

    Reference:
        Frantar, Alistarh (2023), SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot, algorithm 1.

    Example:
        Two inputs that are always equal: the weight that stays takes over the one that leaves.

        >>> from secateur import allocation, granularity
        >>> from secateur.pruner import Budget, Pruner
        >>> fc = nn.Linear(2, 1, bias=False)
        >>> _ = fc.weight.data.copy_(torch.tensor([[1.0, 2.0]]))
        >>> data = [(torch.tensor([[1.0, 1.0], [3.0, 3.0], [1.0, 1.001]]), None)]
        >>> pruner = Pruner(sparsegpt(damping=1e-6), granularity.weight(), allocation.uniform())
        >>> plan = pruner.plan(fc, Budget(sparsity=0.5), data=data)
        >>> plan.masks()["weight"].tolist(), plan.updates["weight"].round(decimals=2).tolist()
        ([[False, True]], [[0.0, 3.0]])
    """
    if block < 1 or not damping >= 0:
        raise SecateurError(f"block is at least 1 and damping at least 0; given: {block}, {damping}")
    name = f"sparsegpt(block={block}, damping={damping:g})"
    return Recipe(name, partial(_select, how=_How(block, damping), stages=stages))


def sweep(weight: Tensor, upper: Tensor, choose: Choose, block: int, step: int) -> tuple[Tensor, Tensor]:
    """The algorithm on one matrix: choose, remove, and correct the columns to the right.

    Args:
        weight: `(rows, columns)`.
        upper: `(columns, columns)`, upper triangular, `upper^T upper = H^-1`.
        choose: From the first of some columns and the cost of each of their weights, `(rows, width)`, to bools: which
            weights stay.
        block: Columns whose corrections reach those to the right together; a multiple of `step`.
        step: Columns that `choose` is asked for together.

    Returns:
        The new weight, zero where a weight has left, and bools, True where a weight stays.

    Example:
        >>> keep_last = lambda first, costs: torch.tensor([[False, True]])
        >>> sweep(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, -0.5], [0.0, 1.0]]), keep_last, 2, 2)[0]
        tensor([[0.0000, 2.5000]])
    """
    weight, keep = weight.clone(), torch.ones_like(weight, dtype=torch.bool)
    columns = weight.shape[1]
    for first in range(0, columns, block):
        last = min(first + block, columns)
        errors = torch.zeros_like(weight[:, first:last])
        for column in range(first, last):
            if (column - first) % step == 0:
                some = slice(column, min(column + step, last))
                costs = (weight[:, some] / upper.diagonal()[some]).square()
                keep[:, some] = choose(column, costs)
            error = weight[:, column].masked_fill(keep[:, column], 0) / upper[column, column]
            weight[:, column:last] -= torch.outer(error, upper[column, column:last])
            errors[:, column - first] = error
        weight[:, last:] -= errors @ upper[first:last, last:]
    return weight.masked_fill(~keep, 0), keep


def inverse_factor(hessian: Tensor) -> Tensor | None:
    """The upper triangular U with `U^T U = H^-1`, from a Cholesky decomposition of H from its last column to its first.

    Args:
        hessian: `(n, n)`, symmetric.

    Returns:
        `(n, n)`; None where H is not positive definite to rounding.

    Example:
        >>> inverse_factor(torch.tensor([[4.0, 0.0], [0.0, 16.0]]))
        tensor([[0.5000, 0.0000],
                [0.0000, 0.2500]])
    """
    lower, failed = torch.linalg.cholesky_ex(hessian.flip(0, 1))
    diagonal = lower.diagonal()
    if bool(failed) or bool(diagonal.min() <= diagonal.max() * torch.finfo(hessian.dtype).eps * len(hessian)):
        return None
    one = torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)
    inverse: Tensor = torch.linalg.solve_triangular(lower, one, upper=False)
    return inverse.flip(0, 1)


@dataclass(frozen=True)
class _How:
    block: int
    damping: float


def _select(
    model: nn.Module,
    units: Mapping[str, Units],
    sparsities: Mapping[str, float],
    batches: Iterable[Any],
    how: _How,
    stages: str | None,
) -> Plan:
    groups = by_weight(units, "sparsegpt")
    layers = {layer.parameter: layer for layer in weight_layers(model) if layer.parameter in groups}
    choosers = {
        weight: chooser(_supported(layers.get(weight), name), name, units[name], sparsities[name])
        for weight, name in groups.items()
    }
    inputs = inputs_of(batches, "sparsegpt")
    working = copy.deepcopy(model)
    parts: dict[str, Part] = {}
    updates: dict[str, Tensor] = {}
    errors: dict[str, float] = {}
    doubts: list[str] = []
    for weights, run in forward_order(working, groups, inputs, stages):
        grams = _grams(working, {weight: layers[weight] for weight in weights}, run)
        for weight in weights:
            name, parameter = groups[weight], tensor_of(working, weight)
            found = grams.pop(weight)
            new, keep, errors[name] = _layer(parameter.detach(), layers[weight], found, choosers[weight], how, doubts)
            updates[weight] = new
            parameter.data.copy_(new)
            parts[name] = Part(name, units[name], keep, "nothing allocated" if bool(keep.all()) else "")
    _warn(doubts)
    return Plan(tuple(parts[name] for name in units), updates, {"relative_error": errors})


def _supported(layer: LayerWeight | None, name: str) -> LayerWeight:
    if layer is None or layer.unsuited or layer.transposed:
        raise ModelError(
            f"sparsegpt takes linear and convolution layers with a plain weight; {name!r} is none: exclude it"
        )
    return layer


@dataclass
class _Gram:
    """`X^T X` of a layer so far, and the number of rows of X."""

    total: Tensor | None = None
    rows: int = 0

    def add(self, product: Tensor, rows: int) -> None:
        self.total = product.clone() if self.total is None else self.total.add_(product)
        self.rows += rows


class _Products:
    """`X^T X` of what layers read; that of a tensor which several linear layers read is taken once."""

    def __init__(self) -> None:
        self._last: tuple[Tensor, int, Tensor, int] | None = None

    def of(self, layer: LayerWeight, module: nn.Module, values: Tensor) -> tuple[Tensor, int]:
        if self._last and self._last[0] is values and self._last[1] == values._version and not layer.kernel:
            return self._last[2:]
        pieces = [(gram(rows), rows.shape[1]) for rows in input_rows(layer, module, values.detach())]
        total = torch.stack([piece for piece, _ in pieces]).sum(0) if len(pieces) > 1 else pieces[0][0]
        count = sum(rows for _, rows in pieces)
        self._last = None if layer.kernel else (values, values._version, total, count)
        return total, count


def _grams(model: nn.Module, layers: Mapping[str, LayerWeight], run: Pass) -> dict[str, _Gram]:
    """The inputs of the layers of a step, as they pass."""
    found, products = {weight: _Gram() for weight in layers}, _Products()

    def add(weight: str, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        found[weight].add(*products.of(layers[weight], module, read(args, named)))

    with ExitStack() as stack:
        for weight, modules in users_of(model, layers).items():
            for module in modules:
                hook = module.register_forward_pre_hook(partial(add, weight), with_kwargs=True)
                stack.callback(hook.remove)
        for _ in run():
            pass
    return found


def _layer(
    weight: Tensor, layer: LayerWeight, seen: _Gram, chooser: Chooser, how: _How, doubts: list[str]
) -> tuple[Tensor, Tensor, float]:
    """New weight, units that stay, relative error; what is doubtful is added to the doubts."""
    if seen.total is None:
        raise DataError(f"the data never reached {layer.name!r}: exclude it, or give other data")
    if not bool(torch.isfinite(seen.total).all()):
        raise DataError(f"what {layer.name!r} reads is not finite: look for NaN or infinity in the data")
    matrix = as_matrix(layer, weight).double()
    new, keep = torch.empty_like(matrix), torch.empty_like(matrix, dtype=torch.bool)
    step = chooser.step or how.block
    block = -(-how.block // step) * step
    live = 0
    for group, (rows, total) in enumerate(zip(matrix, seen.total, strict=True)):
        alive = total.diagonal() > 0
        live = max(live, int(alive.sum()))
        upper = _factor(2 * total, alive, how.damping, layer.name, doubts)
        new[group], keep[group] = sweep(rows, upper, partial(_choose, chooser, group, alive), block, step)
    if seen.rows < live:
        doubts.append(f"{layer.name} ({seen.rows} positions for {live} inputs)")
    error = relative_error(matrix, new, seen.total)
    return from_matrix(layer, new).to(weight.dtype), chooser.of_units(keep), error


def _choose(chooser: Chooser, group: int, alive: Tensor, first: int, costs: Tensor) -> Tensor:
    """What hangs on an input that was always zero costs nothing."""
    return chooser.choose(group, first, costs * alive[first : first + costs.shape[1]])


def _factor(hessian: Tensor, alive: Tensor, damping: float, name: str, doubts: list[str]) -> Tensor:
    """U of the damped Hessian. An input that was always zero gets the mean of the others, and touches none of them."""
    mean = float(hessian.diagonal()[alive].mean()) if bool(alive.any()) else 1.0
    hessian.diagonal()[~alive] = mean
    given = damping
    while True:
        damped = hessian + damping * mean * torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)
        upper = inverse_factor(damped)
        if upper is not None:
            if damping != given:
                doubts.append(f"{name} (singular at a damping of {given:g}, raised to {damping:g})")
            return upper
        damping = max(10 * damping, 1e-8)


def relative_error(before: Tensor, after: Tensor, gram: Tensor) -> float:
    """`||X (W - W')^T||^2 / ||X W^T||^2`, from `X^T X` alone.

    Args:
        before: W, `(groups, rows, columns)`.
        after: W', of the same shape.
        gram: `X^T X`, `(groups, columns, columns)`.

    Returns:
        A number; 0 where the outputs were zero.

    Example:
        >>> before, after = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[0.0, 2.0]]])
        >>> relative_error(before, after, torch.eye(2).unsqueeze(0))
        0.2...
    """
    change = before - after
    lost, whole = (float(((one @ gram) * one).sum()) for one in (change, before))
    return max(0.0, lost) / whole if whole > 0 else 0.0


def _warn(doubts: list[str]) -> None:
    if doubts:
        more = f" and {len(doubts) - SHOWN} more" if len(doubts) > SHOWN else ""
        warnings.warn(
            f"the inputs of {', '.join(doubts[:SHOWN])}{more} do not fix what makes up for a weight: it rests on the "
            "damping there. Give more data, or more damping",
            stacklevel=4,
        )
