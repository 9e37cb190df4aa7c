"""What the estimators of curvature share: a mean over samples of what each batch has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from secateur.errors import DataError
from secateur.statistics.batch import Batch
from secateur.statistics.values import Statistics
from secateur.units import Units


class DiagonalCurvature:
    """The diagonal of a curvature matrix of the loss, per parameter: `h = 1/N sum over batches b of N_b h_b`.

    `h_b` is that of the loss of a batch, a mean over its samples.
    """

    kind: ClassVar[str]
    needs_loss = True

    def __init__(self) -> None:
        """Start empty."""
        self._sums: dict[str, Tensor] = {}
        self._samples = 0

    def watch(self, model: nn.Module, groups: Mapping[str, Units]) -> Iterable[Any]:  # noqa: ARG002
        """Note the model; no hook is needed.

        Args:
            model: The model.
            groups: The groups to prune.

        Returns:
            Nothing to remove.

        Raises:
            DataError: No parameter requires gradients.
        """
        self.model = model
        self.parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        if not self.parameters:
            raise DataError(f"{self.kind!r} needs parameters that require gradients: freeze none that is pruned")
        return ()

    def batch(self, batch: Batch) -> None:
        """Add the diagonal of a batch.

        Args:
            batch: The batch.
        """
        with torch.enable_grad():
            found = self.diagonal(batch)
        for name, value in found.items():
            self._sums[name] = self._sums.get(name, 0) + value * batch.samples
        self._samples += batch.samples

    def diagonal(self, batch: Batch) -> Mapping[str, Tensor]:
        """The diagonal for the loss of a batch.

        Args:
            batch: The batch.

        Returns:
            For each parameter a tensor of its shape.
        """
        raise NotImplementedError

    def result(self) -> Statistics:
        """The diagonal over all samples.

        Returns:
            For each parameter a tensor of its shape.
        """
        return Statistics({self.kind: {name: total / self._samples for name, total in self._sums.items()}})
