"""Diagonals of the Hessian and of the Gauss-Newton matrix from products with random signs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from secateur.errors import ModelError, SecateurError
from secateur.statistics.batch import Batch, loss_in, maybe_gradients, wide
from secateur.statistics.curvature import DiagonalCurvature
from secateur.statistics.outputs import bend, slope
from secateur.statistics.values import Statistics

Product = Callable[[Sequence[Tensor]], Sequence[Tensor | None]]
"""From a vector in the space of the parameters to a matrix times it."""


class Hutchinson(DiagonalCurvature):
    """The diagonal of the Hessian, estimated: `h = mean over probes of v * (H v)`, v random signs.

    Unbiased; a probe's variance is the sum of the squares of a row off the diagonal. Estimates may be negative, as the
    diagonal itself may be. Every batch draws its own probes, so that the noise falls with their number too. Beside the
    estimate comes its standard error, from how the probes of a batch differ: `curvature_hutchinson_error`. It knows of
    the noise of the probes, not of the choice of the data.

    A batch costs a gradient that can be derived once more, and each probe a pass backwards through both.

    Args:
        probes: How many for each batch; at least 2 for a standard error.
        seed: Of the signs; the global generator is left alone.

    Raises:
        SecateurError: `probes` is less than 1.

    Shapes:
        v, H v and h have the shape of each parameter.

    Reference:
        Bekas, Kokiopoulou, Saad (2007), An Estimator for the Diagonal of a Matrix.

    Example:
        The mean loss is `(w0^2 + 9 w1^2) / 2`; where the matrix is diagonal every probe is exact:

        >>> from secateur.statistics import calibrate
        >>> line = torch.nn.Linear(2, 1, bias=False)
        >>> _ = line.weight.data.copy_(torch.tensor([[2.0, 1.0]]))
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), None)]
        >>> found = calibrate(line, data, ["curvature_hutchinson"], loss=lambda y, _: y.square().mean())
        >>> found.of("curvature_hutchinson", "weight")
        tensor([[1., 9.]])
    """

    kind = "curvature_hutchinson"

    def __init__(self, probes: int = 4, seed: int = 0) -> None:
        """Start empty.

        Raises:
            SecateurError: `probes` is less than 1.
        """
        super().__init__()
        if probes < 1:
            raise SecateurError(f"at least one probe is needed; given: {probes}")
        self._probes = probes
        self._generator = torch.Generator().manual_seed(seed)
        self._variances: dict[str, Tensor] = {}

    def product(self, batch: Batch, parameters: Sequence[Tensor]) -> Product:
        """Products with the Hessian of the loss of a batch.

        Args:
            batch: The batch.
            parameters: By which the loss is derived.

        Returns:
            The product.
        """
        loss = loss_in(batch, f"{self.kind!r}: second derivatives", parameters)
        slopes = maybe_gradients(loss, parameters, create_graph=True)
        used = [(place, value) for place, value in enumerate(slopes) if value is not None and value.requires_grad]

        def times(vector: Sequence[Tensor]) -> Sequence[Tensor | None]:
            if not used:
                return [None if value is None else torch.zeros_like(value) for value in slopes]
            found = maybe_gradients([value for _, value in used], parameters, [vector[place] for place, _ in used])
            return [_zero_if_seen(value, slope) for value, slope in zip(found, slopes, strict=True)]

        return times

    def diagonal(self, batch: Batch) -> dict[str, Tensor]:
        """The mean over the probes of a batch.

        Args:
            batch: The batch.

        Returns:
            For each parameter that the loss depends on a tensor of its shape.

        Raises:
            ModelError: The model cannot be derived twice.
        """
        names, values = list(self.parameters), list(self.parameters.values())
        sums: dict[str, Tensor] = {}
        squares: dict[str, Tensor] = {}
        try:
            times = self.product(batch, values)
            for _ in range(self._probes):
                signs = [self._signs(value) for value in values]
                for name, sign, found in zip(names, signs, times(signs), strict=True):
                    if found is not None:
                        value = wide(sign * found)
                        sums[name] = sums.get(name, 0) + value
                        squares[name] = squares.get(name, 0) + value.square()
        except NotImplementedError as error:
            raise ModelError(f"{self.kind!r} derives the model twice, which torch refuses here: {error}") from error
        for name, total in sums.items():
            self._note(name, total / self._probes, squares[name] / self._probes, batch.samples)
        return {name: total / self._probes for name, total in sums.items()}

    def _signs(self, like: Tensor) -> Tensor:
        return (torch.randint(2, like.shape, generator=self._generator) * 2 - 1).to(like)

    def _note(self, name: str, mean: Tensor, square: Tensor, samples: int) -> None:
        """Add the variance of a batch's mean over probes, weighted as the mean is."""
        if self._probes > 1:
            variance = (square - mean.square()).clamp(min=0) / (self._probes - 1)
            self._variances[name] = self._variances.get(name, 0) + variance * samples**2

    def result(self) -> Statistics:
        """The estimate, and its standard error where there are two probes at least.

        Returns:
            For each parameter two tensors of its shape.
        """
        values = dict(super().result().values)
        if self._probes > 1:
            values[f"{self.kind}_error"] = {
                name: total.sqrt() / self._samples for name, total in self._variances.items()
            }
        return Statistics(values)


