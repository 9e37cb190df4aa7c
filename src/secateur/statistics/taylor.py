"""What units contribute to the loss, to first order: squares of sums over the weights of a unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from secateur.statistics.batch import wide
from secateur.statistics.gradient import OfGradients
from secateur.statistics.values import Statistics
from secateur.units import ParameterAxis, Role, Units

WEIGHTS: tuple[Role, ...] = ("out", "in", "bias", "norm_scale", "norm_shift")
NORM: tuple[Role, ...] = ("norm_scale", "norm_shift")
PRODUCERS: tuple[Role, ...] = ("out", "bias")


class TaylorGroups(OfGradients):
    """Mean over mini-batches of the squared sum over a unit: `1/B sum_b (sum over w in u of g_b w)^2`.

    Such squares cannot be had from mean gradients, so they are kept per unit. Every mini-batch counts alike.

    Reference:
        Molchanov, Mallya, Tyree, Frosio, Kautz (2019), Importance Estimation for Neural Network Pruning.
    """

    kind = "taylor_groups"

    def watch(self, model: nn.Module, groups: Mapping[str, Units]) -> Iterable[Any]:
        """Note parameters and groups.

        Args:
            model: The model.
            groups: The groups to prune.

        Returns:
            Nothing to remove.
        """
        self._groups = {name: (units, self.counted(units)) for name, units in groups.items()}
        return super().watch(model, groups)

    @staticmethod
    def counted(units: Units) -> list[ParameterAxis]:
        """Over which parameters the sum goes.

        Args:
            units: A group.

        Returns:
            All weights of its units.
        """
        return [axis for axis, role in units.role.items() if role in WEIGHTS]

    def take(self, gradients: Mapping[str, Tensor], samples: int) -> None:  # noqa: ARG002
        """Add the squared sums; groups that the gradients do not reach as a whole are left out.

        Args:
            gradients: Of the mean loss, by parameter.
            samples: Not looked at.
        """
        for name, (units, axes) in self._groups.items():
            if axes and all(axis.parameter in gradients for axis in axes):
                products = {
                    axis: wide(gradients[axis.parameter]) * wide(self._parameters[axis.parameter]) for axis in axes
                }
                self.add(name, units.reduce(products).square())
        self.count += 1

    def result(self) -> Statistics:
        """What was measured: the mean, by group.

        Returns:
            For each group a number per unit.
        """
        means = {name: total / self.count for name, total in self.sums.items()}
        return Statistics(units={self.kind: means})


class TaylorGates(TaylorGroups):
    """Mean over mini-batches of the squared gradient of a gate of 1 on a unit's output: `1/B sum_b (dL_b/dz)^2`.

    Where a norm scales and shifts the output, `dL/dz = sum over its scale gamma and shift beta of g w`, else the sum
    over the weights that produce it and their bias.

    Reference:
        Molchanov, Mallya, Tyree, Frosio, Kautz (2019), Importance Estimation for Neural Network Pruning.
    """

    kind = "taylor_gates"

    @staticmethod
    def counted(units: Units) -> list[ParameterAxis]:
        """Over which parameters the sum goes.

        Args:
            units: A group.

        Returns:
            Norms, if it has some, else weights that produce, if it has some.
        """
        return gate(units)


def gate(units: Units) -> list[ParameterAxis]:
    """The parameters that a gate on the units' output multiplies.

    Args:
        units: A group.

    Returns:
        Scale and shift of its norms, else the weights and biases that produce the output; none where the units have
        no output of their own.

    Example:
        >>> from secateur.granularity import filter, input_channel
        >>> layer = nn.Linear(2, 3)
        >>> gate(filter()(layer)["weight"]), gate(input_channel()(layer)["weight"])
        ([ParameterAxis(parameter='weight', axis=None)], [])
    """
    if "norm_scale" in units.role.values():
        return [axis for axis, role in units.role.items() if role in NORM]
    if "out" in units.role.values():
        return [axis for axis, role in units.role.items() if role in PRODUCERS]
    return []
