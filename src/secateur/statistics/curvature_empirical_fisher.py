"""The diagonal of the empirical Fisher matrix."""

from __future__ import annotations

from torch import Tensor

from secateur.statistics.batch import Batch
from secateur.statistics.curvature import DiagonalCurvature
from secateur.statistics.outputs import slope
from secateur.statistics.per_sample import squares


class EmpiricalFisher(DiagonalCurvature):
    """Mean over samples of the squared gradient of their loss: `h = 1/N sum_n (dL_n/dw)^2`.

    Cheap, and not the curvature: it vanishes where the network fits the data, and grows with the square of the loss.

    Shapes:
        h has the shape of each parameter.

    Reference:
        Kunstner, Balles, Hennig (2019), Limitations of the Empirical Fisher Approximation for Natural Gradient
        Descent, equation 3.

    Example:
        The samples have the gradients (4, 0) and (0, 18); their squares are not the curvature, which is (1, 9):

        >>> import torch
        >>> from secateur.statistics import calibrate
        >>> line = torch.nn.Linear(2, 1, bias=False)
        >>> _ = line.weight.data.copy_(torch.tensor([[2.0, 1.0]]))
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), None)]
        >>> found = calibrate(line, data, ["curvature_empirical_fisher"], loss=lambda y, _: y.square().mean())
        >>> found.of("curvature_empirical_fisher", "weight").round()
        tensor([[  8., 162.]])
    """

    kind = "curvature_empirical_fisher"

    def diagonal(self, batch: Batch) -> dict[str, Tensor]:
        """The mean of squares of a batch.

        Args:
            batch: The batch, its loss a mean over samples.

        Returns:
            For each parameter a tensor of its shape, nowhere negative.
        """
        _, gradient = slope(batch, self.kind)
        # the gradient of the mean at an output is that of the sample over N; squares of samples, their mean: N^2 / N
        return squares(self.model, self.parameters, batch, gradient.detach()[None] * batch.samples**0.5)
