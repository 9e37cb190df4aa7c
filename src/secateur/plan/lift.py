"""Setting a plan made on a smaller model back into the shapes of the larger one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from secateur.errors import PlanError
from secateur.index_maps import Embedded, IndexMap, Sizes
from secateur.plan.slices import Stays
from secateur.units import ParameterAxis, Units

CHANNEL_AXES = 2  # of a weight, in front; what follows is the kernel


@dataclass(frozen=True, eq=False)
class Left:
    """What a plan leaves of a parameter: its full shape, and along each axis the positions where something is left."""

    shape: Sizes
    positions: tuple[Tensor, ...]

    @property
    def sizes(self) -> Sizes:
        """Shape of what is left."""
        return tuple(len(at) for at in self.positions)


def slices_left(shapes: Mapping[str, Sizes], masks: Mapping[str, Tensor]) -> dict[str, Left]:
    """For every parameter what is left when channels without a single weight are cut away.

    Channels are the first two axes; the kernel of a convolution keeps its size.

    Args:
        shapes: Shapes of the parameters.
        masks: Masks of those that lose something.

    Returns:
        What is left of each.

    Example:
        >>> left = slices_left({"w": (2, 3)}, {"w": torch.tensor([[True, False, True], [True, False, False]])})
        >>> left["w"].sizes
        (2, 2)
    """
    return {**_whole(shapes), **{name: _cut(mask) for name, mask in masks.items()}}


def without(shapes: Mapping[str, Sizes], stays: Stays) -> dict[str, Left]:
    """For every parameter and buffer what is left when slices are taken out.

    Args:
        shapes: Their shapes.
        stays: Which positions stay along the axes that lose slices.

    Returns:
        What is left of each.

    Example:
        >>> without({"w": (2, 3)}, {ParameterAxis("w", 1): torch.tensor([True, False, True])})["w"].positions
        (tensor([0, 1]), tensor([0, 2]))
    """
    left = _whole(shapes)
    for (name, taken), stay in stays.items():
        at = (stay.nonzero()[:, 0] if dim == taken else one for dim, one in enumerate(left[name].positions))
        left[name] = Left(left[name].shape, tuple(at))
    return left


def _whole(shapes: Mapping[str, Sizes]) -> dict[str, Left]:
    return {name: Left(shape, tuple(torch.arange(size) for size in shape)) for name, shape in shapes.items()}


def _cut(mask: Tensor) -> Left:
    positions = tuple(
        _alive(mask, dim) if dim < CHANNEL_AXES else torch.arange(mask.shape[dim]) for dim in range(mask.ndim)
    )
    return Left(tuple(mask.shape), positions)


def _alive(mask: Tensor, dim: int) -> Tensor:
    others = [other for other in range(mask.ndim) if other != dim]
    alive = mask.any(dim=others) if others else mask
    return alive.nonzero()[:, 0].cpu()


def units(smaller: Units, left: Mapping[str, Left]) -> Units:
    """Units of the smaller model as units of the larger one.

    Args:
        smaller: The units.
        left: What was left of each parameter.

    Returns:
        The same units over the original shapes.
    """

    def lifted(inside: Mapping[ParameterAxis, IndexMap]) -> dict[ParameterAxis, IndexMap]:
        return {axis: _index(axis.parameter, inner, left.get(axis.parameter)) for axis, inner in inside.items()}

    return replace(smaller, index=lifted(smaller.index), beside=lifted(smaller.beside))


def value(name: str, smaller: Tensor, left: Mapping[str, Left], before: Mapping[str, Tensor]) -> Tensor:
    """A new value of a smaller parameter as one of the original shape; what was cut away is 0 there.

    Args:
        name: Name of the parameter.
        smaller: Its new value.
        left: What was left of each parameter.
        before: New values that the first plan gave in the original shapes.

    Returns:
        The value.
    """
    if name not in left:
        return smaller
    _check(name, tuple(smaller.shape), left[name])
    full = before[name].clone() if name in before else smaller.new_zeros(left[name].shape)
    full[torch.meshgrid(*left[name].positions, indexing="ij")] = smaller
    return full


def _index(name: str, inner: IndexMap, left: Left | None) -> IndexMap:
    if left is None:
        return inner
    _check(name, inner.shape, left)
    if isinstance(inner, Embedded):  # set in once, however many plans there are
        kept = tuple(outer[within] for outer, within in zip(left.positions, inner.kept, strict=True))
        return Embedded(inner.inner, left.shape, kept)
    return inner if left.sizes == left.shape else Embedded(inner, left.shape, left.positions)


def _check(name: str, shape: Sizes, left: Left) -> None:
    if shape != left.sizes:
        raise PlanError(
            f"{name!r} has shape {shape} in the second plan; the first one leaves {left.sizes} of {left.shape}. "
            "Make the second plan on the model without what the first removes, or unite plans of equal shapes by '&'"
        )
