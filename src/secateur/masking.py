"""`mask`: a plan applied to a model, zeros in place."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from secateur.batches import drop_caches
from secateur.errors import PlanError
from secateur.plan import Plan

Model = TypeVar("Model", bound=nn.Module)


def mask(model: Model, plan: Plan, *, inplace: bool = False) -> Model:
    """Set the weights that a plan removes to zero, after giving the others their new values, if it has some.

    `W <- M * W'`. The result is a plain module of the same class with a plain `state_dict`: nothing is hung on it, and
    nothing keeps the zeros from changing when it is trained further (`GradualPruning` does).

    Args:
        model: The model.
        plan: What to remove.
        inplace: Change the model itself rather than a copy.

    Returns:
        The masked model: a copy, or `model`.

    Raises:
        PlanError: The plan does not fit the model; the model is untouched then.

    Example:
        >>> from secateur import allocation, criteria, granularity
        >>> from secateur.pruner import Budget, Pruner
        >>> fc = nn.Linear(2, 1, bias=False)
        >>> _ = fc.weight.data.copy_(torch.tensor([[3.0, -4.0]]))
        >>> pruner = Pruner(criteria.magnitude(), granularity.weight(), allocation.uniform())
        >>> mask(fc, pruner.plan(fc, Budget(sparsity=0.5))).weight.tolist()
        [[0.0, -4.0]]
    """
    check_fits(model, plan)
    removed = {name: ~kept for name, kept in plan.masks().items()}
    changed = model if inplace else copy.deepcopy(model)
    with torch.no_grad():
        for name, value in plan.updates.items():
            tensor_of(changed, name).copy_(value)
        zero(changed, removed)
    drop_caches(changed)
    return changed


def zero(model: nn.Module, removed: Mapping[str, Tensor]) -> None:
    """Set weights to zero in place, NaN too.

    Args:
        model: The model.
        removed: For each parameter or buffer a bool tensor of its shape, True where a weight goes.
    """
    with torch.no_grad():
        for name, gone in removed.items():
            value = tensor_of(model, name)
            value.masked_fill_(gone.to(value.device), 0)


def check_fits(model: nn.Module, plan: Plan) -> None:
    """Refuse a plan that was made for another model.

    Args:
        model: The model.
        plan: The plan.

    Raises:
        PlanError: A parameter is missing or has another shape; the message says which.
    """
    wanted = [(axis.parameter, index.shape) for part in plan.parts for axis, index in part.units.index.items()]
    wanted += [(name, tuple(value.shape)) for name, value in plan.updates.items()]
    for name, shape in dict.fromkeys(wanted):  # parts of a plan that was not made here may contradict one another
        try:
            tensor = tensor_of(model, name)
        except AttributeError as error:
            raise PlanError(
                f"the plan speaks of {name!r}, which {type(model).__name__} does not have: "
                "was it made for another model?"
            ) from error
        if is_lazy(tensor):
            raise PlanError(f"{name!r} of the model has no shape yet: run the model once on an example first")
        found = tuple(tensor.shape)
        if found != shape:
            axes = [axis for axis, (a, b) in enumerate(zip(found, shape, strict=False)) if a != b]
            raise PlanError(
                f"the plan was made for {name!r} of shape {shape}, the model's is {found}: "
                + (f"axis {axes} differs" if len(found) == len(shape) else "another number of axes")
            )


def tensor_of(model: nn.Module, name: str) -> Tensor:
    """A parameter or buffer by name.

    Args:
        model: The model.
        name: Dotted name.

    Returns:
        The tensor itself.

    Raises:
        AttributeError: There is none of that name.
    """
    owner, _, last = name.rpartition(".")
    found = getattr(model.get_submodule(owner), last)
    if not isinstance(found, Tensor):
        raise AttributeError(f"{name} is no tensor")
    return found
