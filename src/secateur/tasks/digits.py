"""Handwritten digits, 8 x 8: a task that needs no download and takes seconds."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from secateur.tasks.task import Task

SPLIT_SEED = 0  # the split is part of the task: a run's own seed never moves it
TEST, VALIDATION = 500, 297


def digits() -> Task:
    """The 1,797 handwritten digits that scikit-learn ships, 10 classes, and a small convolutional network.

    1,000 images to train on, 297 to validate, 500 to test, each with the classes in the same proportions. Pixels, 0
    to 16, are divided by 16. The network has 57,482 parameters: three 3 x 3 convolutions (16, 32, 64 channels), two
    max-pools, a hidden layer of 128. One test image is 0.2 points, so this is a smoke test, not evidence about a
    method.

    Returns:
        Task: accuracy, higher is better.

    Reference:
        Alpaydin, Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning Repository.

    Example:
        >>> task = digits()
        >>> len(task.train), len(task.validation), len(task.test)
        (1000, 297, 500)
    """
    images, labels = _data()
    rest, test = _split(range(len(labels)), labels.tolist(), TEST)
    train, validation = _split(rest, labels[rest].tolist(), VALIDATION)
    return Task(
        "digits",
        network,
        train=TensorDataset(images[train], labels[train]),
        validation=TensorDataset(images[validation], labels[validation]),
        test=TensorDataset(images[test], labels[test]),
        loss=nn.functional.cross_entropy,
        metric=accuracy,
        example=images[:1],
        epochs=20,
        learning_rate=0.1,
    )


def network() -> nn.Sequential:
    """The untrained network.

    Returns:
        A module; its prunable layers are conv1, conv2, conv3, fc1, fc2.

    Example:
        >>> sum(parameter.numel() for parameter in network().parameters())
        57482
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 16, 3, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(16, 32, 3, padding=1),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            conv3=nn.Conv2d(32, 64, 3, padding=1),
            relu3=nn.ReLU(),
            pool3=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(256, 128),
            relu4=nn.ReLU(),
            fc2=nn.Linear(128, 10),
        )
    )


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Fraction of samples whose largest output is the target.

    Args:
        outputs: `(samples, classes)`.
        targets: `(samples,)`.

    Returns:
        Between 0 and 1.

    Example:
        >>> accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
        0.5
    """
    return float((outputs.argmax(1) == targets).double().mean())


def _data() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits  # noqa: PLC0415  a second to import, for one task

    raw = load_digits()
    images = torch.tensor(raw.data, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return images, torch.tensor(raw.target, dtype=torch.int64)


def _split(indices: object, labels: list[int], size: int) -> tuple[list[int], list[int]]:
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    first, second = train_test_split(indices, test_size=size, stratify=labels, random_state=SPLIT_SEED)
    return list(first), list(second)
