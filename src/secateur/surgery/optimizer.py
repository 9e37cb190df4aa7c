"""The optimizer of a smaller model: the same settings, and what is left of its moments."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from secateur.errors import PlanError
from secateur.surgery.tensors import Slices, taken, tensors

WAY_OUT = "make a new optimizer over the smaller model's parameters"


def carried(optimizer: Optimizer, model: nn.Module, small: nn.Module, slices: Slices) -> Optimizer:
    """An optimizer for a smaller model that goes on where the larger model's stands.

    Args:
        optimizer: Over parameters of the larger model; it is left as it is. Parameters that are not the model's are
            shared by both optimizers.
        model: The larger model.
        small: The smaller one.
        slices: What has been taken out.

    Returns:
        Another of the same class, with the same groups and settings. Every tensor of its state lost what its parameter
        lost, and so did factors of moments (Adafactor's rows and columns), which stay the means that they were. Hooks
        are not carried.

    Raises:
        PlanError: It keeps something of which it is not known how it belongs to the parameters.

    Example:
        >>> import torch
        >>> wide, narrow = nn.Linear(1, 3, bias=False), nn.Linear(1, 2, bias=False)
        >>> adam = torch.optim.Adam(wide.parameters(), lr=0.5)
        >>> adam.state[wide.weight] = {"step": torch.tensor(7.0), "exp_avg": torch.tensor([[1.0], [2.0], [3.0]])}
        >>> again = carried(adam, wide, narrow, {"weight": {0: torch.tensor([0, 2])}})
        >>> again.param_groups[0]["lr"], again.state[narrow.weight]
        (0.5, {'step': tensor(7.), 'exp_avg': tensor([[1.], [3.]])})
    """
    before, after = tensors(model), tensors(small)
    by_id = {id(before[name]): dims for name, dims in slices.items()}
    # What a deep copy finds here it takes as copied: parameters, and state that has lost its slices.
    memo: dict[int, Any] = {id(one): one for group in optimizer.param_groups for one in group["params"]}
    memo |= {id(one): after[name] for name, one in before.items()}
    for parameter, state in optimizer.state.items():
        dims = by_id.get(id(parameter), {})
        for value in state.values():
            if isinstance(value, Tensor) and dims:
                memo[id(value)] = _cut(value, parameter, dims)
    made = copy.deepcopy(optimizer, memo)
    if lost := sorted(_lost(vars(optimizer), vars(made))):
        raise PlanError(_refusal(optimizer, f"its attributes {lost}"))
    return made


def with_new(optimizer: Optimizer, model: nn.Module, small: nn.Module) -> Optimizer:
    """Let an optimizer train the parameters that a smaller model has and the larger one has not.

    Args:
        optimizer: Over the smaller model's parameters; it is changed.
        model: The larger model.
        small: The smaller one.

    Returns:
        The optimizer: new parameters, without state, in the groups of their layers.

    Example:
        >>> import torch
        >>> plain, biased = nn.Linear(1, 2, bias=False), nn.Linear(1, 2)
        >>> sgd = with_new(torch.optim.SGD([biased.weight], lr=1), plain, biased)
        >>> sgd.param_groups[0]["params"][1] is biased.bias
        True
    """
    before = tensors(model)
    for name, parameter in small.named_parameters():
        if name not in before:
            beside = {id(one) for one in small.get_submodule(name.rpartition(".")[0]).parameters()}
            for group in optimizer.param_groups:
                if beside.intersection(map(id, group["params"])):
                    group["params"].append(parameter)
                    break
    return optimizer


def check_state(optimizer: Optimizer) -> None:
    """Refuse an optimizer whose state does not lie along its parameters.

    Args:
        optimizer: Any.

    Raises:
        PlanError: The state of a parameter is a tensor of other sizes, or holds tensors more deeply.

    Example:
        >>> import torch
        >>> layer = nn.Linear(2, 1)
        >>> flat = torch.optim.SGD(layer.parameters(), lr=1)
        >>> flat.state[layer.weight] = {"direction": torch.zeros(3)}
        >>> check_state(flat)
        Traceback (most recent call last):
        secateur.errors.PlanError: SGD cannot be carried over to a smaller model: 'direction' of shape (3,), for a ...
    """
    kept: Mapping[Any, Any] = optimizer.state
    for parameter, state in kept.items():
        if not isinstance(parameter, Tensor):
            if any(isinstance(leaf, Tensor) for leaf in tree_leaves(state)):
                raise PlanError(_refusal(optimizer, f"what it keeps under {parameter!r}"))
            continue
        for key, value in state.items():
            if isinstance(value, Tensor):
                if not _lies_along(value, parameter):
                    what = f"of shape {tuple(value.shape)}, for a parameter of {tuple(parameter.shape)}"
                    raise PlanError(_refusal(optimizer, f"{key!r} {what}"))
            elif any(isinstance(leaf, Tensor) for leaf in tree_leaves(value)):
                raise PlanError(_refusal(optimizer, f"the tensors within {key!r}"))


def _lies_along(value: Tensor, parameter: Tensor) -> bool:
    """Whether it is a scalar, or has in every dimension the parameter's size or 1: moments, and factors of moments."""
    if value.numel() == 1:
        return True
    return value.ndim == parameter.ndim and all(
        size in (1, full) for size, full in zip(value.shape, parameter.shape, strict=True)
    )


def _cut(value: Tensor, parameter: Tensor, dims: Mapping[int, Tensor]) -> Tensor:
    if value.ndim != parameter.ndim:  # a number of steps
        return value.clone()
    return taken(value, {dim: at for dim, at in dims.items() if value.shape[dim] == parameter.shape[dim]}).clone()


def _lost(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """What the class keeps beside its state, and would miss in a copy; a scheduler's hold on `step` is none of it."""
    for name in before.keys() - after.keys() - {"step"}:
        held = any(isinstance(leaf, Tensor | Optimizer) for leaf in tree_leaves(before[name]))
        if held or not name.startswith("_"):
            yield name


def _refusal(optimizer: Optimizer, what: str) -> str:
    return f"{type(optimizer).__name__} cannot be carried over to a smaller model: {what}; {WAY_OUT}"
