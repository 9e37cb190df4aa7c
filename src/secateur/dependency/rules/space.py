"""Operations over windows of space: batch and channels are carried, space stays."""

from __future__ import annotations

from dataclasses import replace

from secateur.dependency.facets import Labelled, reshaped
from secateur.dependency.step import Rule, Step

WINDOWS = "windows of it are taken together"


def _space(step: Step) -> list[Labelled]:
    """Pooling and resizing: of an input with a batch or without, all that comes before the space is carried."""
    given: Labelled = step["input"] if "input" in step.arguments else step["self"]
    first = len(given.shape) - _dimensions(step)
    fixed = step.fix(given, range(first, len(given.shape)), WINDOWS)
    zero = "pad" not in str(step.call.op) or "reflection" in str(step.call.op) or "replication" in str(step.call.op)
    facets = tuple(replace(one, zero=one.zero and zero) for one in fixed.facets)
    return [Labelled(shape or (), facets) for shape in step.shapes]


def _dimensions(step: Step) -> int:
    """How many dimensions space has, which is in the name."""
    name = str(step.call.op)
    return next(count for count in (1, 2, 3) if f"{count}d" in name)


def _columns(step: Step) -> Labelled:
    """`im2col`: a channel becomes the rows of its kernel positions."""
    given = step.fix(step["self"], [-1, -2], WINDOWS)
    *front, channels, _, _ = given.shape
    positions = step.shape[-2] // channels
    cut = Labelled((*front, channels, positions, step.shape[-1]), given.facets)
    return reshaped(cut, step.shape)


KINDS = (
    "max_pool{}d max_pool{}d_with_indices avg_pool{}d adaptive_avg_pool{}d _adaptive_avg_pool{}d adaptive_max_pool{}d "
    "reflection_pad{}d replication_pad{}d upsample_nearest{}d _upsample_nearest_exact{}d"
)
OTHERS = (
    "upsample_linear1d upsample_bilinear2d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa "
    "upsample_trilinear3d fractional_max_pool2d mkldnn_max_pool2d"
)
RULES: dict[str, Rule] = {
    **dict.fromkeys((name for count in (1, 2, 3) for name in KINDS.format(*[count] * 10).split()), _space),
    **dict.fromkeys(OTHERS.split(), _space),
    "im2col": _columns,
}
