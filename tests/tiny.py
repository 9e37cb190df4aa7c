"""A task so small that whole runs fit into a test: two classes of 6 x 6 images, told apart by their brighter half."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from secateur.tasks import Task
from secateur.tasks.digits import accuracy


def data(samples: int, seed: int) -> TensorDataset:
    """Noise with one half brighter."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (samples,), generator=generator)
    images = torch.randn(samples, 1, 6, 6, generator=generator)
    images[labels == 0, :, :3] += 1
    images[labels == 1, :, 3:] += 1
    return TensorDataset(images, labels)


def network() -> nn.Sequential:
    """Two convolutions and a linear layer."""
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))


def tiny() -> Task:
    """The task."""
    return Task(
        "tiny",
        network,
        train=data(64, 0),
        validation=data(32, 1),
        test=data(48, 2),
        loss=nn.functional.cross_entropy,
        metric=accuracy,
        example=torch.zeros(1, 1, 6, 6),
        batch_size=16,
        epochs=2,
        learning_rate=0.1,
    )


def noisy(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images with some noise on top."""
    return images + 0.1 * torch.randn(images.shape, generator=generator)


def augmented() -> Task:
    """The task, its training images changed anew in every epoch."""
    return replace(tiny(), augment=noisy)
