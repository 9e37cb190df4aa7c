"""Optimal Brain Damage: how much the loss rises where a weight goes, to second order."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from secateur.criteria.criterion import Criterion, elementwise
from secateur.errors import UnknownNameError
from secateur.statistics.taylor import WEIGHTS

Curvature = Literal[
    "monte_carlo", "exact", "recursion", "full_recursion", "hutchinson", "hutchinson_ggn", "empirical_fisher"
]


def obd(curvature: Curvature = "monte_carlo") -> Criterion:
    """Saliency of Optimal Brain Damage: `score(u) = sum over w in u of h w^2 / 2`.

    h is the diagonal of the curvature of the loss at the weights. The rise of the loss where w is set to zero is that,
    if the network is trained (the gradient is nil), weights do not act together (the rest of the matrix is nil), and
    the loss is quadratic. Negative h, which estimates of the Hessian have, count as 0: training is not over there, and
    no weight is worth less than nothing.

    Ways to the curvature, each of which `calibrate` takes as `curvature_...`:

    - `monte_carlo`: the Gauss-Newton matrix by drawing labels, the Fisher information;
    - `exact`: the Gauss-Newton matrix exactly, one pass backwards for each output;
    - `recursion`, `full_recursion`: those of the paper, for chains of layers, without and with the second derivatives
      of the activations;
    - `hutchinson`, `hutchinson_ggn`: the Hessian, the Gauss-Newton matrix, by random signs, with a standard error;
    - `empirical_fisher`: squared gradients of single samples.

    `monte_carlo` by default: it takes any model and any convex loss, is never negative, has the cost of one more pass
    backwards, and its noise falls with the number of samples of the data.

    Args:
        curvature: The way to h.

    Returns:
        Criterion: scores `(n_units,)` in the loss's unit. It needs the curvature of a loss on data.

    Raises:
        UnknownNameError: `curvature` is none of these.

    Reference:
        LeCun, Denker, Solla (1990), Optimal Brain Damage, section 2.

    Example:
        The loss `(w0 x0 + w1 x1)^2` at x = (1, 3) has the curvature 2 x^2, (2, 18), so that each weight by itself costs
        (w x)^2:

        >>> import torch
        >>> from secateur.criteria import Group
        >>> from secateur.granularity import weight
        >>> from secateur.statistics import calibrate
        >>> line = torch.nn.Linear(2, 1, bias=False)
        >>> _ = line.weight.data.copy_(torch.tensor([[2.0, 1.0]]))
        >>> data = [(torch.tensor([[1.0, 3.0]]), None)]
        >>> found = calibrate(line, data, obd("exact").needs, loss=lambda y, _: y.square().mean())
        >>> units, held = weight()(line)["weight"], {("weight", None): line.weight.detach()}
        >>> obd("exact").score(Group("weight", units, held, found)).round(decimals=4)
        tensor([4., 9.])
    """
    if curvature not in get_args(Curvature):
        raise UnknownNameError("curvature", curvature, get_args(Curvature))
    needs = (f"curvature_{curvature}",)
    return elementwise(_saliency, name=f"obd({curvature})", needs=needs, across="sum", roles=WEIGHTS)


def _saliency(weights: Tensor, curvature: Tensor) -> Tensor:
    return weights.square() * curvature.clamp(min=0) / 2
