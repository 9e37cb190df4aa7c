"""L1: the sum of absolute weights."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from secateur.recipe import Recipe
from secateur.training.regularizers.penalised import layer_weights, total
from secateur.training.regularizers.regularizer import Regularizer, checked


def l1(strength: float) -> Regularizer:
    r"""Sum of absolute weights; its gradient pulls every weight towards zero at the same speed.

    .. math:: R = \lambda \sum_i |w_i|

    over the weights of all linear and convolution layers; biases and norms are left alone.

    Args:
        strength: The factor lambda, 0 or more.

    Returns:
        A function of the model.

    Raises:
        RunError: If `strength` is negative or not finite.

    Shapes:
        Weights of any shape to a scalar.

    Reference:
        R. Tibshirani, *Regression Shrinkage and Selection via the Lasso*, J. R. Statist. Soc. B
        58, 1996.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, -4.0]]))
        >>> l1(0.5)(layer).item()
        3.5
    """
    return Recipe(f"l1({strength:g})", partial(_penalty, checked(strength)))


def _penalty(strength: float, model: nn.Module) -> Tensor:
    return strength * total(torch.abs, layer_weights(model))
