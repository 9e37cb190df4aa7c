"""Sums of products of a layer's inputs and wanted outputs: all that a regression has to know, of a fixed size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# A variance below this part of the mean square is that of a constant in single precision.
ROUNDING = 1e-13


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments of inputs X and wanted outputs Y over sampled points, in double precision.

    They take `columns^2` numbers for each group of channels, however many points there are. The squared error of any
    weights follows from them: `|Y - X W|^2 = |Y|^2 - 2 tr(W' X'Y) + tr(W' X'X W)`.

    Args:
        count: Points.
        x: Sums of inputs, `(groups, columns)`.
        y: Sums of outputs, `(groups, outputs)`.
        xx: `X'X`, `(groups, columns, columns)`.
        xy: `X'Y`, `(groups, columns, outputs)`.
        yy: Sums of squares of outputs, `(groups, outputs)`.

    Example:
        Two points of one input and one output, on the line y = 2 x + 1:

        >>> moments = measured(torch.tensor([[[1.0]], [[3.0]]]), torch.tensor([[[3.0]], [[7.0]]]))
        >>> moments.xx.item(), moments.xy.item(), moments.centred().xx.item(), moments.centred().xy.item()
        (10.0, 24.0, 2.0, 4.0)
        >>> moments.centred().error(torch.tensor([[[2.0]]])).item()
        0.0
    """

    count: int
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor

    def __add__(self, other: Moments) -> Moments:
        """Moments over the points of both.

        Args:
            other: Of the same layer.

        Returns:
            The sums.
        """
        return Moments(
            self.count + other.count,
            self.x + other.x,
            self.y + other.y,
            self.xx + other.xx,
            self.xy + other.xy,
            self.yy + other.yy,
        )

    def centred(self) -> Moments:
        """Moments about the means: what a regression with an intercept sees.

        Returns:
            The moments, their sums zero; a constant input has none, not even of rounding.
        """
        xx = self.xx - self.x[..., :, None] * self.x[..., None, :] / self.count
        varies = xx.diagonal(dim1=-2, dim2=-1) > ROUNDING * self.xx.diagonal(dim1=-2, dim2=-1)
        return Moments(
            self.count,
            torch.zeros_like(self.x),
            torch.zeros_like(self.y),
            xx * varies[..., :, None] * varies[..., None, :],
            (self.xy - self.x[..., :, None] * self.y[..., None, :] / self.count) * varies[..., None],
            (self.yy - self.y.square() / self.count).clamp(min=0),
        )

    def error(self, weight: Tensor) -> Tensor:
        """Squared error of weights, summed over the points.

        Args:
            weight: `(groups, columns, outputs)`.

        Returns:
            `(groups, outputs)`, at least 0.
        """
        wide = weight.to(self.xx)
        explained = (wide * (2 * self.xy - self.xx @ wide)).sum(1)
        return (self.yy - explained).clamp(min=0)


def measured(inputs: Tensor, outputs: Tensor) -> Moments:
    """Moments of some points.

    Args:
        inputs: `(points, groups, columns)`.
        outputs: `(points, groups, outputs)`.

    Returns:
        The moments.
    """
    X, Y = inputs.double().transpose(0, 1), outputs.double().transpose(0, 1)
    return Moments(len(inputs), X.sum(1), Y.sum(1), X.mT @ X, X.mT @ Y, Y.square().sum(1))
