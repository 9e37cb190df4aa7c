"""Wanda: weights and activations; a small weight on a weak input matters little."""

from __future__ import annotations

from torch import Tensor

from secateur.criteria.criterion import Criterion, elementwise


def wanda() -> Criterion:
    """The magnitude of each weight times the norm of the input that it multiplies, added up over a unit.

    `score(u) = sum over w_ij in u ( |w_ij| ||x_j||_2 )`, with `x_j` all that input channel j has seen

    Needs the statistic `"input_norm"`. Wanda prunes without training, and compares the weights of one output with one
    another: use it with `granularity.weight(per_output=True)`, or with `granularity.pattern(n, m)` for N:M, whose
    scopes lie within an output. Of several layers that make a unit the mean is taken.

    Returns:
        Criterion: scores `(n_units,)`, in the unit of the layer's outputs.

    Reference:
        Sun, Liu, Bair, Kolter (2024), A Simple and Effective Pruning Approach for Large Language Models.

    Example:
        The second input is seen at 3 and 4, so its norm is 5, and the smaller weight on it matters more:

        >>> import torch
        >>> from secateur import Budget, Pruner, allocation, granularity
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> _ = layer.weight.data.copy_(torch.tensor([[2.0, 1.0]]))
        >>> data = [(torch.tensor([[1.0, 3.0], [0.0, 4.0]]), None)]
        >>> pruner = Pruner(wanda(), granularity.weight(per_output=True), allocation.uniform())
        >>> pruner.plan(layer, Budget(sparsity=0.5), data=data).masks()["weight"].tolist()
        [[False, True]]
    """
    return elementwise(_scaled, name="wanda", needs=("input_norm",))


def _scaled(weights: Tensor, norms: Tensor) -> Tensor:
    return weights.abs() * norms
