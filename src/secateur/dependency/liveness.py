"""Which positions of which values depend on the inputs: a record run with what is live beside what is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_leaves, tree_map_only

from secateur.dependency.record import Call, Record, Reference, execute, references, replay
from secateur.dependency.rules import is_move
from secateur.dependency.rules.contraction import ATTENTION
from secateur.dependency.rules.pointwise import PRODUCTS, QUOTIENTS, is_pointwise
from secateur.dependency.rules.space import RULES as SPACE
from secateur.dependency.step import words

Tensors = Mapping[int, Tensor]
See = Callable[[Call, Tensors, Tensors], None]


@dataclass(frozen=True)
class Operand:
    """A tensor that an operation takes.

    Args:
        value: What it is for this input.
        live: bool, of the same shape: where another input may give another value.
    """

    value: Tensor
    live: Tensor

    @property
    def nonzero(self) -> Tensor:
        """Where it is not zero for every input."""
        return self.live | (self.value != 0)


Given = Mapping[str, Any]  # arguments by name, an `Operand` in place of every tensor
Live = Callable[[Call, Given, Sequence[int]], Tensor]


def watch(record: Record, state: Mapping[str, Tensor], inputs: tuple[Tensor, ...], see: See) -> None:
    """Run a record, and look at the operands of every operation before it runs.

    All positions of the inputs are live. A product is live only where the other factor is not zero, and so is a sum of
    products: a layer reads through the weights that it has. What is not live has the same value for every input, and
    that value is the one computed here.

    Args:
        record: Of a forward pass.
        state: Parameters and buffers by name.
        inputs: Tensors of the example's shapes.
        see: Is given the operation, and by number the values and where they are live (bool).

    Example:
        The first of two outputs has no weight left:

        >>> from secateur.dependency import record
        >>> model = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.ReLU())
        >>> _ = model[0].weight.data.copy_(torch.tensor([[0.0], [3.0]]))
        >>> def show(call, values, live):
        ...     if call.name == "relu":
        ...         print(live[call.given["self"].number])
        >>> watch(record(model, torch.ones(1, 1)), model.state_dict(), (torch.ones(1, 1),), show)
        tensor([[False,  True]])
    """
    live: dict[int, Tensor] = {}

    def run(call: Call, tensors: dict[int, Tensor]) -> None:
        for number in live.keys() - tensors.keys():
            del live[number]
        for number in references(call):
            if number not in live:
                given = record.values[number].source == "input"
                live[number] = torch.full_like(tensors[number], given, dtype=torch.bool)
        see(call, tensors, live)
        moved = is_move(call.op) and call.name not in ALTERED
        found = None if moved else _found(record, call, tensors, live)
        execute(call, tensors)
        if found is None:
            _move(call, live, tensors)
        else:
            _put(call, found, live, tensors)

    replay(record, state, inputs, run)


def _move(call: Call, live: dict[int, Tensor], tensors: Tensors) -> None:
    """The same move of what is live; views stay views."""
    try:
        execute(call, live)
    except (RuntimeError, NotImplementedError):  # none for truth values, or in another order in memory
        everywhere = any(bool(live[number].any()) for number in references(call))
        for number in _made(call):
            live[number] = torch.full_like(tensors[number], everywhere, dtype=torch.bool)


def _put(call: Call, found: Tensor, live: dict[int, Tensor], tensors: Tensors) -> None:
    written = call.given.get("self") if call.op._schema.name.endswith("_") else None
    for at, number in enumerate(_made(call)):
        if isinstance(written, Reference) and tensors[number] is tensors[written.number]:
            live[number] = live[written.number].copy_(found)
        elif at == 0 and tensors[number].shape == found.shape:
            live[number] = found.clone(memory_format=torch.contiguous_format)
        else:
            live[number] = torch.full_like(tensors[number], bool(found.any()), dtype=torch.bool)
        if tensors[number].stride() != live[number].stride() and tensors[number].numel():
            live[number] = _like(live[number], tensors[number])


def _like(live: Tensor, value: Tensor) -> Tensor:
    """In the order in memory of the value, so that views of one are views of the other."""
    return torch.empty_like(value, dtype=torch.bool).copy_(live)


def _made(call: Call) -> list[int]:
    return [number for number in call.results if number is not None]


def _found(record: Record, call: Call, tensors: Tensors, live: Tensors) -> Tensor:
    number = next(iter(_made(call)), None)
    shape = () if number is None else record.values[number].shape
    given = tree_map_only(Reference, lambda one: Operand(tensors[one.number], live[one.number]), dict(call.given))
    if torch.Tag.nondeterministic_seeded in call.op.tags and call.name not in ATTENTION.split():
        return torch.ones(shape, dtype=torch.bool)
    operands = _operands(given)
    if call.name in CONSTANT or not any(bool(one.live.any()) for one in operands):
        return torch.zeros(shape, dtype=torch.bool)
    rule = RULES.get(call.name, _pointwise if is_pointwise(call.op) else _opaque)
    return rule(call, given, shape).expand(shape)


def _operands(given: Any) -> list[Operand]:
    return [one for one in tree_leaves(given) if isinstance(one, Operand)]


def _opaque(_: Call, given: Given, shape: Sequence[int]) -> Tensor:
    """Everywhere."""
    return torch.full(tuple(shape), any(bool(one.live.any()) for one in _operands(given)))


def _either(*sides: Tensor) -> Tensor:
    return reduce(torch.logical_or, sides)


def _pointwise(_: Call, given: Given, __: Sequence[int]) -> Tensor:
    return _either(*(one.live for one in _operands(given)))


def _product(call: Call, given: Given, shape: Sequence[int]) -> Tensor:
    operands = _operands(given)
    if len(operands) != 2:
        return _pointwise(call, given, shape)
    one, other = operands
    return (one.live & other.nonzero) | (other.live & one.nonzero)


def _quotient(call: Call, given: Given, shape: Sequence[int]) -> Tensor:
    """Of nothing is nothing; so it is for a slope beside the value."""
    first = given["self"]
    if not isinstance(first, Operand):
        return _pointwise(call, given, shape)
    others = [one.live for one in _operands(given) if one is not first]
    return _either(first.live, *(other & first.nonzero for other in others))


def _copied(_: Call, given: Given, __: Sequence[int]) -> Tensor:
    source: Operand = given["src"]
    return source.live


def _sum_of_products(one: Operand, other: Operand, product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Counted: how many terms are live."""
    found = product(one.live.float(), other.nonzero.float())
    if bool(other.live.any()):
        found = found + product(one.nonzero.float(), other.live.float())
    return found > 0


