"""Fashion-MNIST: 28 x 28 grey images of clothing, the task of the reproductions."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from secateur.errors import DataError, UnknownNameError
from secateur.tasks import networks
from secateur.tasks.data.catalogue import FASHION_MNIST
from secateur.tasks.data.source import locate
from secateur.tasks.digits import accuracy
from secateur.tasks.task import Augment, Task

MEAN, DEVIATION = 0.2860, 0.3530  # of the 60,000 training images, pixels from 0 to 1
VALIDATION = 5_000  # the last images of the training file
SIZE = 28


@dataclass(frozen=True)
class Training:
    """How a network is trained on this task.

    Args:
        network: Makes it, untrained.
        epochs: Of dense training.
        learning_rate: The largest.
        channels_last: Keep channels next to one another in memory, which convolutions on a CPU are faster with.
        augment: How training images are changed.
    """

    network: Callable[[], nn.Module]
    epochs: int
    learning_rate: float
    channels_last: bool = True
    augment: Augment | None = None


def fashion(network: str = "lenet-300-100", *, data_dir: Path | str | None = None) -> Task:
    """Fashion-MNIST, 10 classes of clothing, with one of the networks of `secateur.tasks.networks`.

    55,000 images to train on (the first of the training file), 5,000 to validate (the last), and the 10,000 test
    images. Pixels are divided by 255, less their mean, over their standard deviation. One test image is 0.01 points;
    the standard error of an accuracy of 92 % is 0.27 points.

    Args:
        network: lenet-300-100, lenet-5, vgg-small, resnet-20, resnet-20-bottleneck or mobilenet-v1.
        data_dir: The folder with the four files of the data set; None: where `secateur data` puts them.

    Returns:
        Task: accuracy, higher is better.

    Raises:
        UnknownNameError: There is no such network.
        DataError: The files are not there, or damaged; the message says how to get them.

    Reference:
        Xiao, Rasul, Vollgraf (2017), Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms.
    """
    if network not in NETWORKS:
        raise UnknownNameError("network", network, NETWORKS)
    recipe = NETWORKS[network]
    images, labels, test_images, test_labels = _data(locate(FASHION_MNIST, data_dir))
    return Task(
        f"fashion {network}",
        recipe.network if not recipe.channels_last else lambda: _channels_last(recipe.network()),
        train=TensorDataset(images[:-VALIDATION], labels[:-VALIDATION]),
        validation=TensorDataset(images[-VALIDATION:], labels[-VALIDATION:]),
        test=TensorDataset(test_images, test_labels),
        loss=nn.functional.cross_entropy,
        metric=accuracy,
        example=test_images[:1],
        batch_size=128,
        epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        warm_up=1,
        augment=recipe.augment,
    )


def flipped_and_shifted(images: Tensor, generator: torch.Generator, *, most: int = 2) -> Tensor:
    """Images, each mirrored or not and moved by up to a few pixels, what comes in at the edge being background.

    Args:
        images: `(samples, 1, 28, 28)`, normalized.
        generator: What is drawn from it: a mirror, a row and a column for every image.
        most: Pixels, in both directions.

    Returns:
        A new tensor of the same shape.
    """
    samples = len(images)
    shift = torch.randint(0, 2 * most + 1, (2, samples, 1), generator=generator)
    mirrored = torch.randint(0, 2, (samples, 1), generator=generator).bool()
    padded = nn.functional.pad(images, (most,) * 4, value=-MEAN / DEVIATION)
    steps = torch.arange(SIZE)
    rows = shift[0] + steps
    columns = shift[1] + torch.where(mirrored, steps.flip(0), steps)
    return padded[torch.arange(samples)[:, None, None], :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


NETWORKS: Mapping[str, Training] = {
    "lenet-300-100": Training(networks.lenet_300_100, 30, 0.1, channels_last=False),
    "lenet-5": Training(partial(networks.lenet_5, dropout=0.3), 20, 0.05),
    "vgg-small": Training(networks.vgg_small, 16, 0.1, augment=flipped_and_shifted),
    "resnet-20": Training(networks.resnet_20, 16, 0.2, augment=flipped_and_shifted),
    "resnet-20-bottleneck": Training(networks.resnet_20_bottleneck, 16, 0.2, augment=flipped_and_shifted),
    "mobilenet-v1": Training(networks.mobilenet_v1, 16, 0.2, augment=flipped_and_shifted),
}


def _channels_last(network: nn.Module) -> nn.Module:
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@lru_cache(maxsize=1)
def _data(folder: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images and labels to train on, images and labels to test on."""
    return (
        _images(folder / "train-images-idx3-ubyte.gz", 60_000),
        _labels(folder / "train-labels-idx1-ubyte.gz", 60_000),
        _images(folder / "t10k-images-idx3-ubyte.gz", 10_000),
        _labels(folder / "t10k-labels-idx1-ubyte.gz", 10_000),
    )


def _images(path: Path, count: int) -> Tensor:
    pixels = _idx(path, (count, SIZE, SIZE))
    return (torch.from_numpy(pixels).float().div_(255) - MEAN).div_(DEVIATION).unsqueeze_(1)


def _labels(path: Path, count: int) -> Tensor:
    return torch.from_numpy(_idx(path, (count,))).long()


def _idx(path: Path, shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The array of an idx file: a magic number, the sizes as big-endian integers, then bytes."""
    try:
        with gzip.open(path) as file:
            content = file.read(16 + int(np.prod(shape)) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}). Remove it. {FASHION_MNIST.way()}") from error
    header = np.array([0x0800 + len(shape), *shape], dtype=">u4").tobytes()
    if content[: len(header)] != header or len(content) != len(header) + int(np.prod(shape)):
        raise DataError(f"{path} is no file of {shape} bytes of Fashion-MNIST. Remove it. {FASHION_MNIST.way()}")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape).copy()
