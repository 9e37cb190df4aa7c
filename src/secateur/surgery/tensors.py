"""Tensors of a model by name, and slices taken out of one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

Slices = dict[str, dict[int, Tensor]]
"""By name of a parameter or buffer and dimension: the positions that stay."""


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers under all their names.

    Args:
        model: Any module.

    Returns:
        The tensors themselves.

    Example:
        >>> list(tensors(nn.BatchNorm1d(2)))
        ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
    """
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    return dict(named)


def taken(tensor: Tensor, dims: Mapping[int, Tensor]) -> Tensor:
    """A tensor with only some positions.

    Args:
        tensor: Any.
        dims: The positions that stay, by dimension.

    Returns:
        A tensor on the same device, without gradient; new where something leaves.
    """
    small = tensor.detach()
    for dim, positions in dims.items():
        small = small.index_select(dim, positions.to(tensor.device))
    return small


def sliced(tensor: Tensor, dims: Mapping[int, Tensor]) -> Tensor:
    """A tensor with only some positions, of the same kind: parameters stay parameters.

    Args:
        tensor: Parameter or buffer.
        dims: The positions that stay, by dimension.

    Returns:
        A new tensor on the same device, without gradient.
    """
    small = taken(tensor, dims)
    return nn.Parameter(small, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else small
