"""Residual networks for small images, with basic and with bottleneck blocks."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

STAGES = (16, 32, 64)


class ResNet(nn.Module):
    """A 3 x 3 convolution, three stages of residual blocks at 16, 32 and 64 filters, average pooling, one linear layer.

    Args:
        block: Makes a block of (input channels, filters, stride).
        blocks: Blocks in each stage; the first of the second and third stage halves the resolution.
        expansion: Output channels of a block over its filters.
        classes: Number of outputs.
    """

    def __init__(
        self, block: Callable[[int, int, int], nn.Module], *, blocks: int, expansion: int, classes: int
    ) -> None:
        """Build the untrained network."""
        super().__init__()
        self.conv, self.bn, self.relu = _conv(1, STAGES[0], 3), nn.BatchNorm2d(STAGES[0]), nn.ReLU()
        channels, stages = STAGES[0], []
        for number, filters in enumerate(STAGES):
            stage = []
            for index in range(blocks):
                stage.append(block(channels, filters, 2 if number and not index else 1))
                channels = filters * expansion
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Classify.

        Args:
            images: `(samples, 1, height, width)`.

        Returns:
            Logits, `(samples, classes)`.
        """
        features = self.stages(self.relu(self.bn(self.conv(images))))
        logits: Tensor = self.fc(self.pool(features).flatten(1))
        return logits


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut around them, which is a 1 x 1 convolution where shapes change.

    Args:
        channels: Of the input.
        filters: Of both convolutions.
        stride: Of the first.
    """

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        """Build the untrained block."""
        super().__init__()
        self.conv1, self.bn1 = _conv(channels, filters, 3, stride), nn.BatchNorm2d(filters)
        self.conv2, self.bn2 = _conv(filters, filters, 3), nn.BatchNorm2d(filters)
        self.shortcut, self.relu = _shortcut(channels, filters, stride), nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """Add the branch to the shortcut.

        Args:
            features: `(samples, channels, height, width)`.

        Returns:
            `(samples, filters, height / stride, width / stride)`.
        """
        branch = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(features)))))
        added: Tensor = self.relu(branch + self.shortcut(features))
        return added


class BottleneckBlock(nn.Module):
    """A 1 x 1 convolution down to few filters, a 3 x 3 on these, a 1 x 1 up to four times as many, and a shortcut.

    Args:
        channels: Of the input.
        filters: Of the first two convolutions; the last has four times as many.
        stride: Of the 3 x 3 convolution.
    """

    expansion = 4

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        """Build the untrained block."""
        super().__init__()
        wide = self.expansion * filters
        self.conv1, self.bn1 = _conv(channels, filters, 1), nn.BatchNorm2d(filters)
        self.conv2, self.bn2 = _conv(filters, filters, 3, stride), nn.BatchNorm2d(filters)
        self.conv3, self.bn3 = _conv(filters, wide, 1), nn.BatchNorm2d(wide)
        self.shortcut, self.relu = _shortcut(channels, wide, stride), nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """Add the branch to the shortcut.

        Args:
            features: `(samples, channels, height, width)`.

        Returns:
            `(samples, 4 * filters, height / stride, width / stride)`.
        """
        branch = self.relu(self.bn1(self.conv1(features)))
        branch = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(branch)))))
        added: Tensor = self.relu(branch + self.shortcut(features))
        return added


def resnet_20(*, classes: int = 10) -> ResNet:
    """ResNet-20: three stages of three basic blocks.

    Args:
        classes: Number of outputs.

    Returns:
        An untrained network for inputs of shape `(samples, 1, height, width)`.

    Reference:
        He, Zhang, Ren, Sun (2016), Deep Residual Learning for Image Recognition, section 4.2, with the projection
        shortcuts of its option B.

    Example:
        >>> sum(parameter.numel() for parameter in resnet_20().parameters())
        272186
    """
    return ResNet(BasicBlock, blocks=3, expansion=1, classes=classes)


def resnet_20_bottleneck(*, classes: int = 10) -> ResNet:
    """A ResNet of as many layers made of bottlenecks: three stages of two blocks, two thirds of its convolutions 1 x 1.

    Args:
        classes: Number of outputs.

    Returns:
        An untrained network for inputs of shape `(samples, 1, height, width)`.

    Reference:
        He, Zhang, Ren, Sun (2016), Deep Residual Learning for Image Recognition, figure 5, at the widths of section
        4.2.

    Example:
        >>> sum(parameter.numel() for parameter in resnet_20_bottleneck().parameters())
        220090
    """
    return ResNet(BottleneckBlock, blocks=2, expansion=BottleneckBlock.expansion, classes=classes)


def _conv(channels: int, filters: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, filters, kernel, stride, padding=kernel // 2, bias=False)


def _shortcut(channels: int, filters: int, stride: int) -> nn.Module:
    if channels == filters and stride == 1:
        return nn.Identity()
    return nn.Sequential(_conv(channels, filters, 1, stride), nn.BatchNorm2d(filters))