class HutchinsonGGN(Hutchinson):
    """The diagonal of the generalised Gauss-Newton matrix, estimated: `h = mean over probes of v * (J' H J v)`.

    As `Hutchinson`, for the matrix of which `Exact` computes the diagonal: unbiased, its estimates may be negative
    though that diagonal is not. It takes any loss and any number of outputs. The standard error is
    `curvature_hutchinson_ggn_error`.

    Shapes:
        v and h have the shape of each parameter; J v that of the outputs.

    Reference:
        Schraudolph (2002), Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent.

    Example:
        The mean loss is `(w0^2 + 9 w1^2) / 2`; where the matrix is diagonal every probe is exact:

        >>> from secateur.statistics import calibrate
        >>> line = torch.nn.Linear(2, 1, bias=False)
        >>> _ = line.weight.data.copy_(torch.tensor([[2.0, 1.0]]))
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), None)]
        >>> found = calibrate(line, data, ["curvature_hutchinson_ggn"], loss=lambda y, _: y.square().mean())
        >>> found.of("curvature_hutchinson_ggn", "weight")
        tensor([[1., 9.]])
    """

    kind = "curvature_hutchinson_ggn"

    def product(self, batch: Batch, parameters: Sequence[Tensor]) -> Product:
        """Products with the Gauss-Newton matrix of the loss of a batch.

        Args:
            batch: The batch.
            parameters: By which the outputs are derived.

        Returns:
            The product.
        """
        loss_in(batch, f"{self.kind!r}: second derivatives", parameters)
        leaf, gradient = slope(batch, self.kind)
        outputs = batch.outputs
        # J' u is linear in u: its derivative by u, times v, is J v.
        u = torch.zeros_like(outputs, requires_grad=True)
        pulled = maybe_gradients(outputs, parameters, u, create_graph=True)
        used = [(place, value) for place, value in enumerate(pulled) if value is not None]

        def times(vector: Sequence[Tensor]) -> Sequence[Tensor | None]:
            (along,) = torch.autograd.grad(
                [value for _, value in used], u, [vector[place] for place, _ in used], retain_graph=True
            )
            bent = bend(leaf, gradient, along.to(leaf)).to(outputs)
            return maybe_gradients(outputs, parameters, bent)

        return times


def _zero_if_seen(found: Tensor | None, first: Tensor | None) -> Tensor | None:
    """No second derivative where there is a first one: the loss is linear there."""
    return torch.zeros_like(first) if found is None and first is not None else found
