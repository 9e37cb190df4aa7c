"""Statistics made of the gradients of mini-batches: their mean, their mean square, and movement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from secateur.statistics.batch import Batch, loss_in, maybe_gradients, wide
from secateur.statistics.values import Statistics
from secateur.units import Units


class OfGradients:
    """Sums of something that is made of gradients; training can feed them too, one step a batch.

    Gradients that the user has accumulated on the model are not touched.
    """

    kind: ClassVar[str]
    needs_loss = True
    restarts = True  # in training: whether a new plan starts the sums anew

    def __init__(self) -> None:
        """Start empty."""
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self._parameters: dict[str, nn.Parameter] = {}

    def watch(self, model: nn.Module, groups: Mapping[str, Units]) -> Iterable[Any]:  # noqa: ARG002
        """Note the parameters; no hook is needed.

        Args:
            model: The model.
            groups: The groups to prune.

        Returns:
            Nothing to remove.
        """
        self._parameters = dict(model.named_parameters())
        return ()

    def batch(self, batch: Batch) -> None:
        """Add a batch.

        Args:
            batch: The batch.
        """
        learned = {name: value for name, value in self._parameters.items() if value.requires_grad}
        loss = loss_in(batch, "statistics of gradients", learned)
        pairs = zip(learned, maybe_gradients(loss, list(learned.values())), strict=True)
        self.take({name: gradient for name, gradient in pairs if gradient is not None}, batch.samples)

    def take(self, gradients: Mapping[str, Tensor], samples: int) -> None:
        """Add the gradients of a batch.

        Args:
            gradients: Of the mean loss, by parameter.
            samples: Size of the batch.
        """
        raise NotImplementedError

    def add(self, name: str, value: Tensor, times: int = 1) -> None:
        """Add a value to a sum.

        Args:
            name: Of the sum.
            value: What is added.
            times: How often.
        """
        if name in self.sums:
            self.sums[name] = self.sums[name].add(value, alpha=times)
        else:
            self.sums[name] = value * times

    def result(self) -> Statistics:
        """What was measured: the mean, by parameter.

        Returns:
            For each parameter that the loss depends on a tensor of its shape.
        """
        return Statistics({self.kind: {name: total / self.count for name, total in self.sums.items()}})


class MeanGradient(OfGradients):
    """Gradient of the mean loss over all samples, per parameter: `g = 1/N sum_i dL_i/dw`.

    Batches are weighted by their size.
    """

    kind = "gradient"

    def take(self, gradients: Mapping[str, Tensor], samples: int) -> None:
        """Add gradients, weighted.

        Args:
            gradients: Of the mean loss, by parameter.
            samples: Size of the batch.
        """
        for name, gradient in gradients.items():
            self.add(name, wide(gradient), samples)
        self.count += samples


class SquaredGradient(OfGradients):
    """Mean over mini-batches of the squared gradient, per parameter: `q = 1/B sum_b g_b^2`.

    Every mini-batch counts alike. A mean over samples is squared, so that the size of the batches matters.

    Reference:
        Molchanov, Mallya, Tyree, Frosio, Kautz (2019), Importance Estimation for Neural Network Pruning.
    """

    kind = "squared_gradient"

    def take(self, gradients: Mapping[str, Tensor], samples: int) -> None:  # noqa: ARG002
        """Add squares.

        Args:
            gradients: Of the mean loss, by parameter.
            samples: Not looked at.
        """
        for name, gradient in gradients.items():
            self.add(name, wide(gradient).square())
        self.count += 1


class Movement(OfGradients):
    """How far steps downhill move each weight away from zero: `m = - sum over batches b of g_b w`.

    While a model trains, the weights are those of each step, and the sum goes on over new plans.

    Reference:
        Sanh, Wolf, Rush (2020), Movement Pruning: Adaptive Sparsity by Fine-Tuning, section 4, equation 3.
    """

    kind = "movement"
    restarts = False

    def take(self, gradients: Mapping[str, Tensor], samples: int) -> None:  # noqa: ARG002
        """Add the products.

        Args:
            gradients: Of the mean loss, by parameter.
            samples: Not looked at: a sum over steps.
        """
        for name, gradient in gradients.items():
            self.add(name, -wide(gradient) * wide(self._parameters[name]))
        self.count += 1

    def result(self) -> Statistics:
        """What was measured.

        Returns:
            For each parameter that the loss depends on the sum, in its shape.
        """
        return Statistics({self.kind: dict(self.sums)})
