"""Norms by root mean squares over fewer channels, made to compute what they computed over all with some masked."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from secateur.errors import PlanError
from secateur.index_maps import Embedded
from secateur.plan import Plan
from secateur.surgery.tensors import tensors
from secateur.units import Eps


def rescale(model: nn.Module, small: nn.Module, plan: Plan) -> None:
    """Let weight and eps of norms make up for the channels that have left.

    Of `n` channels `m` stay, and masked ones add nothing to the sum of squares: the weight grows by `sqrt(n / m)`, eps
    by `n / m`.

    Args:
        model: The whole model.
        small: The model without what the plan takes out; its weights and attributes are changed.
        plan: The plan.

    Raises:
        PlanError: The model does not have the attribute.
    """
    after = tensors(small)
    for name, (eps, steps) in _steps(model, small, plan).items():
        for more, less in pairwise(steps):
            with torch.no_grad():
                after[name].add_(eps.offset).mul_(math.sqrt(more / less)).sub_(eps.offset)
            _grow(small, eps, more / less)


def unscaled(model: nn.Module, small: nn.Module, plan: Plan) -> dict[str, Tensor]:
    """Weights of norms as they would be in the whole model.

    Args:
        model: The whole model.
        small: The model without what the plan takes out.
        plan: The plan.

    Returns:
        The weights that `rescale` has made larger, as large as they were, by name.
    """
    found = {}
    for name, (eps, steps) in _steps(model, small, plan).items():
        value = tensors(small)[name].detach()
        for more, less in reversed(list(pairwise(steps))):
            value = (value + eps.offset) / math.sqrt(more / less) - eps.offset
        found[name] = value
    return found


def _steps(model: nn.Module, small: nn.Module, plan: Plan) -> dict[str, tuple[Eps, list[int]]]:
    """Weights that lose something, with the sizes that they had one after the other."""
    before, after = tensors(model), tensors(small)
    return {
        name: (eps, [*sorted({*sizes, len(before[name])}, reverse=True), len(after[name])])
        for name, (eps, sizes) in _norms(plan).items()
    }


def _norms(plan: Plan) -> dict[str, tuple[Eps, set[int]]]:
    """Weights that lose something, with the sizes they had when each part of the plan was made."""
    found: dict[str, tuple[Eps, set[int]]] = {}
    for part in plan.parts:
        for name, eps in part.units.rescaled.items():
            if not bool(part.keep.all()):
                sizes = found.setdefault(name, (eps, set()))[1]
                for axis, index in part.units.index.items():
                    if axis.parameter == name:
                        sizes.add((index.inner if isinstance(index, Embedded) else index).shape[0])
    return found


def _grow(model: nn.Module, eps: Eps, ratio: float) -> None:
    key = str(eps.attribute.path[0])
    try:
        module = model.get_submodule(eps.attribute.module)
        held = getattr(module, key)
    except AttributeError as error:
        raise PlanError(f"the plan rescales {eps.attribute}, which {type(model).__name__} does not have") from error
    if held is not None and not isinstance(held, float):
        raise PlanError(f"{eps.attribute} is {held!r}; the plan takes it for the eps of a norm")
    object.__setattr__(module, key, (eps.value if held is None else held) * ratio)
