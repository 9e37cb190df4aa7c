"""SNIP: how sensitive the loss is to each connection, before training."""

from __future__ import annotations

from torch import Tensor

from secateur.criteria.criterion import Criterion, elementwise


def snip() -> Criterion:
    """Connection sensitivity: the magnitude of the derivative of the loss by a factor on the weight.

    `score(u) = sum over w in u of |g w|`, g the gradient of the mean loss over the data.

    Meant for a network before training, from one batch or more, and a global ranking. The paper divides by the sum over
    the whole model, which moves no rank in a global ranking, so it is left out. The model runs in evaluation mode; the
    batch norms of a new network then pass their inputs on as they are.

    Returns:
        Criterion: scores `(n_units,)` in the loss's unit. It needs the gradients of a loss on data.

    Reference:
        Lee, Ajanthan, Torr (2019), SNIP: Single-shot Network Pruning based on Connection Sensitivity, section 4.

    Example:
        The loss `y = 2 x0 - x1` at x = (1, 3):

        >>> import torch
        >>> from secateur import Budget, Pruner, allocation, granularity
        >>> line = torch.nn.Linear(2, 1, bias=False)
        >>> _ = line.weight.data.copy_(torch.tensor([[2.0, -1.0]]))
        >>> pruner = Pruner(snip(), granularity.weight(), allocation.global_())
        >>> data = [(torch.tensor([[1.0, 3.0]]), None)]
        >>> pruner.plan(line, Budget(sparsity=0.5), data=data, loss=lambda y, _: y.sum()).masks()["weight"]
        tensor([[False,  True]])
    """
    return elementwise(_sensitivity, name="snip()", needs=("gradient",), across="sum")


def _sensitivity(weights: Tensor, gradient: Tensor) -> Tensor:
    return (weights * gradient).abs()