def _matmul(call: Call, given: Given, shape: Sequence[int]) -> Tensor:
    names = ("self", "mat1", "batch1"), ("mat2", "batch2", "vec", "other", "tensor")
    added = given["self"] if call.name in ("addmm", "baddbmm") else None
    one, other = (next(given[name] for name in side if name in given and given[name] is not added) for side in names)
    found = _sum_of_products(one, other, torch.matmul)
    return found if added is None or given.get("beta", 1) == 0 else (found | added.live).expand(tuple(shape))


def _convolution(_: Call, given: Given, __: Sequence[int]) -> Tensor:
    more = [given[name] for name in ("stride", "padding", "dilation", "transposed", "output_padding", "groups")]
    found = _sum_of_products(
        given["input"], given["weight"], lambda one, other: torch.ops.aten.convolution(one, other, None, *more)
    )
    bias = given.get("bias")
    return found | _along(bias.live, 1, found.ndim) if isinstance(bias, Operand) else found


def _along(vector: Tensor, dim: int, dims: int) -> Tensor:
    return vector.reshape([-1 if at == dim else 1 for at in range(dims)])


def _affine(given: Given, live: Tensor, like: Callable[[Tensor], Tensor]) -> Tensor:
    """Scaled and shifted."""
    scale, shift = given.get("weight"), given.get("bias")
    if isinstance(scale, Operand):
        live = (live & like(scale.nonzero)) | like(scale.live)
    return live | like(shift.live) if isinstance(shift, Operand) else live


def _batch_norm(_: Call, given: Given, __: Sequence[int]) -> Tensor:
    live = given["input"].live
    if given.get("training", given.get("running_mean") is None):
        live = live.any(dim=[dim for dim in range(live.ndim) if dim != 1], keepdim=True)
    return _affine(given, live, lambda one: _along(one, 1, live.ndim))


def _layer_norm(_: Call, given: Given, __: Sequence[int]) -> Tensor:
    live = given["input"].live
    dims = list(range(-len(given["normalized_shape"]), 0))
    return _affine(given, live.any(dim=dims, keepdim=True), lambda one: one)


def _group_norm(_: Call, given: Given, __: Sequence[int]) -> Tensor:
    live = given["input"].live
    each = live.flatten(1).any(1).reshape(-1, *(1 for _ in live.shape[1:]))
    return _affine(given, each, lambda one: _along(one, 1, live.ndim))


