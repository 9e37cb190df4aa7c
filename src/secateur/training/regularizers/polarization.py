"""Polarisation: some scales to zero, the others away from it."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from secateur.errors import RunError
from secateur.recipe import Recipe
from secateur.training.regularizers.penalised import BATCH_NORMS, Norms, norm_scales
from secateur.training.regularizers.regularizer import Regularizer, checked


def polarization(strength: float, t: float = 1.2, *, bound: float = 1.0, norms: Norms = BATCH_NORMS) -> Regularizer:
    r"""L1 less the spread around the mean: it parts scales into those at zero and those that stay large.

    .. math:: R = \lambda \left( t \lVert g \rVert_1 - \lVert g - \bar g \mathbf{1} \rVert_1 \right), \qquad
        g = \min(|\gamma|, a)

    over the scales of all batch norms together, with their common mean. Plain L1 draws all scales to zero alike. Here,
    where a fraction p of them lies below the mean, those feel a slope of t + 2 (1 - p), which draws them to zero, and
    those above one of t - 2 p, which pushes them up as soon as p > t / 2. On its own the penalty is smallest with a
    fraction (t + 2) / 4 of the scales at 0 and the rest at a: 0.8 for t = 1.2. So t chooses how much goes: half at
    t = 0, everything at t = 2.

    The spread has no upper end, so the paper keeps every scale in [0, a] by cutting it off after each step. Here
    the penalty takes `min(|gamma|, a)` in place of gamma, which is the same within [0, a], has no slope beyond a, and
    changes no weight itself. Weight decay may stay on.

    Args:
        strength: The factor lambda, 0 or more.
        t: Weight of the L1 part, from -2 to 2.
        bound: The largest scale a that is still pushed up, above 0; in the paper and its code 1.
        norms: Types of norms whose scales count.

    Returns:
        A function of the model.

    Raises:
        RunError: If `strength` is negative or not finite, `t` is not in [-2, 2], or `bound` is not above 0.
        ModelError: When called, if the model has no such norm with a scale.

    Shapes:
        Scales `(C,)` of all norms, joined, to a scalar.

    Reference:
        Zhuang, Zhang, Huang, Zeng, Shuang, Li (2020), Neuron-level Structured Pruning using Polarization Regularizer,
        equation 2.

    Example:
        The mean of 1, 0, 0.5 is 0.5: 1.2 * 1.5 - (0.5 + 0.5 + 0).

        >>> norm = nn.BatchNorm1d(3)
        >>> _ = norm.weight.data.copy_(torch.tensor([1.0, 0.0, 0.5]))
        >>> round(polarization(1.0, t=1.2)(norm).item(), 4)
        0.8
    """
    if not -2 <= t <= 2:
        raise RunError(
            f"t of polarization is {t}; expected a number from -2, where nothing goes to zero, to 2, where everything "
            "does. Try 1.2"
        )
    if not 0 < bound < math.inf:
        raise RunError(f"the bound of polarization is {bound}; expected a number above 0. Try 1")
    return Recipe(f"polarization({strength:g}, t={t:g})", partial(_penalty, checked(strength), t, bound, norms))


def _penalty(strength: float, t: float, bound: float, norms: Norms, model: nn.Module) -> Tensor:
    sizes = torch.cat([scale.flatten() for scale in norm_scales(model, norms)]).abs().clamp(max=bound)
    return strength * (t * sizes.sum() - (sizes - sizes.mean()).abs().sum())
