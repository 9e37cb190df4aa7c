"""Statistics of batch norms, measured again."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from secateur.batches import call, device_of, pair, to_device
from secateur.errors import DataError, ModelError

Model = TypeVar("Model", bound=nn.Module)
BatchNorm = nn.modules.batchnorm._BatchNorm


def reestimate(model: Model, data: Iterable[Any], *, inplace: bool = False) -> Model:
    """Measure the running means and variances of all batch norms again, as plain means over the batches.

    When channels have left, what reaches a batch norm has other statistics than those it keeps. Measuring them takes a
    forward pass over some batches and no training, and often gives back much of the accuracy.

    `mean = 1/B sum_b mean_b`, `var = 1/B sum_b var_b`, over B batches, each variance unbiased. Everything else runs in
    eval mode, so dropout is off; weights are not touched.

    Args:
        model: The model.
        data: Batches of inputs and targets; some hundred samples are enough.
        inplace: Change the model itself rather than a copy.

    Returns:
        The model: a copy, or `model`. One without batch norms that keep statistics comes back as it is.

    Raises:
        DataError: There is no batch.
        ModelError: A batch gives a batch norm a single value for each channel, of which there is no variance.

    Shapes:
        Of a batch norm with C channels, mean and variance `(C,)`.

    Reference:
        Li, Wu, Su, Wang (2020), EagleEye: Fast Sub-net Evaluation for Efficient Neural Network Pruning.

    Example:
        >>> norm = nn.BatchNorm1d(1)
        >>> batches = [(torch.tensor([[1.0], [3.0]]), None), (torch.tensor([[4.0], [8.0]]), None)]
        >>> again = reestimate(norm, batches)
        >>> again.running_mean.item(), again.running_var.item()
        (4.0, 5.0)
    """
    changed = model if inplace else copy.deepcopy(model)
    norms = keeping(changed)
    if not norms:
        return changed
    before = [(module, module.training) for module in changed.modules()]
    kept = [(norm, norm.momentum, _copied(norm)) for norm in norms]
    try:
        changed.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over all batches
            norm.train()
        _pass(changed, data)
    except BaseException:
        for norm, _, values in kept:
            for name, value in values.items():
                getattr(norm, name).copy_(value)
        raise
    finally:
        for norm, momentum, _ in kept:
            norm.momentum = momentum
        for module, training in before:
            module.training = training
    return changed


def keeping(model: nn.Module) -> list[BatchNorm]:
    """The batch norms of a model that keep statistics.

    Args:
        model: Any module.

    Returns:
        The modules.

    Example:
        >>> model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(3, track_running_stats=False))
        >>> [norm.num_features for norm in keeping(model)]
        [2]
    """
    return [one for one in model.modules() if isinstance(one, BatchNorm) and one.running_mean is not None]


def _copied(norm: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in norm.named_buffers(recurse=False)}


def _pass(model: nn.Module, data: Iterable[Any]) -> None:
    device, seen = device_of(model), False
    with torch.no_grad():
        for batch in data:
            inputs, _ = pair(batch)
            try:
                call(model, to_device(inputs, device))
            except ValueError as error:
                if "more than 1 value per channel" in str(error):
                    raise ModelError(f"{error}: give larger batches") from error
                raise
            seen = True
    if not seen:
        raise DataError("statistics of batch norms need data: there was no batch")
