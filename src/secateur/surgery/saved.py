"""`save` and `restore`: a model of other sizes than its code makes, without pickle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from secateur.batches import drop_caches
from secateur.dependency import integers
from secateur.errors import ModelError, PlanError, RunError
from secateur.state import load_state, save_state
from secateur.surgery.classes import refresh
from secateur.surgery.dead import LAYERS
from secateur.surgery.floats import Floats, floats, read_float, restore_floats
from secateur.surgery.shrink import rewrite
from secateur.units import Attribute

Model = TypeVar("Model", bound=nn.Module)
KIND = "secateur.model"
NO_SIZE = 2**48  # nothing in memory has so many parts: such integers are hashes or marks, other ones in every process
WRONG = (AssertionError, AttributeError, KeyError, IndexError, OverflowError, RuntimeError, TypeError, ValueError)


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a model to one safetensors file: its tensors, and the integers that its modules hold.

    Integers are all written, since nothing is hung on the model that would say which of them `shrink` has rewritten.
    So are floating-point numbers beside parameters, such as the eps of a norm. Not kept: train or eval mode, what
    requires a gradient, devices.

    Args:
        model: Usually what `shrink` returned; any module.
        path: The file; an earlier one is replaced only by a complete new one.

    Raises:
        ModelError: A parameter has no values, or the file cannot be written.

    Example:
        >>> import tempfile
        >>> from secateur import allocation, criteria, granularity
        >>> from secateur.pruner import Budget, Pruner
        >>> from secateur.surgery import shrink
        >>> import torch
        >>> def made():
        ...     return nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
        >>> pruner = Pruner(criteria.magnitude(), granularity.channel(torch.zeros(1, 2)), allocation.uniform())
        >>> small = shrink(made(), pruner.plan(made(), Budget(sparsity=0.5)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(small, f"{folder}/half.safetensors")
        ...     again = restore(f"{folder}/half.safetensors", made())
        >>> x = torch.ones(1, 2)
        >>> torch.equal(again(x), small(x))
        True
    """
    tensors = _tensors(model)
    empty = [name for name, tensor in tensors.items() if is_lazy(tensor) or tensor.is_meta]
    if empty:
        raise ModelError(f"{empty[:3]} have no values (lazy, or on the meta device): load the weights before saving")
    held = [[one.module, list(one.path), value] for one, value in integers(model).items()]
    tree: Any = {
        "classes": _classes(model),
        "tensors": {name: tensor.detach() for name, tensor in tensors.items()},
        "order": {name: order for name, tensor in tensors.items() if (order := _order(tensor))},
        "integers": held,
        "floats": [[*where, value] for where, value in floats(model).items()],
    }
    try:
        save_state(Path(path), tree, kind=KIND)
    except RunError as error:
        raise ModelError(f"the model was not saved: {error}") from error


def restore(path: str | os.PathLike[str], model: Model) -> Model:
    """Read a model into a freshly made one, which takes on the sizes of the file.

    Nothing in the file is executed. Tensors may be smaller than the model's, not larger, but for buffers that a
    state_dict leaves out; a linear layer or convolution may have a bias where the model's has none; integers are set
    only where the model holds one already, and to no larger one, and those beyond 2^48 are no sizes and stay the
    model's; floating-point numbers only beside parameters that are smaller. The result computes the same bits as what
    was saved.

    Args:
        path: What `save` wrote.
        model: A new model, as the code makes it, of the same class and settings; on any device, also the meta device.
            It is changed; if the file does not fit, it is left as it is. Make its optimizer afterwards.

    Returns:
        `model`.

    Raises:
        PlanError: The file is missing, damaged, of another kind, or does not fit the model; the message says where.

    Example:
        The file holds two of the four outputs:

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(nn.Linear(3, 2), f"{folder}/small.safetensors")
        ...     again = restore(f"{folder}/small.safetensors", nn.Linear(3, 4))
        >>> again
        Linear(in_features=3, out_features=2, bias=True)
    """
    classes, tensors, held, held_floats = _read(Path(path))
    mine = _tensors(model)
    _check_classes(_classes(model), classes)
    _check_whole(model, mine)
    given = _given(model, tensors)
    _check(
        type(model).__name__, mine, {name: one for name, one in tensors.items() if name not in given}, _temporary(model)
    )
    wanted = _differing(model, held)
    smaller = {name.rpartition(".")[0] for name, old in mine.items() if tensors[name].shape != old.shape}
    replaced = {id(old): _like(old, tensors[name]) for name, old in mine.items()}
    for module in model.modules():
        for values in (module._parameters, module._buffers):
            for name, old in values.items():
                if old is not None:
                    values[name] = replaced[id(old)]  # type: ignore[assignment]
    for name, layer in given.items():
        layer.bias = nn.Parameter(tensors[name].to(layer.weight.device), requires_grad=layer.weight.requires_grad)
    for attribute, lost in wanted.items():
        rewrite(model, attribute, lost)
    restore_floats(model, {where: value for where, value in held_floats.items() if where[0] in smaller})
    for module in model.modules():
        refresh(module)
    drop_caches(model)
    return model


