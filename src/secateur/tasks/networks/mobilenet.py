"""A small MobileNet: depthwise convolutions with 1 x 1 convolutions between them."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

STEM = 32
# (filters, stride) of each pair of a depthwise and a 1 x 1 convolution
PAIRS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (256, 1))


def mobilenet_v1(*, classes: int = 10) -> nn.Sequential:
    """MobileNetV1 cut to small images: a 3 x 3 convolution, then six depthwise-separable pairs.

    The published network has thirteen pairs and halves the resolution five times, from 224 to 7. Here the first
    convolution keeps the resolution, two pairs halve it, from 28 to 7, and the widths are those of the published
    network up to 256.

    Args:
        classes: Number of outputs.

    Returns:
        An untrained network for inputs of shape `(samples, 1, height, width)`; prunable layers conv, depthwise1,
        pointwise1, ..., fc.

    Reference:
        Howard et al. (2017), MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications,
        table 1.

    Example:
        >>> sum(parameter.numel() for parameter in mobilenet_v1().parameters())
        205066
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(1, STEM, 3, padding=1, bias=False), bn=nn.BatchNorm2d(STEM), relu=nn.ReLU()
    )
    channels = STEM
    for number, (filters, stride) in enumerate(PAIRS, 1):
        layers[f"depthwise{number}"] = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        layers[f"depthwise_bn{number}"], layers[f"depthwise_relu{number}"] = nn.BatchNorm2d(channels), nn.ReLU()
        layers[f"pointwise{number}"] = nn.Conv2d(channels, filters, 1, bias=False)
        layers[f"pointwise_bn{number}"], layers[f"pointwise_relu{number}"] = nn.BatchNorm2d(filters), nn.ReLU()
        channels = filters
    layers.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(channels, classes))
    return nn.Sequential(layers)
