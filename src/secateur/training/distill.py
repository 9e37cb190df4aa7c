"""Knowledge distillation: the dense network's outputs as targets for the pruned one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial
from operator import length_hint
from typing import Any

import torch
from torch import Tensor, nn

from secateur.batches import call, device_of, mode, pair, to_device
from secateur.errors import ModelError, RunError
from secateur.training.finetune import Batches, Loss


def distill(
    teacher: nn.Module,
    batches: Batches,
    loss: Loss,
    *,
    temperature: float = 4.0,
    weight: float = 0.9,
    autocast: torch.dtype | None = None,
) -> tuple[Batches, Loss]:
    r"""Batches and loss with which a pruned network learns from a teacher, usually itself before it was pruned.

    .. math::
        L = (1 - w) \, \mathrm{loss}(z, y) + w \, T^2 \,
        \mathrm{KL}\left(\mathrm{softmax}(z_t / T) \,\Vert\, \mathrm{softmax}(z / T)\right)

    with z the logits of the network, z_t those of the teacher, y the targets, the divergence a mean over samples. The
    factor T^2 keeps the gradient of the second term as large as at T = 1. The teacher runs in evaluation mode, without
    gradients, on the very inputs that the network sees, augmentation included. At w = 1 the targets are not looked at,
    so they may be anything. A class that the teacher rules out, with a logit of -inf, adds nothing to the divergence.

    Args:
        teacher: Returns logits `(samples, classes, ...)` for the inputs of a batch, as many as the network.
        batches: (inputs, targets) pairs.
        loss: Of (outputs, targets): a scalar tensor.
        temperature: T, above 0.
        weight: w, from 0 (nothing from the teacher) to 1 (nothing from the targets).
        autocast: Precision of the teacher's forward pass.

    Returns:
        Batches and loss to pass to `finetune` in place of the given ones.

    Raises:
        RunError: `temperature` or `weight` is out of range.

    Reference:
        Hinton, Vinyals, Dean (2015), Distilling the Knowledge in a Neural Network, section 2.

    Example:
        A network that answers as its teacher does has only the first term left: 0.5 * ln 2.

        >>> same = nn.Identity()
        >>> data = [(torch.zeros(1, 2), torch.tensor([0]))]
        >>> taught, both = distill(same, data, nn.functional.cross_entropy, weight=0.5)
        >>> ((inputs, targets),) = taught
        >>> round(both(same(inputs), targets).item(), 4)
        0.3466
    """
    if not 0 < temperature < math.inf:
        raise RunError(f"the temperature of distillation is {temperature}; expected a number above 0, such as 4")
    if not 0 <= weight <= 1:
        raise RunError(
            f"the weight of distillation is {weight}; expected a number from 0, nothing from the teacher, to 1, "
            "nothing from the targets"
        )
    return Taught(teacher, batches, autocast), partial(_both, loss, temperature, weight)


class Taught:
    """Batches whose targets are pairs of the true targets and a teacher's logits.

    Args:
        teacher: Makes the logits.
        batches: (inputs, targets) pairs; where randomness of theirs lives, it is found as `batches`.
        autocast: Precision of the teacher's forward pass.
    """

    def __init__(self, teacher: nn.Module, batches: Iterable[Any], autocast: torch.dtype | None = None) -> None:
        """Remember them."""
        self.teacher, self.batches, self.autocast = teacher, batches, autocast

    def __length_hint__(self) -> int:
        """How many batches there are.

        Returns:
            The number; 0 if it is not known.
        """
        return length_hint(self.batches)

    def __iter__(self) -> Iterator[tuple[Any, tuple[Any, Tensor]]]:
        """Go through the batches once.

        Yields:
            Inputs, and the targets with the logits of the teacher.

        Raises:
            ModelError: The teacher returns something else than logits.
        """
        device = device_of(self.teacher)
        for batch in self.batches:
            inputs, targets = pair(batch)
            precision = torch.autocast(device.type, dtype=self.autocast, enabled=self.autocast is not None)
            with mode(self.teacher, training=False), torch.no_grad(), precision:
                logits = call(self.teacher, to_device(inputs, device))
            if not isinstance(logits, Tensor) or logits.ndim < 2:
                shape = f" of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else ""
                raise ModelError(
                    f"the teacher returned a {type(logits).__name__}{shape}; expected logits (samples, classes, ...). "
                    "Wrap it so that it returns these"
                )
            yield inputs, (targets, logits)


def _both(loss: Loss, temperature: float, weight: float, outputs: Tensor, targets: tuple[Any, Tensor]) -> Tensor:
    truth, logits = targets
    if weight == 0:
        return loss(outputs, truth)
    taught = temperature**2 * _divergence(outputs, logits, temperature)
    return taught if weight == 1 else (1 - weight) * loss(outputs, truth) + weight * taught


def _divergence(outputs: Any, logits: Tensor, temperature: float) -> Tensor:
    if not isinstance(outputs, Tensor) or outputs.shape != logits.shape:
        found = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else f"type {type(outputs).__name__}"
        raise ModelError(
            f"the network returned outputs of {found}, its teacher logits of shape {tuple(logits.shape)}; expected as "
            "many of one as of the other. Give a teacher of the same classes"
        )
    log_p, log_q = (
        nn.functional.log_softmax(value.to(torch.promote_types(value.dtype, torch.float32)) / temperature, 1)
        for value in (outputs, logits)
    )
    q = log_q.exp()
    # A class that the teacher rules out, by a logit of -inf, adds nothing: 0 ln 0 = 0.
    terms = torch.where(q > 0, q * (log_q - log_p), 0)
    # the mean over samples, and over positions where there are some
    return terms.sum(1).mean()
