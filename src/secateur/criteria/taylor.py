"""Taylor: how much the loss changes, to first order, where a unit goes."""

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

from torch import Tensor

from secateur.criteria.criterion import Criterion, Group, elementwise
from secateur.errors import ModelError, UnknownNameError
from secateur.statistics.taylor import WEIGHTS, gate

Over = Literal["weights", "groups", "gates"]


def taylor(over: Over = "weights") -> Criterion:
    """First-order Taylor expansion of the loss: what a unit contributes to it, squared.

    With g the gradient of the mean loss of a mini-batch, and the mean E over mini-batches:

    - `weights`: `score(u) = sum over w in u of E[(g w)^2]`, each weight by itself;
    - `groups`: `score(u) = E[(sum over w in u of g w)^2]`, the weights of a unit together;
    - `gates`: `score(u) = E[(dL/dz)^2]`, z = 1 a factor on the unit's output: the sum of g w over scale and shift of
      the norm where one follows, else over the weights that produce the output and their bias.

    A channel's weights are all those that leave with it: that produce it, that read it, biases and norms. Squares are
    taken of each mini-batch, so the size of the batches matters: scores from larger ones are smaller.

    Args:
        over: What is squared: `weights`, `groups` or `gates`.

    Returns:
        Criterion: scores `(n_units,)` in the square of the loss's unit, comparable across the whole model. It needs the
        gradients of a loss on data.

    Raises:
        UnknownNameError: `over` is none of these.

    Reference:
        Molchanov, Mallya, Tyree, Frosio, Kautz (2019), Importance Estimation for Neural Network Pruning;
        Molchanov, Tyree, Karras, Aila, Kautz (2017), Pruning Convolutional Neural Networks for Resource Efficient
        Inference.

    Example:
        The loss `y`, `y = 2 x0 - x1`: at x = (1, 3) the products g w are 2 and -3, which together cancel in part.

        >>> import torch
        >>> from secateur.granularity import filter, weight
        >>> from secateur.statistics import calibrate
        >>> line = torch.nn.Linear(2, 1, bias=False)
        >>> _ = line.weight.data.copy_(torch.tensor([[2.0, -1.0]]))
        >>> data, held = [(torch.tensor([[1.0, 3.0]]), None)], {("weight", None): line.weight.detach()}
        >>> def scored(criterion, groups):
        ...     found = calibrate(line, data, criterion.needs, loss=lambda y, _: y.sum(), units=groups)
        ...     return criterion.score(Group("weight", groups["weight"], held, found))
        >>> scored(taylor(), weight()(line)), scored(taylor("groups"), filter()(line))
        (tensor([4., 9.]), tensor([1.]))
    """
    if over not in get_args(Over):
        raise UnknownNameError("sum of a Taylor criterion", over, get_args(Over))
    name = f"taylor({over})"
    if over == "weights":
        return elementwise(_square, name=name, needs=("squared_gradient",), across="sum", roles=WEIGHTS)
    kind = f"taylor_{over}"
    return Criterion(name, partial(_of_units, name, kind, over), frozenset({kind}))


def _square(weights: Tensor, squared_gradient: Tensor) -> Tensor:
    return weights.square() * squared_gradient


def _of_units(name: str, kind: str, over: str, group: Group) -> Tensor:
    if over == "gates" and not gate(group.units):
        raise ModelError(
            f"{name} looks at what units put out; those of {group.name!r} only read: use taylor('groups') there"
        )
    return group.statistics.of_units(kind, group.name)
