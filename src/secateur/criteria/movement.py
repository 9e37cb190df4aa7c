"""Movement: weights that training moves away from zero matter."""

from __future__ import annotations

from torch import Tensor

from secateur.criteria.criterion import Criterion, elementwise


def movement() -> Criterion:
    """How far training has moved the weights away from zero: `score(u) = - sum over w in u, steps t of g_t w_t`.

    A weight scores high where gradient steps make it larger in magnitude, whatever its size. Meant for
    `GradualPruning`, whose `observe()` adds up the products of every step, from the first one on and over new plans.
    The paper multiplies by the learning rate of the scores, which moves no rank while it is constant, and lets weights
    come back; here what was removed stays removed.

    On data, without training, the sum is over the batches, at the weights as they are. Scores may be negative.

    Returns:
        Criterion: scores `(n_units,)` in the loss's unit. It needs the gradients of a loss.

    Reference:
        Sanh, Wolf, Rush (2020), Movement Pruning: Adaptive Sparsity by Fine-Tuning, section 4, equation 3.

    Example:
        `y = 2 w0 + w1`, to be larger: a step uphill grows w0 = 1 and shrinks w1 = -1.

        >>> import torch
        >>> from secateur import Budget, Pruner, allocation, granularity
        >>> line = torch.nn.Linear(2, 1, bias=False)
        >>> _ = line.weight.data.copy_(torch.tensor([[1.0, -1.0]]))
        >>> pruner = Pruner(movement(), granularity.weight(), allocation.global_())
        >>> data = [(torch.tensor([[2.0, 1.0]]), None)]
        >>> pruner.plan(line, Budget(sparsity=0.5), data=data, loss=lambda y, _: -y.sum()).masks()["weight"]
        tensor([[ True, False]])
    """
    return elementwise(_moved, name="movement()", needs=("movement",), across="sum")


def _moved(_: Tensor, movement: Tensor) -> Tensor:
    return movement