def _reduced(_: Call, given: Given, shape: Sequence[int]) -> Tensor:
    """Over some dimensions, which may be left out of the result."""
    live: Tensor = given["self"].live
    dims = given.get("dim")
    dims = list(range(live.ndim)) if dims in (None, []) else dims
    found = live.any(dim=dims, keepdim=True)
    return found if found.ndim == len(shape) else found.reshape(tuple(shape))


def _space(call: Call, given: Given, _: Sequence[int]) -> Tensor:
    """All of a channel's positions may come to all."""
    live: Tensor = given["self" if "self" in given else "input"].live
    dims = next(count for count in (1, 2, 3) if f"{count}d" in call.name)
    return live.any(dim=list(range(-dims, 0)), keepdim=True)


def _embedding(_: Call, given: Given, __: Sequence[int]) -> Tensor:
    indices, table = given["indices"], given["weight"]
    return torch.as_tensor(indices.live[..., None] & table.nonzero.any(0))


def _looked_up(call: Call, given: Given, shape: Sequence[int]) -> Tensor:
    """By numbers that are the same for every input."""
    first = given["self"]
    if any(bool(one.live.any()) for one in _operands(given) if one is not first):
        return _opaque(call, given, shape)
    names = [one.name for one in call.op._schema.arguments if one.name in given]
    plain = {name: tree_map_only(Operand, lambda one: one.value, given[name]) for name in names}
    return torch.as_tensor(call.op(**{**plain, "self": first.live}))


def _attention(_: Call, given: Given, shape: Sequence[int]) -> Tensor:
    """Weights that are live make everything live but values that are zero all along the sequence."""
    value: Operand = given["value"]
    others = [one for one in _operands(given) if one is not value]
    weighed = any(bool(one.live.any()) for one in others)
    found = (value.nonzero if weighed else value.live).any(dim=-2, keepdim=True)
    if len(shape) > 3 and found.shape[-3] not in (1, shape[-3]):
        found = found.repeat_interleave(shape[-3] // found.shape[-3], dim=-3)
    return found


def _joined(call: Call, given: Given, _: Sequence[int]) -> Tensor:
    return torch.as_tensor(call.op([one.live for one in given["tensors"]], given.get("dim", 0)))


def _padded(_: Call, given: Given, __: Sequence[int]) -> Tensor:
    return functional.pad(given["self"].live, given["pad"])


def _glu(_: Call, given: Given, __: Sequence[int]) -> Tensor:
    dim, whole = given.get("dim", -1), given["self"]
    half, gate = whole.live.chunk(2, dim)
    return torch.as_tensor(half | (gate & (whole.value.chunk(2, dim)[0] != 0)))


def _filled(_: Call, given: Given, __: Sequence[int]) -> Tensor:
    value = given["value"]
    return value.live if isinstance(value, Operand) else torch.zeros((), dtype=torch.bool)


def _same(_: Call, given: Given, __: Sequence[int]) -> Tensor:
    live: Tensor = given["self"].live
    return live


ALTERED = words("constant_pad_nd glu _to_copy to")  # moves that do more, or look at the kind of number
CONSTANT = words("zero empty_like zeros_like ones_like full_like new_empty new_zeros new_ones new_full")
RULES: dict[str, Live] = {
    **dict.fromkeys(PRODUCTS, _product),
    **dict.fromkeys([*QUOTIENTS, "_prelu_kernel"], _quotient),
    **dict.fromkeys(["copy"], _copied),
    **dict.fromkeys(words("mm bmm addmm baddbmm matmul"), _matmul),
    "convolution": _convolution,
    **dict.fromkeys(
        words(
            "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm "
            "_batch_norm_with_update"
        ),
        _batch_norm,
    ),
    **dict.fromkeys(words("native_layer_norm _fused_rms_norm rms_norm"), _layer_norm),
    "native_group_norm": _group_norm,
    **dict.fromkeys(
        words("mean sum amax amin linalg_vector_norm _softmax _log_softmax _safe_softmax logsumexp"), _reduced
    ),
    **dict.fromkeys((name for name in SPACE if name != "im2col"), _space),
    "embedding": _embedding,
    **dict.fromkeys(words("index _unsafe_index gather index_select"), _looked_up),
    **dict.fromkeys(ATTENTION.split(), _attention),
    **dict.fromkeys(["cat", "stack"], _joined),
    "constant_pad_nd": _padded,
    "glu": _glu,
    "fill": _filled,
    "_to_copy": _same,
    "to": _same,
    "hardswish": _pointwise,
}
