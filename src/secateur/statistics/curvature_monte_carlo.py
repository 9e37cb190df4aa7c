"""The diagonal of the generalised Gauss-Newton matrix, by sampling: the Fisher information for a loss that is one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateur.errors import SecateurError
from secateur.statistics.batch import Batch
from secateur.statistics.curvature import DiagonalCurvature
from secateur.statistics.outputs import blocks, roots, slope
from secateur.statistics.per_sample import squares


class MonteCarlo(DiagonalCurvature):
    """An unbiased estimate of what `Exact` computes: `h = 1/N sum_n E[(J_n' s)^2]`, s random with `E[s s'] = H_n`.

    For softmax cross-entropy `s = p - e_y` with a label y drawn from the network's own p: the Fisher information. For
    another loss `s = S r` with `H_n = S S'` and signs r drawn evenly. One pass backwards for each draw. No estimate is
    negative.

    Args:
        samples: How many draws for each sample of the data.
        seed: Of the draws; the global generator is left alone.

    Raises:
        SecateurError: `samples` is less than 1.

    Shapes:
        h has the shape of each parameter.

    Reference:
        Martens, Grosse (2015), Optimizing Neural Networks with Kronecker-factored Approximate Curvature, section 5;
        Dangel, Kunstner, Hennig (2020), BackPACK: Packing more into Backprop.

    Example:
        The mean loss is `(w0^2 + 9 w1^2) / 2`; with one output every draw is exact:

        >>> from secateur.statistics import calibrate
        >>> line = torch.nn.Linear(2, 1, bias=False)
        >>> _ = line.weight.data.copy_(torch.tensor([[2.0, 1.0]]))
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), None)]
        >>> found = calibrate(line, data, ["curvature_monte_carlo"], loss=lambda y, _: y.square().mean())
        >>> found.of("curvature_monte_carlo", "weight")
        tensor([[1., 9.]])
    """

    kind = "curvature_monte_carlo"

    def __init__(self, samples: int = 1, seed: int = 0) -> None:
        """Start empty.

        Raises:
            SecateurError: `samples` is less than 1.
        """
        super().__init__()
        if samples < 1:
            raise SecateurError(f"at least one draw is needed for each sample; given: {samples}")
        self._draws = samples
        self._generator = torch.Generator().manual_seed(seed)

    def diagonal(self, batch: Batch) -> dict[str, Tensor]:
        """The estimate for the loss of a batch.

        Args:
            batch: The batch.

        Returns:
            For each parameter a tensor of its shape, nowhere negative.
        """
        columns = self._labels(batch) if _of_labels(batch) else self._signs(batch)
        return squares(self.model, self.parameters, batch, columns / self._draws**0.5)

    def _labels(self, batch: Batch) -> Tensor:
        """`p - e_y` for labels that the network draws, `(draws, samples, classes, ...)`."""
        leaf, _ = slope(batch, self.kind)
        last = leaf.detach().softmax(1).movedim(1, -1)
        rows = last.reshape(-1, last.shape[-1])
        drawn = torch.multinomial(rows.cpu(), self._draws, replacement=True, generator=self._generator)
        hot = F.one_hot(drawn.T.to(rows.device), rows.shape[-1]).to(rows.dtype)
        columns: Tensor = (rows - hot).reshape(self._draws, *last.shape).movedim(-1, 2)
        scaled: Tensor = columns / len(rows) ** 0.5
        return scaled

    def _signs(self, batch: Batch) -> Tensor:
        """Random combinations of the roots of the curvature, `(draws, samples, ...)`."""
        columns = roots(blocks(batch, self.kind), self.kind)
        shape = (self._draws, *columns.shape[:2])
        signs = (torch.randint(2, shape, generator=self._generator) * 2 - 1).to(columns)
        drawn: Tensor = torch.einsum("dcn,cni->dni", signs, columns)
        return drawn.reshape(self._draws, *batch.outputs.shape)


def _of_labels(batch: Batch) -> bool:
    """Whether the loss is cross-entropy with a label for each position, whose curvature labels can be drawn for."""
    loss, targets = batch.loss_of, batch.targets
    plain = loss is F.cross_entropy or (
        isinstance(loss, nn.CrossEntropyLoss) and loss.weight is None and loss.reduction == "mean"
    )
    if not plain or not isinstance(targets, Tensor) or targets.is_floating_point():
        return False
    outputs = batch.outputs
    return isinstance(outputs, Tensor) and outputs.ndim > 1 and bool((targets >= 0).all())
