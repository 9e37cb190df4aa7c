"""The two networks of handwriting recognition on which pruning was first measured."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def lenet_300_100(*, classes: int = 10, dropout: float = 0.0) -> nn.Sequential:
    """LeNet-300-100: three fully connected layers, 784-300-100-10.

    Args:
        classes: Number of outputs.
        dropout: Probability that a hidden neuron is left out in a training step.

    Returns:
        An untrained network for inputs of shape `(samples, 1, 28, 28)`; prunable layers fc1, fc2, fc3.

    Reference:
        LeCun, Bottou, Bengio, Haffner (1998), Gradient-Based Learning Applied to Document Recognition, section III.C.4.

    Example:
        784 * 300 + 300 * 100 + 100 * 10 weights and 410 biases:

        >>> sum(parameter.numel() for parameter in lenet_300_100().parameters())
        266610
    """
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(784, 300),
            relu1=nn.ReLU(),
            drop1=nn.Dropout(dropout),
            fc2=nn.Linear(300, 100),
            relu2=nn.ReLU(),
            drop2=nn.Dropout(dropout),
            fc3=nn.Linear(100, classes),
        )
    )


def lenet_5(*, classes: int = 10, dropout: float = 0.0) -> nn.Sequential:
    """LeNet-5 in the form that the pruning literature uses: 20 and 50 filters of 5 x 5, then 500 neurons.

    The original has 6 and 16 filters, trained subsampling and radial basis functions at the end; this larger form
    with max-pooling came with the Caffe framework, and is the one of 431 thousand parameters in Han et al. (2015).

    Args:
        classes: Number of outputs.
        dropout: Probability that one of the 500 hidden neurons is left out in a training step.

    Returns:
        An untrained network for inputs of shape `(samples, 1, 28, 28)`; prunable layers conv1, conv2, fc1, fc2.

    Reference:
        LeCun, Bottou, Bengio, Haffner (1998), section II.B; Han et al. (2015), Learning both Weights and Connections
        for Efficient Neural Networks, table 3.

    Example:
        500 + 25,000 + 400,000 + 5,000 weights and 580 biases:

        >>> sum(parameter.numel() for parameter in lenet_5().parameters())
        431080
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 20, 5),
            pool1=nn.MaxPool2d(2),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(20, 50, 5),
            pool2=nn.MaxPool2d(2),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(800, 500),
            relu3=nn.ReLU(),
            drop3=nn.Dropout(dropout),
            fc2=nn.Linear(500, classes),
        )
    )
