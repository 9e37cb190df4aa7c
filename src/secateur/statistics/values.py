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
    """Measured numbers about parameters and about units.

    Args:
        values: For each kind (`"gradient"`, ...) and parameter a tensor broadcastable to the parameter.
        samples: How many samples they were taken over.
        units: For each kind that is one number per unit, and each group, a tensor `(n_units,)`.

    Example:
        >>> import torch
        >>> Statistics({"gradient": {"fc.weight": torch.ones(2, 3)}}, samples=8).of("gradient", "fc.weight").shape
        torch.Size([2, 3])
        >>> Statistics(units={"taylor_gates": {"fc": torch.ones(2)}}).of_units("taylor_gates", "fc")
        tensor([1., 1.])
    """

    values: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    samples: int = 0
    units: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    @property
    def kinds(self) -> frozenset[str]:
        """Which statistics there are."""
        return frozenset({*self.values, *self.units})

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
        found = self._found(kind, self.values)
        if parameter not in found:
            why = WHY.get(kind, "the data never reached it, or it is frozen (requires_grad=False)")
            raise DataError(f"{kind!r} was not seen for {parameter!r}: {why}")
        return found[parameter]

    def of_units(self, kind: str, group: str) -> Tensor:
        """One statistic of the units of one group.

        Args:
            kind: Which statistic.
            group: Name of the group.

        Returns:
            `(n_units,)`.

        Raises:
            DataError: It was not collected, or for other groups.
        """
        found = self._found(kind, self.units, ", units=pruner.groups(model)")
        if group not in found:
            raise DataError(
                f"{kind!r} was not seen for the units of {group!r}; it was for {sorted(found)[:5]}. Give calibrate() "
                "the groups that are pruned: units=pruner.groups(model). The data has to reach all their parameters, "
                "and none may be frozen (requires_grad=False)"
            )
        return found[group]

    def _found(self, kind: str, among: Mapping[str, Mapping[str, Tensor]], more: str = "") -> Mapping[str, Tensor]:
        if kind not in among:
            raise DataError(
                f"the criterion needs the statistic {kind!r} and was given {sorted(self.kinds) or 'none'}: "
                f"pass data=batches (and loss=...) to plan(), "
                f"or statistics=calibrate(model, batches, [{kind!r}], loss=...{more})"
            )
        return among[kind]
