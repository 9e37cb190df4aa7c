"""L1 on the scales of batch norms: the sparsity training of Network Slimming."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from secateur.recipe import Recipe
from secateur.training.regularizers.penalised import BATCH_NORMS, Norms, norm_scales, total
from secateur.training.regularizers.regularizer import Regularizer, checked


def bn_l1(strength: float, *, norms: Norms = BATCH_NORMS) -> Regularizer:
    r"""Sum of the absolute scales of batch norms; it pulls the scale of a channel that is not needed to zero.

    .. math:: R = \lambda \sum_c |\gamma_c|, \qquad \partial R / \partial \gamma_c = \lambda \, \mathrm{sign}(\gamma_c)

    over all channels c of all batch norms; the gradient at 0 is taken as 0. Channels are then removed by a global
    threshold on their scale.

    Weight decay of the scales may stay on, as in the paper: of an unneeded channel it pulls the same way, and of the
    others it bounds the scale from above. `sgd` decays scales like all else; wrap it with `undecayed` to see the
    penalty alone. The size of a step towards zero depends on the optimizer. With plain SGD at rate r it is
    r * lambda, with momentum m up to r * lambda / (1 - m), and the scale ends within r * lambda / (1 - m)^2 of zero.
    Adam and AdamW divide a gradient by its own size, so a scale that nothing else pulls on moves by r a step whatever
    lambda is, which then only says how large the gradient of the loss must be to hold a channel.

    Args:
        strength: The factor lambda, 0 or more; the paper takes 1e-4 for a VGG and 1e-5 for ResNets.
        norms: Types of norms whose scales count; `ALL_NORMS` are those of torch.

    Returns:
        A function of the model.

    Raises:
        RunError: If `strength` is negative or not finite.
        ModelError: When called, if the model has no such norm with a scale.

    Shapes:
        Scales `(C,)` of each norm to a scalar.

    Reference:
        Liu, Li, Shen, Huang, Yan, Zhang (2017), Learning Efficient Convolutional Networks through Network Slimming,
        section 3, equation 1.

    Example:
        >>> norm = nn.BatchNorm1d(3)
        >>> _ = norm.weight.data.copy_(torch.tensor([2.0, -1.0, 0.0]))
        >>> value = bn_l1(0.5)(norm)
        >>> value.backward()
        >>> value.item(), norm.weight.grad
        (1.5, tensor([ 0.5000, -0.5000,  0.0000]))
    """
    return Recipe(f"bn_l1({strength:g})", partial(_penalty, checked(strength), norms))


def _penalty(strength: float, norms: Norms, model: nn.Module) -> Tensor:
    return strength * total(torch.abs, norm_scales(model, norms))
