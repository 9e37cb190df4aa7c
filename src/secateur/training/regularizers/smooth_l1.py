"""Smooth L1: an absolute value without its corner."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from secateur.errors import RunError
from secateur.recipe import Recipe
from secateur.training.regularizers.penalised import BATCH_NORMS, Norms, layer_weights, norm_scales, total
from secateur.training.regularizers.regularizer import Regularizer, checked

Of = Literal["scales", "weights"]


def smooth_l1(strength: float, beta: float = 0.01, *, of: Of = "scales", norms: Norms = BATCH_NORMS) -> Regularizer:
    r"""L1 whose gradient goes through zero on a line, so that small values settle instead of jumping to and fro.

    .. math:: R = \lambda \sum_i s(x_i), \qquad
        s(x) = \begin{cases} |x| - \beta / 2 & |x| \ge \beta \\ x^2 / (2 \beta) & |x| < \beta \end{cases}, \qquad
        s'(x) = \min(1, |x| / \beta) \, \mathrm{sign}(x)

    s is 1/beta times the Huber function; as beta goes to 0 it becomes `|x|`, from which it differs by beta / 2 at
    most. Below beta it is weight decay of strength lambda / beta: values get small, but unlike with L1 no finite pull
    of the loss is too weak to hold them off zero.

    Args:
        strength: The factor lambda, 0 or more.
        beta: Where the curve meets the line, in the unit of what is penalised; 0: plain L1. The default is a small
            part of the 0.5 or 1 at which scales start.
        of: The scales of norms, or the weights of linear and convolution layers.
        norms: Types of norms whose scales count.

    Returns:
        A function of the model.

    Raises:
        RunError: If `strength` or `beta` is negative or not finite, or `of` is neither of the two.
        ModelError: When called, if the model has nothing of the kind.

    Shapes:
        Scales `(C,)` of each norm, or weights of any shape, to a scalar.

    Reference:
        Liu, Li, Shen, Huang, Yan, Zhang (2017), Learning Efficient Convolutional Networks through Network Slimming,
        section 3, which names it as an option; Schmidt, Fung, Rosales (2007), Fast Optimization Methods for L1
        Regularization, for smooth approximations of L1.

    Example:
        Beyond 0.5 it is 2 - 0.25; within, 0.25^2 / 1.

        >>> norm = nn.BatchNorm1d(2)
        >>> _ = norm.weight.data.copy_(torch.tensor([-2.0, 0.25]))
        >>> value = smooth_l1(1.0, beta=0.5)(norm)
        >>> value.backward()
        >>> value.item(), norm.weight.grad
        (1.8125, tensor([-1.0000,  0.5000]))
    """
    if not 0 <= beta < math.inf:
        raise RunError(f"beta of smooth_l1 is {beta}; expected a number of 0 or more. Try 0.01; 0 is plain L1")
    if of not in ("scales", "weights"):
        raise RunError(f"smooth_l1 of {of!r}; expected of='scales', those of norms, or of='weights', those of layers")
    name = f"smooth_l1({strength:g}, beta={beta:g}{'' if of == 'scales' else ', of=' + repr(of)})"
    return Recipe(name, partial(_penalty, checked(strength), beta, of, norms))


def _penalty(strength: float, beta: float, of: Of, norms: Norms, model: nn.Module) -> Tensor:
    values = layer_weights(model) if of == "weights" else norm_scales(model, norms)
    return strength * total(partial(_smooth, beta), values)


def _smooth(beta: float, values: Tensor) -> Tensor:
    return nn.functional.smooth_l1_loss(values, torch.zeros_like(values), reduction="sum", beta=beta)
