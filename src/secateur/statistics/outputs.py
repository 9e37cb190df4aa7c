"""The loss as a function of the outputs alone: its gradient and its curvature there, sample by sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from secateur.errors import DataError
from secateur.statistics.batch import Batch, wide

LARGEST = 2**27  # numbers in the curvature blocks of a batch


def slope(batch: Batch, kind: str) -> tuple[Tensor, Tensor]:
    """The gradient of the loss at the outputs, as a function that can be derived once more.

    Args:
        batch: The batch.
        kind: The statistic, for messages.

    Returns:
        The outputs, a leaf, and the gradient there, `(samples, ...)` both.

    Raises:
        DataError: The outputs are not one tensor with a row for each sample, or the loss does not depend on them.

    Example:
        The gradient of the mean of `o^2` over two samples is `o`:

        >>> batch = Batch(None, None, torch.tensor([[1.0], [3.0]]), 2, loss_of=lambda o, _: o.square().mean())
        >>> slope(batch, "it")[1].tolist()
        [[1.0], [3.0]]
    """
    outputs = batch.outputs
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point() or outputs.shape[:1] != (batch.samples,):
        found = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else f"type {type(outputs).__name__}"
        raise DataError(
            f"{kind!r} needs of the model one tensor with a row for each of {batch.samples} samples; it returned "
            f"something of {found}: wrap the model so that it returns the tensor that the loss reads"
        )
    leaf = wide(outputs).requires_grad_()
    with torch.enable_grad():
        loss = batch.loss_of(leaf, batch.targets) if batch.loss_of is not None else None
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise DataError(f"{kind!r} needs a loss, one number, as a tensor that depends on the outputs")
        (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
    return leaf, gradient


def bend(leaf: Tensor, gradient: Tensor, direction: Tensor) -> Tensor:
    """The curvature of the loss at the outputs times a direction.

    Args:
        leaf: The outputs, from `slope`.
        gradient: From `slope`.
        direction: Of the outputs' shape.

    Returns:
        `d2L/do2 direction`, of that shape; zeros for a loss that is linear in the outputs.

    Raises:
        DataError: The loss has no second derivative in torch.
    """
    if not gradient.requires_grad:
        return torch.zeros_like(leaf)
    try:
        (found,) = torch.autograd.grad(gradient, leaf, direction, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        raise DataError(f"curvature needs a loss that torch can derive twice by the outputs ({error})") from error
    return torch.zeros_like(leaf) if found is None else found


def blocks(batch: Batch, kind: str) -> Tensor:
    """The curvature of the loss at the outputs of each sample.

    For a mean over samples, `(o - t)^2` gives `2/N` on the diagonal, softmax cross-entropy `(diag(p) - p p') / N`.

    Args:
        batch: The batch.
        kind: The statistic, for messages.

    Returns:
        `(samples, K, K)` for K outputs a sample.

    Raises:
        DataError: There are too many outputs, or the loss mixes samples.

    Example:
        >>> batch = Batch(None, None, torch.tensor([[1.0, 2.0]]), 1, loss_of=lambda o, _: o.prod())
        >>> blocks(batch, "it").tolist()
        [[[0.0, 1.0], [1.0, 0.0]]]
    """
    leaf, gradient = slope(batch, kind)
    width = math.prod(leaf.shape[1:])
    if len(leaf) * width**2 > LARGEST:
        raise DataError(
            f"{kind!r} takes the curvature of {len(leaf)} x {width} outputs block by block, which is too large: use "
            "'curvature_hutchinson_ggn', or smaller batches"
        )
    rows = []
    for column in range(width):
        direction = torch.zeros(len(leaf), width, dtype=leaf.dtype, device=leaf.device)
        direction[:, column] = 1
        rows.append(bend(leaf, gradient, direction.view_as(leaf)).flatten(1))
    found = torch.stack(rows, 1) if rows else leaf.new_zeros(len(leaf), 0, 0)
    _check_apart(kind, leaf, gradient, found)
    return found


def _check_apart(kind: str, leaf: Tensor, gradient: Tensor, found: Tensor) -> None:
    """Blocks stand for the whole only where one sample's loss does not depend on another's outputs."""
    draw = torch.Generator().manual_seed(0)
    signs = torch.randint(2, leaf.shape, generator=draw).to(leaf) * 2 - 1
    whole = bend(leaf, gradient, signs).flatten(1)
    apart = torch.einsum("nij,nj->ni", found, signs.flatten(1))
    rounding = torch.finfo(leaf.dtype).eps ** 0.5
    if not bool(((whole - apart).abs() <= rounding * found.abs().sum(2).amax()).all()):
        raise DataError(
            f"{kind!r} needs a loss that is a mean or a sum over samples; this one mixes them: use "
            "'curvature_hutchinson' or 'curvature_hutchinson_ggn'"
        )


def roots(curvature: Tensor, kind: str) -> Tensor:
    """Columns s whose products `sum of s s'` are the curvature of each sample.

    Args:
        curvature: From `blocks`, `(samples, K, K)`.
        kind: The statistic, for messages.

    Returns:
        `(K, samples, K)`: the columns, one after another.

    Raises:
        DataError: The loss is not convex in the outputs.

    Example:
        >>> s = roots(torch.tensor([[[4.0, 0.0], [0.0, 9.0]]]), "it")
        >>> torch.einsum("cni,cnj->nij", s, s).round().tolist()
        [[[4.0, 0.0], [0.0, 9.0]]]
    """
    values, vectors = torch.linalg.eigh(curvature.double())
    if values.numel() and float(values.min()) < -1e-4 * float(values.abs().amax()):
        raise DataError(
            f"{kind!r} needs a loss that is convex in the outputs, as mean squared error and cross-entropy are; this "
            "one curves downwards: use 'curvature_hutchinson', the diagonal of the Hessian"
        )
    columns = vectors * values.clamp(min=0).sqrt()[:, None, :]
    return columns.permute(2, 0, 1).to(curvature.dtype)