def _given(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Layers without a bias for which the file has one: dead channels are folded into biases."""
    found: dict[str, Any] = {}
    for path, module in model.named_modules():
        if isinstance(module, LAYERS) and module.bias is None:
            name, weight = f"{path}.bias".lstrip("."), tensors.get(f"{path}.weight".lstrip("."))
            bias = tensors.get(name)
            if bias is not None and weight is not None and (bias.shape, bias.dtype) == (weight.shape[:1], weight.dtype):
                found[name] = module
    return found


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, also those that a state_dict leaves out; what stands under several names comes once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _classes(model: nn.Module) -> dict[str, str]:
    return {name: type(module).__qualname__ for name, module in model.named_modules()}


def _order(tensor: Tensor) -> tuple[int, ...]:
    """The dimensions from the outermost in memory to the innermost; nothing if they are in order."""
    if tensor.layout is not torch.strided or tensor.is_contiguous():
        return ()
    return tuple(sorted(range(tensor.ndim), key=tensor.stride().__getitem__, reverse=True))


def _ordered(tensor: Any, order: Any) -> Tensor:
    """The same numbers in memory as they were: kernels round otherwise where they lie otherwise."""
    if not isinstance(tensor, Tensor):
        raise ValueError("what stands among its tensors is none")
    if order is None:
        return tensor
    if not isinstance(order, tuple) or {*map(type, order)} - {int} or sorted(order) != list(range(tensor.ndim)):
        raise ValueError(f"{order!r} is no order of {tensor.ndim} dimensions")
    back = [order.index(dim) for dim in range(tensor.ndim)]
    return tensor.permute(order).contiguous().permute(back)


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor], dict[Attribute, int], Floats]:
    try:
        tree: Any = load_state(path, kind=KIND)
        order = tree["order"]
        tensors = {str(name): _ordered(tensor, order.get(name)) for name, tensor in tree["tensors"].items()}
        held = dict(_attribute(*one) for one in tree["integers"])
        return dict(tree["classes"]), tensors, held, dict(read_float(*one) for one in tree.get("floats", ()))
    except RunError as error:
        raise PlanError(f"the model was not read: {error}") from error
    except WRONG as error:
        raise PlanError(f"{path} is damaged: {type(error).__name__}: {error}. Save the model again") from error


def _attribute(module: Any, path: Any, value: Any) -> tuple[Attribute, int]:
    whole = isinstance(module, str) and type(value) is int and path and all(type(step) in (str, int) for step in path)
    if not whole or any(isinstance(step, str) and step.startswith("__") for step in path):
        raise ValueError(f"{module!r}, {path!r}, {value!r} is no integer of a module")
    return Attribute(module, tuple(path)), value


def _check_classes(mine: dict[str, str], saved: dict[str, str]) -> None:
    for name in {**mine, **saved}:
        if mine.get(name) != saved.get(name):
            what, here = saved.get(name, "nothing"), mine.get(name, "nothing")
            raise PlanError(
                f"the file is of another model: {name or 'the model itself'!r} is {what} there and {here} here. "
                "Make the model with the class and settings it had before it was pruned"
            )


def _check_whole(model: nn.Module, mine: dict[str, Tensor]) -> None:
    """What the file cannot give has to be there."""
    if lazy := [name for name, tensor in mine.items() if is_lazy(tensor)]:
        raise PlanError(f"{lazy[:3]} of the model have no shape yet: run it once on an example first")
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, Tensor) and value.is_meta:
                raise PlanError(
                    f"{key!r} of {name or 'the model itself'!r} is a tensor without values, neither a parameter "
                    "nor a buffer, which the file has: make the model on a device other than meta"
                )


def _temporary(model: nn.Module) -> set[str]:
    """Buffers that a state_dict leaves out: a forward pass may have made them larger, as their inputs ask for it."""
    return {
        f"{path}.{name}".lstrip(".")
        for path, module in model.named_modules()
        for name in module._non_persistent_buffers_set
    }


def _check(name: str, mine: dict[str, Tensor], tensors: dict[str, Tensor], temporary: set[str]) -> None:
    missing, unknown = mine.keys() - tensors.keys(), tensors.keys() - mine.keys()
    if missing or unknown:
        raise PlanError(
            f"the file is of another model than {name}: it lacks {sorted(missing)[:3]} and has {sorted(unknown)[:3]}, "
            "which the model has not. Make the model with the class and settings it had before it was pruned"
        )
    for key, old in mine.items():
        new = tensors[key]
        smaller = key in temporary or all(small <= large for small, large in zip(new.shape, old.shape, strict=False))
        fits = new.ndim == old.ndim and smaller
        if not fits or new.dtype != old.dtype:
            raise PlanError(
                f"{key!r} is {new.dtype} of shape {tuple(new.shape)} in the file, and {old.dtype} of {tuple(old.shape)}"
                f" in {name}: a pruned model has smaller tensors of the same kind"
            )


def _differing(model: nn.Module, held: dict[Attribute, int]) -> dict[Attribute, int]:
    """By how much the model's integers are larger than the file's."""
    mine = integers(model)
    sizes = [one for one in held if one in mine and abs(mine[one]) < NO_SIZE]
    wanted = {one: mine[one] - held[one] for one in sizes if mine[one] != held[one]}
    for one in wanted:
        if not min(mine[one], 0) <= held[one] <= max(mine[one], 0):
            where = ".".join(map(str, (*filter(None, [one.module]), *one.path)))
            raise PlanError(
                f"{where} is {held[one]} in the file and {mine[one]} in the model: pruning only makes integers "
                "smaller. Make the model with the settings it had before it was pruned; if this counts something, "
                "set it first"
            )
    return wanted


def _like(old: Tensor, new: Tensor) -> Tensor:
    moved = new if old.is_meta else new.to(old.device)
    if isinstance(old, nn.Parameter):
        return nn.Parameter(moved, requires_grad=old.requires_grad)
    return moved
