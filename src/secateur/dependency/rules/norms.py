"""Normalisations as torch's own operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from secateur.dependency.facets import Labelled, axis_core, reshaped
from secateur.dependency.step import Rule, Step, for_each

STATISTIC = "its mean and variance are taken along it"


def _batch_norm(step: Step) -> list[Labelled]:
    """Every channel by itself; with statistics of the batch nothing else may leave."""
    given: Labelled = step["input"]
    if step.get("training", step.get("use_input_stats", False)) or step.get("running_mean") is None:
        given = step.fix(given, [dim for dim in range(len(given.shape)) if dim != 1], STATISTIC)
    held = [step.get(name) for name in ("running_mean", "running_var")]
    channels = [on_axis(one, 1, len(given.shape)) for one in held if one is not None]
    return _scaled(step, given, 1, channels)


def _layer_norm(step: Step) -> list[Labelled]:
    given: Labelled = step["input"]
    dims = range(len(given.shape) - len(step["normalized_shape"]), len(given.shape))
    return _scaled(step, step.statistic(given, dims, STATISTIC), None, [])


def _group_norm(step: Step) -> list[Labelled]:
    """Whole groups leave."""
    given: Labelled = step["input"]
    groups = step["group"] if "group" in step.arguments else step["num_groups"]
    cut = reshaped(given, (given.shape[0], groups, given.shape[1] // groups, *given.shape[2:]))
    fixed = step.fix(cut, range(3, len(cut.shape)), STATISTIC)
    fixed = step.statistic(fixed, [2], STATISTIC)
    return _scaled(step, reshaped(fixed, given.shape), 1, [])


def _scaled(step: Step, given: Labelled, axis: int | None, held: Sequence[Labelled]) -> list[Labelled]:
    """`weight * normalised + bias`: zero where both are; without a weight, what was zero is not any more."""
    named = [step.get("weight"), step.get("bias")]
    moved = [one if axis is None or one is None else on_axis(one, axis, len(given.shape)) for one in named]
    scaled = moved[0] is not None

    def zero(flags: Sequence[bool | None]) -> bool:
        parameters = flags[1 : 1 + sum(one is not None for one in moved)]
        return scaled and all(parameters)

    found = step.together([given, *(one for one in moved if one is not None), *held], given.shape, zero)
    return [found, *(Labelled(shape or ()) for shape in step.shapes[1:])]


def on_axis(given: Labelled, axis: int, dims: int) -> Labelled:
    """A vector as a tensor of size 1 along all dimensions but one.

    Args:
        given: A vector.
        axis: The dimension it lies along.
        dims: How many dimensions there shall be.

    Returns:
        The same labels.
    """
    facets = tuple(replace(one, core=axis_core(one.core, axis, dims)) for one in given.facets)
    return Labelled((1,) * axis + given.shape + (1,) * (dims - axis - 1), facets)


def _weight_norm(step: Step) -> list[Labelled]:
    """`scale * direction / |direction|`: what is masked adds nothing to the norm."""
    found = step.together([step["v"], step["g"]], step["v"].shape, lambda flags: bool(flags[0]))
    return [found, *(step["g"] for _ in step.shapes[1:])]


RULES: dict[str, Rule] = {
    **for_each(
        "native_batch_norm batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
        "cudnn_batch_norm _native_batch_norm_legit_functional miopen_batch_norm _batch_norm_with_update",
        _batch_norm,
    ),
    **for_each("native_layer_norm layer_norm rms_norm _fused_rms_norm", _layer_norm),
    **for_each("native_group_norm group_norm", _group_norm),
    **for_each("_weight_norm_interface _weight_norm", _weight_norm),
}
