"""The diagonal of the generalised Gauss-Newton matrix, exactly."""

from __future__ import annotations

from torch import Tensor

from secateur.statistics.batch import Batch
from secateur.statistics.curvature import DiagonalCurvature
from secateur.statistics.outputs import blocks, roots
from secateur.statistics.per_sample import squares


class Exact(DiagonalCurvature):
    """The diagonal of the generalised Gauss-Newton matrix: `h = 1/N sum_n diag(J_n' H_n J_n)`.

    J_n is the Jacobian of the outputs of sample n by the parameters, H_n the curvature of its loss by the outputs.
    With `H_n = S S'` it is a sum of squares, one pass backwards for each output: dear where there are many.

    Shapes:
        h has the shape of each parameter.

    Reference:
        Schraudolph (2002), Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent;
        Dangel, Kunstner, Hennig (2020), BackPACK: Packing more into Backprop.

    Example:
        The mean loss is `(w0^2 + 9 w1^2) / 2`:

        >>> import torch
        >>> from secateur.statistics import calibrate
        >>> line = torch.nn.Linear(2, 1, bias=False)
        >>> _ = line.weight.data.copy_(torch.tensor([[2.0, 1.0]]))
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), None)]
        >>> found = calibrate(line, data, ["curvature_exact"], loss=lambda y, _: y.square().mean())
        >>> found.of("curvature_exact", "weight")
        tensor([[1., 9.]])
    """

    kind = "curvature_exact"

    def diagonal(self, batch: Batch) -> dict[str, Tensor]:
        """The diagonal for the loss of a batch.

        Args:
            batch: The batch.

        Returns:
            For each parameter a tensor of its shape, nowhere negative.
        """
        return squares(self.model, self.parameters, batch, roots(blocks(batch, self.kind), self.kind))
