"""From a recorded forward pass to its workload."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from secateur.dependency import Call, Record, Reference, Solution, fitted, record, references
from secateur.dependency.rules import (
    contraction,
    convolution,
    factories,
    indexing,
    joining,
    movement,
    norms,
    pointwise,
    space,
    statistic,
)
from secateur.dependency.step import words
from secateur.workload.layer import Kind, Layer, Workload
from secateur.workload.origins import Origins

Operands = tuple[str, str]

# Names of the two operands of products, as the schemas of the operations have them.
MATRICES: Mapping[str, Operands] = {
    "mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "_grouped_mm": ("self", "mat2"),
    "addmm": ("mat1", "mat2"),
    "_addmm_activation": ("mat1", "mat2"),
    "baddbmm": ("batch1", "batch2"),
    "addbmm": ("batch1", "batch2"),
    "matmul": ("self", "other"),
    "linear": ("input", "weight"),
    "mv": ("self", "vec"),
    "addmv": ("mat", "vec"),
    "dot": ("self", "tensor"),
    "vdot": ("self", "other"),
}
# By kind, those of all other layers; an operand that is not given is left out.
OPERANDS: Mapping[Kind, Operands] = {
    **dict.fromkeys(("conv", "transposed", "norm"), ("input", "weight")),
    "attention": ("query", "key"),
    "recurrent": ("input", "weight0"),
}
CONVOLUTIONS = words(convolution.NAMES)
ATTENTION = words(contraction.ATTENTION)
FAMILIES: tuple[tuple[Kind, Mapping[str, Any]], ...] = (
    ("norm", norms.RULES),
    ("statistic", statistic.RULES),
    ("pointwise", pointwise.RULES),
    ("space", space.RULES),
)
# What fills memory or moves it.
NO_LAYER = words(
    "copy fill zero bernoulli empty_like full_like ones_like zeros_like rand_like randn_like im2col nonzero scatter "
    "_local_scalar_dense resize set"
) | frozenset((*movement.RULES, *joining.RULES, *indexing.RULES, *factories.RULES))
SETTINGS = ("stride", "padding", "dilation")


def workload(model: nn.Module, example: Any) -> Workload:
    """The shapes of what runs, from one recording that computes nothing unless the pass looks at values.

    Args:
        model: Any module.
        example: Inputs of a batch, as the model takes them. The size of the batch is part of the shapes.

    Returns:
        Its layers and parameters, ready for `resize`.

    Example:
        >>> import torch
        >>> found = workload(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.zeros(5, 3))
        >>> [(layer.name, layer.kind, layer.input, layer.weight, layer.macs) for layer in found.layers]
        [('0', 'linear', (5, 3), (4, 3), 60), ('1', 'pointwise', (5, 4), (), 0), ('2', 'linear', (5, 4), (2, 4), 40)]
        >>> found.macs, found.parameter_count
        (100, 26)
    """
    return from_solution(fitted(model, record(model, example)))


def from_solution(solution: Solution, ran: Collection[str] | None = None) -> Workload:
    """The workload of a forward pass that has been recorded and solved.

    Args:
        solution: The labels of everything. A plan fits the workload if its groups come from labels solved likewise.
        ran: Names of the modules that count; None: all. A pass in train mode runs heads that only help to train.

    Returns:
        Its layers and parameters.
    """
    origins = Origins(solution)
    held = solution.record
    parameters = {held.values[number].names[0]: origins.shape(number) for number in held.numbers("parameter")}
    fed = _fed(held)
    calls = held.calls if ran is None else [call for call in held.calls if call.module in ran]
    layers = (_layer(call, origins, fed) for call in calls)
    return Workload(tuple(layer for layer in layers if layer is not None), parameters)


def _fed(found: Record) -> set[int]:
    """Numbers of the values that depend on the inputs; the others are weights, or computed from them."""
    fed = set(found.numbers("input"))
    for call in found.calls:
        if fed.intersection(references(call)):
            fed.update(number for number in call.results if number is not None)
    return fed


def _layer(call: Call, origins: Origins, fed: set[int]) -> Layer | None:
    """An operation as a layer; None if it only moves data, or no tensor goes in or comes out."""
    kind, given = _kind(call), call.given
    operands = _operands(call, kind)
    if kind is None or not operands or call.results[0] is None:
        return None
    shapes = [origins.shape(one) for one in operands]
    first, second = shapes[0], shapes[1] if len(shapes) > 1 else ()
    if kind == "matmul" and len(second) == 2 and operands[0] in fed and operands[1] not in fed:
        kind, second = "linear", second if call.name == "linear" else second[::-1]
    settings = {key: tuple(given.get(key, ())) for key in SETTINGS} if kind in ("conv", "transposed") else {}
    return Layer(call.module, kind, call.name, first, second, origins.shape(call.results[0]), **settings)


def _operands(call: Call, kind: Kind | None) -> list[int]:
    """Numbers of the tensors whose shapes tell what a layer takes: one or two."""
    given, keys = call.given, MATRICES.get(call.name, OPERANDS.get(kind or "other", ()))
    named = [given[key].number for key in keys if isinstance(given.get(key), Reference)]
    return named if named else list(references(call))[:1]


def _kind(call: Call) -> Kind | None:
    if call.name in CONVOLUTIONS:
        return "transposed" if call.given.get("transposed") else "conv"
    if call.name in MATRICES:
        return "matmul"
    if call.name in ATTENTION:
        return "attention"
    if call.name == "mkldnn_rnn_layer":
        return "recurrent"
    if call.name in NO_LAYER:
        return None
    found: Kind = "pointwise" if pointwise.is_pointwise(call.op) else "other"
    return next((kind for kind, names in FAMILIES if call.name in names), found)
