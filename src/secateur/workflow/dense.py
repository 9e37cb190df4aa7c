"""The dense network of a run: trained by its recipe, with a penalty if wanted, or taken from a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from secateur.errors import RunError
from secateur.tasks import Task, train
from secateur.training import Regularizer, undecayed
from secateur.weights import load_weights
from secateur.workflow.run_folder import RunFolder


@dataclass(frozen=True)
class Dense:
    """Where the dense network comes from.

    Args:
        epochs: Of training; None: the task's.
        weights: A file of weights to take instead of training.
        regularizer: Penalty of the loss while it is trained, in place of weight decay.
        decay: Keep weight decay on beside the penalty, as a penalty of the scales of norms alone wants it.

    Raises:
        RunError: There are weights, so that nothing is trained, and a penalty all the same.
    """

    epochs: int | None = None
    weights: Path | None = None
    regularizer: Regularizer | None = None
    decay: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be done together.

        Raises:
            RunError: There are weights and a penalty.
        """
        if self.weights is not None and self.regularizer is not None:
            raise RunError(
                f"{self.regularizer} penalises dense training, which the weights of {self.weights} replace: leave out "
                "--regularize or --weights"
            )


@dataclass(frozen=True)
class Numerics:
    """How a network is run while it is trained.

    Args:
        device: Where.
        autocast: Precision of the forward pass; None: that of the weights.
        accumulate: Batches for a step of the optimizer.
    """

    device: str = "cpu"
    autocast: torch.dtype | None = None
    accumulate: int = 1


def dense_model(
    task: Task, how: Dense, numerics: Numerics, folder: RunFolder, *, seed: int, keep: int | None, progress: bool
) -> nn.Module:
    """The dense network of a run.

    Args:
        task: The task.
        how: Trained or loaded.
        numerics: Device and precision.
        folder: Where the state is kept; a run that stopped goes on from there.
        seed: Of weights and order.
        keep: Leave the weights after so many epochs in `early.safetensors`; None: none.
        progress: Show a bar on a terminal.

    Returns:
        The network.
    """
    if how.weights is not None:
        model = task.model()
        load_weights(model, how.weights)
        return model.to(numerics.device)
    model, _ = train(
        task,
        seed=seed,
        epochs=how.epochs,
        device=numerics.device,
        autocast=numerics.autocast,
        accumulate=numerics.accumulate,
        regularizer=how.regularizer,
        optimizer=task.optimizer if how.regularizer is None or how.decay else undecayed(task.optimizer),
        snapshots=None if keep is None else {keep: folder.file("early.safetensors")},
        checkpoint=folder.state("dense"),
        resume=True,
        progress=progress,
    )
    return model
