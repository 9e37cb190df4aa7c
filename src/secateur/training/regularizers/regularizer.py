"""What a regularizer is, and the check of its strength."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor, nn

from secateur.errors import RunError

Regularizer: TypeAlias = Callable[[nn.Module], Tensor]
"""Of a model: a scalar tensor to add to the loss."""


def checked(strength: float) -> float:
    """The strength of a regularizer, if it is one.

    Args:
        strength: The factor of the penalty.

    Returns:
        The same number.

    Raises:
        RunError: It is negative or not finite.

    Example:
        >>> checked(1e-4)
        0.0001
    """
    if not 0 <= strength < math.inf:
        raise RunError(f"the strength of the regularizer is {strength}; expected a number of 0 or more. Try 1e-4")
    return strength
