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


def normed() -> Task:
    """The task, for a network with batch norms."""
    return replace(tiny(), name="normed", model=_normed)


def _normed() -> nn.Sequential:
    first, activation, second, *rest = network()
    return nn.Sequential(first, nn.BatchNorm2d(4), activation, second, nn.BatchNorm2d(8), *rest)


class Attentive(nn.Module):
    """Attention of 4 heads over the rows of an image, between layer norms."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.before, self.after = nn.Linear(6, 8), nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.out, self.fc = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images.squeeze(1))
        q, k, v = self.qkv(self.before(x)).unflatten(-1, (3, -1, 2)).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.out(((q @ k.mT / 2**0.5).softmax(-1) @ v).transpose(1, 2).flatten(2))
        logits: Tensor = self.fc(self.after(x).mean(1))
        return logits


def attentive() -> Task:
    """The task, for a network with attention and layer norms."""
    return replace(tiny(), name="attentive", model=Attentive)
