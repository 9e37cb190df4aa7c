"""The proof that a smaller model computes what the masked one does, and what happens where it does not."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from secateur.batches import call, device_of, drop_caches, mode, to_device
from secateur.dependency import masked_replay, record, tensors_in
from secateur.errors import ModelError, PlanError
from secateur.masking import mask
from secateur.plan import Part, Plan
from secateur.surgery.labels import closest
from secateur.surgery.tensors import tensors

Carve = Callable[[nn.Module, Plan], nn.Module]

# Largest difference of an output over its largest value, in single precision. Rounding of sums in another order makes
# 4e-7 of it in the worst of 110 networks that people use; a channel that is wrong makes more by far.
TOLERANCE = 1e-5
COARSE = (torch.bfloat16, torch.float16)


def provable(model: nn.Module, plan: Plan, example: Any, carve: Carve, *, graph: bool = False) -> Plan:
    """A plan without the groups for which the smaller model differs from the masked one.

    Args:
        model: The model.
        plan: What leaves.
        example: Inputs that the model takes.
        carve: From a model and a plan to the smaller model.
        graph: Whether that is a graph of what was recorded.

    Returns:
        The plan, groups that fail put back.

    Raises:
        PlanError: The groups fail only together, so that none can be named.
        ModelError: The graph of the whole model differs from the model already.
    """
    worst = difference(model, plan, example, carve)
    if worst <= TOLERANCE:
        return plan
    if graph and difference(model, _nothing_of(plan), example, carve) > TOLERANCE:
        raise ModelError(
            f"{type(model).__name__} runs other operations on other inputs, or draws random numbers: a graph would "
            "hold for the example alone. Leave out graph=True"
        )
    failed = {
        part.name
        for part in plan.parts
        if not bool(part.keep.all()) and difference(model, _only(plan, part), example, carve) > TOLERANCE
    }
    left = replace(plan, parts=tuple(_back(part) if part.name in failed else part for part in plan.parts))
    if not failed or difference(model, left, example, carve) > TOLERANCE:
        raise PlanError(
            f"the smaller model differs from the masked one by {worst:.2g} of the largest output, and no group can be "
            "named: exclude groups, or pass prove=False and look into it"
        )
    warnings.warn(
        f"put back, since the smaller model would differ from the masked one: {', '.join(sorted(failed))}", stacklevel=3
    )
    return left


def _only(plan: Plan, part: Part) -> Plan:
    return replace(plan, parts=tuple(one if one is part else _back(one) for one in plan.parts), updates={})


def _nothing_of(plan: Plan) -> Plan:
    return replace(plan, parts=tuple(map(_back, plan.parts)), updates={})


def _back(part: Part) -> Part:
    kept = torch.ones_like(part.keep)
    return part if bool(part.keep.all()) else replace(part, keep=kept, reason="put back: the code cannot follow it")


def difference(model: nn.Module, plan: Plan, example: Any, carve: Carve) -> float:
    """How far the smaller model is from the masked one, on perturbed weights and fresh inputs.

    Args:
        model: The model.
        plan: What leaves.
        example: Inputs that the model takes.
        carve: From a model and a plan to the smaller model.

    Returns:
        The largest difference over the largest output; infinity if the smaller model fails or returns other shapes.
    """
    perturbed, inputs = _single(perturb(model), fresh(to_device(example, device_of(model))))
    wanted = _masked(perturbed, plan, inputs)
    try:
        small = carve(perturbed, plan)
    except Exception:  # whatever it is: the code of the model cannot follow
        return float("inf")
    return _far(wanted, small, inputs)


def apart(model: nn.Module, small: nn.Module, inputs: Any) -> float:
    """How far one model is from another, with the weights that they have.

    Args:
        model: The model.
        small: Another that shall compute the same.
        inputs: That both take.

    Returns:
        As `difference`.
    """
    return _far(_outputs(model, inputs), small, inputs)


def _far(wanted: list[Tensor], small: nn.Module, inputs: Any) -> float:
    try:
        found = _outputs(small, inputs)
    except Exception:  # as in `difference`
        return float("inf")
    if [one.shape for one in found] != [one.shape for one in wanted]:
        return float("inf")
    return max((_apart(one, other) for one, other in zip(wanted, found, strict=True)), default=0.0)


def _single(model: nn.Module, inputs: Any) -> tuple[nn.Module, Any]:
    """In single precision, if it runs so: what 8 bits of a number leave of a sum would hide what is wrong with it."""
    if not any(value.dtype in COARSE for value in model.parameters()):
        return model, inputs
    wider = copy.deepcopy(model).float()
    widened = tree_map_only(Tensor, lambda one: one.float() if one.dtype in COARSE else one, inputs)
    try:
        _outputs(wider, widened)
    except Exception:  # whatever it is: the code asks for the numbers it was written for
        return model, inputs
    return wider, widened


def _apart(one: Tensor, other: Tensor) -> float:
    if not one.numel():
        return 0.0
    if not one.is_floating_point():
        return float((one != other).any())
    scale = float(one.abs().max()) or 1.0
    apart = float((one.double() - other.double()).abs().max()) / scale
    return apart if apart == apart else float("inf")  # noqa: PLR0124  not a number


def _outputs(model: nn.Module, inputs: Any) -> list[Tensor]:
    with torch.no_grad(), mode(model, training=False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return list(tensors_in(call(model, copy.deepcopy(inputs))))


def _masked(model: nn.Module, plan: Plan, inputs: Any) -> list[Tensor]:
    """Plain masking; where statistics are crossed, masking with statistics over what is left."""
    crossing = any(part.units.crosses and not bool(part.keep.all()) for part in plan.parts)
    if not crossing:
        return _outputs(mask(model, plan), inputs)
    cut = closest(model, plan, record(model, inputs, compute=True))
    state = {name: value.detach() for name, value in tensors(model).items()}
    return list(masked_replay(cut, state, tuple(tensors_in(inputs))))


def perturb(model: nn.Module) -> nn.Module:
    """A copy in which no weight is zero or one by initialisation.

    Args:
        model: The model.

    Returns:
        The copy: noise of a tenth of their size, or 0.1, on floating-point parameters; variances stay positive.
    """
    moved = copy.deepcopy(model)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for value in _floating(moved.parameters()):
            scale = value.float().square().mean().sqrt().clamp(min=0.1) if value.numel() else 1.0
            value.add_(torch.randn_like(value) * (0.1 * scale))
        for name, buffer in moved.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(torch.randn_like(buffer) * 0.1)
            elif name.endswith("running_var"):
                buffer.mul_(torch.rand_like(buffer) + 0.5)
    drop_caches(moved)
    return moved


def _floating(values: Iterator[Tensor]) -> Iterator[Tensor]:
    return (value for value in values if value.is_floating_point())


def fresh(example: Any) -> Any:
    """Inputs like an example with other values; integers stay, since they may be numbers of words.

    Args:
        example: Inputs.

    Returns:
        Inputs of the same shapes.
    """

    def drawn(one: Tensor) -> Tensor:
        if not one.is_floating_point() or not one.numel():
            return one
        return torch.randn(one.shape, dtype=one.dtype, device=one.device)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return tree_map_only(Tensor, drawn, example)
