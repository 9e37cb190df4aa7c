"""What running a network takes, counted, measured or simulated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from secateur.errors import BudgetError
from secateur.workload.layer import Workload


@dataclass(frozen=True)
class Cost:
    """What a network takes to run; what nobody said is None.

    As a limit it says what may not be exceeded: `Budget(cost=(model, Cost(seconds=4e-3)))`.

    Args:
        seconds: Time of one forward pass on the example's batch.
        joules: Its energy.
        bytes: Memory.
        macs: Multiply-accumulates.
        parameters: How many the model has.

    Raises:
        BudgetError: A value is negative or no number.

    Example:
        >>> Cost(macs=6, parameters=8).as_dict()
        {'macs': 6, 'parameters': 8}
    """

    seconds: float | None = None
    joules: float | None = None
    bytes: float | None = None
    macs: float | None = None
    parameters: float | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            BudgetError: A value is negative or no number.
        """
        given: dict[str, Any] = dict(self.as_dict())
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise BudgetError(f"{name} of a cost is a number, at least 0; given: {value!r}")

    def as_dict(self) -> dict[str, float]:
        """What is known.

        Returns:
            Name and value, without what is None.
        """
        return {item.name: value for item in fields(self) if (value := getattr(self, item.name)) is not None}


CostModel = Callable[[Workload], Cost]
"""From the shapes of what runs to what that takes."""
