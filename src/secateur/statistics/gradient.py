"""Mean gradient of the loss."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import DataError


class MeanGradient:
    """Gradient of the mean loss over all samples, per parameter: `g = 1/N sum_i dL_i/dw`.

    Batches are weighted by their size. Gradients that the user has accumulated on the model are not touched.
    """

    needs_loss = True

    def __init__(self) -> None:
        """Start empty."""
        self._parameters: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}
        self._samples = 0

    def watch(self, model: nn.Module) -> Iterable[Any]:
        """Note the parameters; no hook is needed.

        Args:
            model: The model.

        Returns:
            Nothing to remove.
        """
        self._parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        return ()

    def batch(self, loss: Tensor | None, samples: int) -> None:
        """Add the gradient of a batch.

        Args:
            loss: Mean loss of the batch.
            samples: Its size.

        Raises:
            DataError: There is no loss, or no gradient of it.
        """
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad or not self._parameters:
            raise DataError(
                "mean gradients need of every batch a loss, one number, as a tensor that depends on parameters that "
                "require gradients: return the loss itself, not loss.item(), and freeze no parameter that is pruned"
            )
        gradients = torch.autograd.grad(loss, list(self._parameters.values()), allow_unused=True)
        for name, gradient in zip(self._parameters, gradients, strict=True):
            if gradient is not None:
                self._add(name, gradient.detach(), samples)
        self._samples += samples

    def _add(self, name: str, gradient: Tensor, samples: int) -> None:
        wide = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        if name in self._sums:
            self._sums[name].add_(wide, alpha=samples)
        else:
            self._sums[name] = wide * samples

    def result(self) -> dict[str, Tensor]:
        """The mean gradients.

        Returns:
            For each parameter that the loss depends on, a tensor of its shape.
        """
        return {name: total / self._samples for name, total in self._sums.items()}
