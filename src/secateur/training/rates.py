"""How the learning rate moves along a run: factors on it, as functions of the epochs done."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from secateur.errors import RunError
from secateur.recipe import Recipe, name_of

Rate: TypeAlias = Callable[[float], float]
"""From epochs done, a fraction within an epoch, to the factor on the learning rate."""

WARM_UP_FROM = 0.1  # of the full rate


def constant() -> Rate:
    """The same rate throughout.

    Returns:
        A function of the epochs done.

    Example:
        >>> constant()(3.5)
        1.0
    """
    return Recipe("constant()", _constant)


def cosine(epochs: float, *, warm_up: float = 0) -> Rate:
    r"""Half a cosine down to zero, after a linear rise from a tenth of the rate.

    .. math:: f(e) = \tfrac{1}{2} \left(1 + \cos \pi \frac{e - w}{E - w}\right)

    from epoch w = `warm_up` on, and f(e) = 0.1 + 0.9 e / w before it.

    Args:
        epochs: E, where it ends.
        warm_up: w, epochs of the rise.

    Returns:
        A function of the epochs done.

    Raises:
        RunError: Unless 0 <= `warm_up` < `epochs`.

    Reference:
        Loshchilov, Hutter (2017), SGDR: Stochastic Gradient Descent with Warm Restarts, equation 5; the rise is that
        of Goyal et al. (2017), Accurate, Large Minibatch SGD, section 2.2.

    Example:
        >>> [round(cosine(4)(epoch), 4) for epoch in range(5)]
        [1.0, 0.8536, 0.5, 0.1464, 0.0]
        >>> [cosine(3, warm_up=1)(epoch) for epoch in (0, 0.5, 1, 2)]
        [0.1, 0.55, 1.0, 0.5]
    """
    if not 0 <= warm_up < epochs < math.inf:
        raise RunError(f"cosine over {epochs} epochs with a rise of {warm_up}; expected 0 <= warm_up < epochs")
    name = f"cosine({epochs:g}, warm_up={warm_up:g})" if warm_up else f"cosine({epochs:g})"
    return Recipe(name, partial(_cosine, epochs, warm_up))


def steps(at: Sequence[float], *, divide_by: float = 10) -> Rate:
    """Divided at given epochs.

    Args:
        at: The epochs, rising.
        divide_by: What the rate is divided by at each.

    Returns:
        A function of the epochs done.

    Raises:
        RunError: The epochs do not rise, or `divide_by` is not above 0.

    Example:
        >>> [steps([2, 3])(epoch) for epoch in range(4)]
        [1.0, 1.0, 0.1, 0.01]
    """
    if list(at) != sorted(set(at)) or not all(map(math.isfinite, at)) or not 0 < divide_by < math.inf:
        raise RunError(f"steps({list(at)}, divide_by={divide_by}); expected rising epochs and a divisor above 0")
    return Recipe(f"steps({list(at)}, divide_by={divide_by:g})", partial(_steps, tuple(at), divide_by))


def rewound(rate: Rate, epoch: float) -> Rate:
    """The rate of an earlier run from one of its epochs on, learning-rate rewinding: `f'(e) = f(epoch + e)`.

    A pruned network that is trained with it for the rest of that run's epochs sees the large rates of the dense
    training once more, with the weights it has now.

    Args:
        rate: Of the earlier run.
        epoch: Where it is taken up again.

    Returns:
        A function of the epochs done since.

    Raises:
        RunError: `epoch` is below 0 or not finite.

    Reference:
        Renda, Frankle, Carbin (2020), Comparing Rewinding and Fine-tuning in Neural Network Pruning.

    Example:
        >>> rewound(cosine(4), 3)(0) == cosine(4)(3)
        True
    """
    if not 0 <= epoch < math.inf:
        raise RunError(f"rewound to epoch {epoch}; expected 0 or more, an epoch of the earlier run")
    return Recipe(f"rewound({name_of(rate)}, {epoch:g})", partial(_rewound, rate, epoch))


def _constant(epoch: float) -> float:
    del epoch
    return 1.0


def _cosine(epochs: float, warm_up: float, epoch: float) -> float:
    if epoch < warm_up:
        return WARM_UP_FROM + (1 - WARM_UP_FROM) * epoch / warm_up
    return (1 + math.cos(math.pi * min(1.0, (epoch - warm_up) / (epochs - warm_up)))) / 2


def _steps(at: tuple[float, ...], divide_by: float, epoch: float) -> float:
    return float(divide_by ** -sum(epoch >= bound for bound in at))


def _rewound(rate: Rate, start: float, epoch: float) -> float:
    return rate(epoch + start)
