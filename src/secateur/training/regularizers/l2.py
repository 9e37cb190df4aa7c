"""L2: the sum of squared weights."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from secateur.recipe import Recipe
from secateur.training.regularizers.penalised import layer_weights, total
from secateur.training.regularizers.regularizer import Regularizer, checked


def l2(strength: float) -> Regularizer:
    r"""Sum of squared weights; its gradient pulls a weight towards zero in proportion to it.

    .. math:: R = \lambda \sum_i w_i^2

    over the weights of all linear and convolution layers; biases and norms are left alone. Weight
    decay d of plain SGD on these weights is `l2(d / 2)`.

    Args:
        strength: The factor lambda, 0 or more.

    Returns:
        A function of the model.

    Raises:
        RunError: If `strength` is negative or not finite.

    Shapes:
        Weights of any shape to a scalar.

    Reference:
        S. Han, J. Pool, J. Tran, W. J. Dally, *Learning both Weights and Connections for Efficient
        Neural Networks*, NeurIPS 2015, section 3.1, compares it with L1 before pruning.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, -4.0]]))
        >>> l2(0.5)(layer).item()
        12.5
    """
    return Recipe(f"l2({strength:g})", partial(_penalty, checked(strength)))


def _penalty(strength: float, model: nn.Module) -> Tensor:
    return strength * total(torch.square, layer_weights(model))
