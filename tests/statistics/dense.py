"""Curvature matrices of tiny networks, whole: what estimates of their diagonals are held against."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian, jacobian
from torch.func import functional_call

Loss = Callable[[Tensor, Tensor], Tensor]


def _flat(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def _split(model: nn.Module, values: Tensor) -> dict[str, Tensor]:
    sizes = [value.numel() for value in model.parameters()]
    parts = zip(model.named_parameters(), values.split(sizes), strict=True)
    return {name: part.view_as(value) for (name, value), part in parts}


def full_hessian(model: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """The Hessian of the loss by all parameters."""

    def whole(values: Tensor) -> Tensor:
        return loss(functional_call(model, _split(model, values), (inputs,)), targets)

    return torch.as_tensor(hessian(whole, _flat(model)))


def full_ggn(model: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """J' H J, with the Jacobian of all outputs by all parameters and the Hessian of the loss by all outputs."""

    def outputs(values: Tensor) -> Tensor:
        return torch.as_tensor(functional_call(model, _split(model, values), (inputs,)))

    at = outputs(_flat(model)).detach()
    slopes = jacobian(outputs, _flat(model)).reshape(at.numel(), -1)
    bends = hessian(lambda values: loss(values, targets), at).reshape(at.numel(), at.numel())
    return torch.as_tensor(slopes.T @ bends @ slopes)


def diagonal(model: nn.Module, matrix: Tensor) -> dict[str, Tensor]:
    """The diagonal of a matrix over all parameters, by parameter."""
    return _split(model, matrix.diagonal())
