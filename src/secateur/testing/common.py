"""What the checks share: their error, a small model with every kind of layer, and tensors compared bit by bit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from secateur.errors import SecateurError


class ConformanceError(SecateurError, AssertionError):
    """A criterion or a granularity breaks a law; the message says which, for which group, and how to mend it."""


class ExampleNet(nn.Module):
    """A small net with every kind of layer: for images `(N, 4, 8, 8)`, four outputs.

    Linear, Conv1d, Conv2d (plain, grouped, depthwise), Conv3d, ConvTranspose2d and BatchNorm2d.

    Args:
        seed: Of the weights; the global generator is left as it was.

    Example:
        >>> ExampleNet()(torch.zeros(2, 4, 8, 8)).shape
        torch.Size([2, 4])
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv2d = nn.Conv2d(4, 8, 3, padding=1)
            self.norm = nn.BatchNorm2d(8)
            self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
            self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
            self.transposed = nn.ConvTranspose2d(8, 4, 3, stride=2)
            self.conv3d = nn.Conv3d(4, 8, (1, 3, 2))
            self.conv1d = nn.Conv1d(8, 4, 5)
            self.linear = nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        """Run the net.

        Args:
            images: `(N, 4, 8, 8)`.

        Returns:
            `(N, 4)`.
        """
        x = torch.relu(self.norm(self.conv2d(images)))
        x = torch.relu(self.depthwise(torch.relu(self.grouped(x))))
        x = torch.relu(self.conv3d(self.transposed(x).unsqueeze(2)))
        x = torch.relu(self.conv1d(x.flatten(2)))
        logits: Tensor = self.linear(x.mean(2))
        return logits


def require(holds: bool, group: str, law: str, mend: str) -> None:
    """Go on if a law holds.

    Args:
        holds: Whether it does.
        group: Name of the group, or what else was looked at.
        law: The law, and what was found.
        mend: How to mend it.

    Raises:
        ConformanceError: It does not.
    """
    if not holds:
        raise ConformanceError(f"{group}: {law}. To mend it: {mend}")


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal bit by bit, so that NaN equals itself.

    Args:
        one: Any tensor.
        other: Any tensor.

    Returns:
        Whether shape, dtype and every bit agree.

    Example:
        >>> same_bits(torch.tensor([torch.nan]), torch.tensor([torch.nan])), same_bits(torch.zeros(1), -torch.zeros(1))
        (True, False)
    """
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    flat = (value.detach().flatten().contiguous().view(torch.uint8) for value in (one, other))
    return torch.equal(*flat)
