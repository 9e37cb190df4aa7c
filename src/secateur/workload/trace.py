"""From a recorded forward pass to its workload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from secateur.dependency import Call, Record, Reference, Solution, fitted, record, references
from secateur.dependency.rules import factories, indexing, joining, movement, norms, pointwise, space, statistic
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
    "mv": ("self", "vec"),
    "addmv": ("mat", "vec"),
    "dot": ("self", "tensor"),
    "vdot": ("self", "other"),
}
CONVOLUTIONS = frozenset(["convolution", "_convolution", "cudnn_convolution", "mkldnn_convolution"])
ATTENTION = frozenset(
    [
        "scaled_dot_product_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_fused_attention_overrideable",
    ]
)
FAMILIES: tuple[tuple[Kind, Mapping[str, Any]], ...] = (
    ("norm", norms.RULES),
    ("statistic", statistic.RULES),
    ("pointwise", pointwise.RULES),
    ("space", space.RULES),
)
# What fills memory or moves it.
NO_LAYER = words(
    "copy fill zero bernoulli empty_like full_like ones_like zeros_like rand_like randn_like im2col "
    "_local_scalar_dense nonzero scatter is_nonzero resize resize_as set"
) | {*movement.RULES, *joining.RULES, *indexing.RULES, *factories.RULES}
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


def from_solution(solution: Solution) -> Workload:
    """The workload of a forward pass that has been recorded and solved.

    Args:
        solution: The labels of everything. A plan fits the workload if its groups come from labels solved likewise.

    Returns:
        Its layers and parameters.
    """
    origins = Origins(solution)
    held = solution.record
    parameters = {held.values[number].names[0]: origins.shape(number) for number in held.numbers("parameter")}
    fed = _fed(held)
    layers = (_layer(call, origins, fed) for call in held.calls)
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
    name = str(call.op._schema.name).split("::")[1].rstrip("_")
    kind = _kind(call, name)
    given, tensors = _given(call), list(_tensors(call))
    if kind is None or not tensors or call.results[0] is None:
        return None
    first, second = tensors[0], given.get("weight")
    settings: dict[str, Any] = {}
    if kind in ("conv", "transposed"):
        settings = {key: tuple(given.get(key, ())) for key in SETTINGS}
    elif kind == "attention":
        second = given["key"]
    elif kind == "recurrent":
        second = given["weight0"]
    elif kind == "matmul":
        first, second = ((given[key].number, given[key])[at] for at, key in enumerate(_operands(name)))
    one, other = origins.shape(first), origins.shape(second.number) if isinstance(second, Reference) else ()
    if kind == "matmul" and _by_weight(first, second, fed) and len(other) == 2:
        kind, other = "linear", other[::-1] if name != "linear" else other
    return Layer(call.module, kind, name, one, other, origins.shape(call.results[0]), **settings)


def _operands(name: str) -> Operands:
    return MATRICES.get(name, ("input", "weight"))


def _by_weight(first: int, second: Any, fed: set[int]) -> bool:
    """Whether the second operand is the same for every input."""
    return first in fed and second.number not in fed


def _kind(call: Call, name: str) -> Kind | None:
    if name in CONVOLUTIONS:
        return "transposed" if _given(call).get("transposed") else "conv"
    if name in MATRICES or name == "linear":
        return "matmul"
    if name in ATTENTION:
        return "attention"
    if name == "mkldnn_rnn_layer":
        return "recurrent"
    if name in NO_LAYER:
        return None
    found: Kind = "pointwise" if pointwise.is_pointwise(call.op) else "other"
    return next((kind for kind, names in FAMILIES if name in names), found)


def _given(call: Call) -> dict[str, Any]:
    names = (one.name for one in call.op._schema.arguments)
    return dict(zip(names, call.arguments, strict=False)) | dict(call.keywords)


def _tensors(call: Call) -> Iterator[int]:
    yield from references(call)
