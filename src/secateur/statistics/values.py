"""The value that `calibrate` returns and criteria read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from secateur.errors import DataError

# Why a parameter may lack a statistic, where that is not for want of data.
WHY = {
    "zeros": "no rectifier (relu, relu6, hardswish, a clamp or threshold at 0) reads its output channels, or the data "
    "never reached it. Exclude its group"
}


@dataclass(frozen=True)
class Statistics:
    """Measured numbers about parameters.

    Args:
        values: For each kind (`"gradient"`, ...) and parameter a tensor broadcastable to the parameter.
        samples: How many samples they were taken over.

    Example:
        >>> import torch
        >>> Statistics({"gradient": {"fc.weight": torch.ones(2, 3)}}, samples=8).of("gradient", "fc.weight").shape
        torch.Size([2, 3])
    """

    values: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    samples: int = 0

    def of(self, kind: str, parameter: str) -> Tensor:
        """One statistic of one parameter.

        Args:
            kind: Which statistic.
            parameter: Name of the parameter.

        Returns:
            A tensor broadcastable to the parameter.

        Raises:
            DataError: It was not collected.
        """
        if kind not in self.values:
            raise DataError(
                f"the criterion needs the statistic {kind!r} and was given {sorted(self.values) or 'none'}: "
                f"pass data=batches (and loss=...) to plan(), "
                f"or statistics=calibrate(model, batches, [{kind!r}], loss=...)"
            )
        if parameter not in self.values[kind]:
            raise DataError(f"{kind!r} was not seen for {parameter!r}: {WHY.get(kind, 'the data never reached it')}")
        return self.values[kind][parameter]
