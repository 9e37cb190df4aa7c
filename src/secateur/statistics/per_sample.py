"""Squares of gradients of single samples, summed: what diagonals of Gauss-Newton and Fisher matrices are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from secateur.batches import call
from secateur.statistics.batch import Batch, running_again, wide

AT_ONCE = 2**24  # numbers in the gradients that are held at a time


def squares(model: nn.Module, parameters: Mapping[str, Tensor], batch: Batch, columns: Tensor) -> dict[str, Tensor]:
    """Pull vectors at the outputs of each sample back to the parameters, square, and add up.

    `sum over samples n and columns c of (J_n' v_cn)^2`, J_n being the Jacobian of the outputs of sample n.

    The samples go through the model at once under `vmap`; one by one where its code does not allow that.

    Args:
        model: The model, in evaluation mode.
        parameters: For which.
        batch: The batch.
        columns: `(columns, samples, ...)`: vectors of the outputs' shape.

    Returns:
        For each parameter a tensor of its shape, in single precision at least.

    Example:
        >>> line = nn.Linear(1, 1, bias=False)
        >>> x = torch.tensor([[1.0], [3.0]])
        >>> squares(line, dict(line.named_parameters()), Batch(x, None, line(x), 2), torch.ones(1, 2, 1))
        {'weight': tensor([[10.]])}
    """
    held = {name: value.detach() for name, value in parameters.items()}
    sums = {name: torch.zeros_like(wide(value)) for name, value in held.items()}
    size = sum(value.numel() for value in held.values())
    many = max(1, min(len(columns), AT_ONCE // max(size, 1)))
    step = max(1, AT_ONCE // max(size * many, 1))
    with running_again():
        for some in columns.split(many):
            for start in range(0, batch.samples, step):
                part = _part(batch.inputs, batch.samples, slice(start, start + step))
                for name, value in _squares(model, held, part, some[:, start : start + step]).items():
                    sums[name] += value
    return sums


def _squares(model: nn.Module, held: dict[str, Tensor], inputs: Any, columns: Tensor) -> dict[str, Tensor]:
    """The sums for some samples and some columns."""
    samples = columns.shape[1]
    dims = _dims(inputs, samples)

    def of_one(sample: Any, vectors: Tensor) -> dict[str, Tensor]:
        def run(values: dict[str, Tensor]) -> Tensor:
            return call(_With(model, values), _rowed(sample, dims)).squeeze(0)

        outputs, back = vjp(run, held)
        (found,) = vmap(back)(vectors.to(outputs.dtype))
        return {name: wide(value).square().sum(0) for name, value in found.items()}

    try:
        each = vmap(of_one, in_dims=(dims, 1))(inputs, columns)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # code that looks at values, or an operation that does not know vmap
        return _one_by_one(model, held, inputs, columns)
    return {name: value.sum(0) for name, value in each.items()}


def _one_by_one(model: nn.Module, held: dict[str, Tensor], inputs: Any, columns: Tensor) -> dict[str, Tensor]:
    sums = {name: torch.zeros_like(wide(value)) for name, value in held.items()}
    values = {name: value.clone().requires_grad_() for name, value in held.items()}
    for place in range(columns.shape[1]):
        with torch.enable_grad():
            outputs = call(_With(model, values), _part(inputs, columns.shape[1], slice(place, place + 1)))
        for vector in columns[:, place : place + 1]:
            found = torch.autograd.grad(
                outputs, list(values.values()), vector.to(outputs.dtype), retain_graph=True, allow_unused=True
            )
            for name, gradient in zip(sums, found, strict=True):
                if gradient is not None:
                    sums[name] += wide(gradient).square()
    return sums


class _With:
    """A model called with other values of its parameters."""

    def __init__(self, model: nn.Module, values: dict[str, Tensor]) -> None:
        self.model, self.values = model, values

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        return functional_call(self.model, self.values, inputs, named)


def _part(inputs: Any, samples: int, rows: slice) -> Any:
    """Some samples of the inputs."""
    return _mapped(inputs, lambda value: value[rows] if _by_sample(value, samples) else value)


def _dims(inputs: Any, samples: int) -> Any:
    return _mapped(inputs, lambda value: 0 if _by_sample(value, samples) else None)


def _rowed(sample: Any, dims: Any) -> Any:
    """A sample as a batch of one."""
    if isinstance(sample, dict):
        return {name: _rowed(value, dims[name]) for name, value in sample.items()}
    if isinstance(sample, tuple):
        return tuple(_rowed(value, dim) for value, dim in zip(sample, dims, strict=True))
    return sample if dims is None else sample.unsqueeze(0)


def _mapped(inputs: Any, change: Any) -> Any:
    if isinstance(inputs, Mapping):
        return {name: _mapped(value, change) for name, value in inputs.items()}
    if isinstance(inputs, list | tuple):
        return tuple(_mapped(value, change) for value in inputs)
    return change(inputs)


def _by_sample(value: Any, samples: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == samples
