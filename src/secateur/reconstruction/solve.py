"""Least squares from moments: new weights of a layer for the inputs that it has left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from secateur.batches import drop_caches
from secateur.masking import tensor_of
from secateur.reconstruction.moments import Moments
from secateur.reconstruction.observe import Reading
from secateur.reconstruction.sites import from_matrix

# A pivot of the matrix of correlations below this: the inputs depend linearly on each other, but for rounding.
SINGULAR = 1e-10
DAMPED = 1e-6
ENOUGH = 2  # points for each weight of an output, at least


def fitted(moments: Moments, weight: Tensor, keep: Tensor, *, damping: float = 0.0) -> tuple[Tensor, bool]:
    """The weights of the smallest squared error, among those that are zero where nothing is kept.

    Solved is `(X'X + damping diag(X'X)) D = X'(Y - X W)` for the change D of each output over the columns it keeps. So
    damping pulls towards the weights there are, a direction that the data never take stays as it is, and the error on
    the data never grows. Where the inputs kept depend linearly on each other, a damping of 1e-6 is added.

    Args:
        moments: Of inputs and wanted outputs.
        weight: The weights there are, zero where nothing is kept, `(groups, columns, outputs)`.
        keep: bool, of the same shape.
        damping: At least 0, relative to the mean square of each input.

    Returns:
        The new weights, and whether some system was singular.

    Example:
        Two equal inputs of which one goes; the other takes over its weight:

        >>> from secateur.reconstruction.moments import measured
        >>> X = torch.tensor([[[1.0, 1.0]], [[-2.0, -2.0]]])
        >>> keep = torch.tensor([[[True], [False]]])
        >>> new, singular = fitted(measured(X, X @ torch.tensor([[3.0], [4.0]])), torch.tensor([[[3.0], [0.0]]]), keep)
        >>> new.round(decimals=6).tolist(), singular
        ([[[7.0], [0.0]]], False)
    """
    new = weight.to(moments.xx).clone()
    missing = moments.xy - moments.xx @ new
    singular = False
    for group in range(len(new)):
        for columns, outputs in _alike(keep[group]):
            gram = moments.xx[group][columns][:, columns]
            at = columns[:, None], outputs[None]
            change, bad = solved(gram, missing[group][at], damping)
            new[group][at] += change
            singular |= bad
    return new, singular


def solved(gram: Tensor, right: Tensor, damping: float = 0.0) -> tuple[Tensor, bool]:
    """Solve a symmetric system; zero where the matrix has a zero on its diagonal.

    Args:
        gram: `(n, n)`, positive semidefinite.
        right: `(n, m)`.
        damping: Added to the diagonal of the matrix scaled to ones there.

    Returns:
        `(n, m)`, and whether the matrix was singular.

    Example:
        >>> solved(torch.diag(torch.tensor([2.0, 0.0])).double(), torch.ones(2, 1).double())
        (tensor([[0.5000],
                [0.0000]], dtype=torch.float64), False)
    """
    size = gram.diagonal()
    seen = size > SINGULAR**2 * size.max() if len(size) else size > 0
    found = torch.zeros_like(right)
    if not bool(seen.any()):
        return found, False
    root = size[seen].sqrt()
    scaled = gram[seen][:, seen] / (root[:, None] * root)
    scaled.diagonal().add_(damping)
    factor, info = torch.linalg.cholesky_ex(scaled)
    singular = bool(info) or float(factor.diagonal().min()) ** 2 < SINGULAR
    if singular:
        scaled.diagonal().add_(DAMPED)
        factor = torch.linalg.cholesky(scaled)
    found[seen] = torch.cholesky_solve(right[seen] / root[:, None], factor) / root[:, None]
    return found, singular


def _alike(keep: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Outputs that keep the same columns, which share a system."""
    sets, owner = torch.unique(keep, dim=1, return_inverse=True)
    for number in range(sets.shape[1]):
        columns = sets[:, number].nonzero()[:, 0]
        if len(columns):
            yield columns, (owner == number).nonzero()[:, 0]


def put(model: nn.Module, pruned: nn.Module, reading: Reading, weight: Tensor) -> set[str]:
    """Write new weights into the pruned model, and the constant beside them into a bias or a norm's mean.

    Outputs that have left, or that the norm multiplies by 0, stay as they are.

    Args:
        model: The whole model.
        pruned: Changed in place.
        reading: Of the layer, whose scale the weights have.
        weight: `(groups, columns, outputs)`.

    Returns:
        Names of the parameters and buffers changed.
    """
    site, scale, moments = reading.site, reading.scale, reading.moments
    live = scale != 0
    divisor = torch.where(live, scale, 1.0)
    held = tensor_of(pruned, site.layer.parameter)
    fresh = from_matrix(site.layer, weight / divisor[:, None])
    stay = live[:, None].expand_as(weight)
    changed = {site.layer.parameter}
    with torch.no_grad():
        held.copy_(torch.where(from_matrix(site.layer, stay), fresh, held.double()))
        if reading.intercept:
            constant = (moments.y - (moments.x[:, None] @ weight)[:, 0]) / moments.count / divisor
            changed.add(_shift(model, pruned, reading, constant.flatten(), live.flatten()))
    drop_caches(pruned)
    return changed


def _shift(model: nn.Module, pruned: nn.Module, reading: Reading, constant: Tensor, live: Tensor) -> str:
    """Add a constant to each output: as its bias, or taken off the mean that the norm behind subtracts."""
    site = reading.site
    bias = f"{site.name}.bias" if site.name else "bias"
    owner: Any = pruned.get_submodule(site.name)
    if owner.bias is not None:
        owner.bias.copy_(torch.where(live, constant, owner.bias.double()))
        return bias
    mean = f"{site.norm}.running_mean"
    before, held = tensor_of(model, mean).double(), tensor_of(pruned, mean)
    held.copy_(torch.where(live, before - constant, held.double()))
    return mean


def remarks(singular: Sequence[str], few: Sequence[str], method: str) -> str:
    """What to say of layers for which the data were not enough.

    Args:
        singular: Names of the layers whose system was singular.
        few: Names of those with fewer than `ENOUGH` points for each weight of an output.
        method: Who says it.

    Returns:
        A sentence; empty if there is nothing to say.

    Example:
        >>> remarks([], ["conv2"], "lasso")
        'lasso: fewer than 2 points for each weight of an output of conv2. Give more data, more points, or damping='
    """
    found = []
    if few:
        found.append(f"fewer than {ENOUGH} points for each weight of an output of {', '.join(few)}")
    if singular:
        found.append(f"inputs of {', '.join(singular)} depend linearly on each other, so damped by {DAMPED:g}")
    return f"{method}: {'; '.join(found)}. Give more data, more points, or damping=" if found else ""


def is_few(reading: Reading, keep: Tensor) -> bool:
    """Whether a fit goes by too few points to be trusted on other data.

    Args:
        reading: Of the layer.
        keep: What it keeps, `(groups, columns, outputs)`.

    Returns:
        True if so.
    """
    return bool(reading.moments.count < ENOUGH * int(keep.sum(1).max()))
