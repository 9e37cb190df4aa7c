"""A workload after a plan's channels are gone."""

from __future__ import annotations

from dataclasses import replace

from secateur.errors import PlanError
from secateur.plan import Plan, slices
from secateur.workload.layer import Shape, Workload
from secateur.workload.origins import Extent, Stays


def resize(workload: Workload, plan: Plan) -> Workload:
    """The shapes after a plan's channels are gone, without running or shrinking the model.

    `resize(workload(m, x), p) == workload(shrink(m, p), x)`. What a plan sets to zero weight by weight changes no
    shape. The result can be resized again by a plan that was made on the smaller model. One thing is not foreseen:
    where `torch.einsum` is left with a single channel to sum over, it runs a pointwise product instead of `bmm`.

    Args:
        workload: Of the model that the plan was made for.
        plan: Of a granularity that couples channels.

    Returns:
        The smaller workload.

    Raises:
        PlanError: The plan was made for other shapes, or takes channels that cannot leave by themselves.

    Example:
        >>> import torch
        >>> from secateur import Part, granularity
        >>> from secateur.workload import workload
        >>> example, model = torch.zeros(1, 3), torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
        >>> hidden = granularity.channel(example)(model)["0"]
        >>> plan = Plan((Part("0", hidden, torch.tensor([True, False, True, True])),))
        >>> [layer.weight for layer in resize(workload(model, example), plan).layers]
        [(3, 3), (2, 3)]
    """
    stays = {axis: kept.numpy() for axis, kept in slices.stays(plan.parts).items()}
    _check_axes(workload, plan, stays)
    smaller = _Smaller(stays)
    layers = tuple(
        replace(layer, input=smaller(layer.input), weight=smaller(layer.weight), output=smaller(layer.output))
        for layer in workload.layers
    )
    parameters = {name: smaller(shape) for name, shape in workload.parameters.items()}
    for axis, kept in stays.items():
        if axis.parameter in parameters and parameters[axis.parameter][axis.axis or 0] != kept.sum():
            raise PlanError(
                f"the plan keeps {kept.sum()} of {len(kept)} slices of {axis.parameter!r} along axis {axis.axis}, "
                f"where the workload has {parameters[axis.parameter][axis.axis or 0]}: make the workload and the plan "
                "with the same granularity.channel(example)"
            )
    return Workload(layers, parameters)


class _Smaller:
    """Resizes every size once."""

    def __init__(self, stays: Stays) -> None:
        self._stays = stays
        self._known: dict[int, Extent] = {}  # by id of a size, which lives as long as the workload

    def __call__(self, shape: Shape) -> Shape:
        return tuple(self._size(size) if isinstance(size, Extent) else size for size in shape)

    def _size(self, size: Extent) -> Extent:
        if id(size) not in self._known:
            self._known[id(size)] = size.without(self._stays)
        return self._known[id(size)]


def _check_axes(workload: Workload, plan: Plan, stays: Stays) -> None:
    for part in plan.parts:
        sliced = [axis.parameter for axis in part.units.index if axis in stays]
        if sliced and not workload.parameters.keys() & set(sliced):  # buffers may be among them
            raise PlanError(f"the plan speaks of {sliced[0]!r}, which the workload does not have: was it made for it?")
    for axis, kept in stays.items():
        shape = workload.parameters.get(axis.parameter)
        at = axis.axis or 0
        if shape is not None and (at >= len(shape) or shape[at] != len(kept)):
            raise PlanError(
                f"the plan was made for {len(kept)} slices of {axis.parameter!r} along axis {at}, the workload has it "
                f"as {tuple(shape)}: was it made for another model?"
            )
