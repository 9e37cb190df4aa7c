"""A small VGG: stacks of 3 x 3 convolutions with batch norm."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

WIDTHS = (32, 32, 64, 64, 128, 128)


def vgg_small(*, classes: int = 10, widths: Sequence[int] = WIDTHS) -> nn.Sequential:
    """Six 3 x 3 convolutions with batch norm, the resolution halved after every second, one linear layer at the end.

    Args:
        classes: Number of outputs.
        widths: Filters of each convolution.

    Returns:
        An untrained network for inputs of shape `(samples, 1, height, width)`, 4 x 4 or larger; prunable layers
        conv1, conv2, ... and fc.

    Reference:
        Simonyan, Zisserman (2015), Very Deep Convolutional Networks for Large-Scale Image Recognition, section 2;
        with batch norm as in Liu et al. (2017), Learning Efficient Convolutional Networks through Network Slimming.

    Example:
        >>> sum(parameter.numel() for parameter in vgg_small().parameters())
        288170
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 1
    for number, width in enumerate(widths, 1):
        layers[f"conv{number}"] = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        layers[f"bn{number}"] = nn.BatchNorm2d(width)
        layers[f"relu{number}"] = nn.ReLU()
        if number % 2 == 0 and number < len(widths):
            layers[f"pool{number}"] = nn.MaxPool2d(2)
        channels = width
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels, classes)
    return nn.Sequential(layers)
