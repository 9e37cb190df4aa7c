"""What of a model is penalised: the weights of its layers, or the scales of its norms; and sums over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from secateur.errors import ModelError, PlanError

WEIGHTED = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
"""Layers whose weights are penalised."""

Norms = tuple[type[nn.Module], ...]
"""Types of norms; a module counts if it is one of them, or of a subclass, and has a `weight`."""

BATCH_NORMS: Norms = (nn.modules.batchnorm._BatchNorm,)
"""Batch norms of any dimension, synchronised ones too."""

ALL_NORMS: Norms = (
    *BATCH_NORMS,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)
"""Every norm of torch that multiplies by a scale; give a tuple with your own beside them if you have some."""


def layer_weights(model: nn.Module) -> list[Tensor]:
    """The weights of all linear and convolution layers, a shared one once.

    Args:
        model: Any model.

    Returns:
        The weights.

    Raises:
        ModelError: There is none.
    """
    found = list(_different(module.weight for module in model.modules() if isinstance(module, WEIGHTED)))
    if not found:
        raise ModelError(
            f"{type(model).__name__} has no linear or convolution layer to penalise; expected at"
            " least one. Leave the regularizer out, or write one: any function of the model"
        )
    return found


def norm_scales(model: nn.Module, norms: Norms = BATCH_NORMS) -> list[Tensor]:
    """The scales gamma of all norms of some types, a shared one once.

    Args:
        model: Any model.
        norms: Types of norms that count.

    Returns:
        The scales, `(channels,)` each.

    Raises:
        ModelError: There is none.
    """
    weights = (getattr(module, "weight", None) for module in model.modules() if isinstance(module, norms))
    found = list(_different(weight for weight in weights if isinstance(weight, Tensor)))
    if not found:
        names = ", ".join(kind.__name__.lstrip("_") for kind in norms)
        raise ModelError(
            f"{type(model).__name__} has no norm with a scale among the types {names}; expected at least one. Pass"
            " norms= with the types it has, such as norms=(nn.LayerNorm,), or penalise its weights: l1, group_lasso"
        )
    return found


def total(cost: Callable[[Tensor], Tensor], values: Iterable[Tensor]) -> Tensor:
    """The sum of a cost over all numbers of some tensors.

    Args:
        cost: From a tensor to the costs of its numbers, or to their sum.
        values: The tensors.

    Returns:
        A scalar.
    """
    return torch.stack([cost(value).sum() for value in values]).sum()


def parameter_of(model: nn.Module, name: str, shape: tuple[int, ...]) -> Tensor:
    """A parameter that units were made for.

    Args:
        model: The model.
        name: Dotted name.
        shape: What the units were made for.

    Returns:
        The parameter.

    Raises:
        PlanError: There is none of that name, or it has another shape.
    """
    try:
        parameter = model.get_parameter(name)
    except AttributeError as error:
        raise PlanError(
            f"{type(model).__name__} has no parameter {name!r} ({error}); expected the model the"
            " units were made for. Call the granularity on this model"
        ) from error
    if parameter.shape != shape:
        raise PlanError(
            f"the units were made for {name!r} of shape {shape}, the model's is {tuple(parameter.shape)}; expected the"
            " model they were made for. Call the granularity on this model"
        )
    return parameter


def _different(values: Iterable[Tensor]) -> Iterator[Tensor]:
    seen: dict[int, Tensor] = {}  # the tensors themselves too: a computed one must not leave its id to the next
    for value in values:
        if id(value) not in seen:
            seen[id(value)] = value
            yield value
