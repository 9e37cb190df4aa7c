"""Convolutions, plain, grouped, depthwise and transposed."""

from __future__ import annotations

from dataclasses import replace

from secateur.dependency.facets import Labelled, along, axis_core, permuted, reshaped
from secateur.dependency.rules.contraction import SUMMED, only
from secateur.dependency.rules.statistic import needs_zero
from secateur.dependency.step import Rule, Step, for_each
from secateur.dependency.zeros import every, some

SPACE = "the kernel moves along it"


def convolution(step: Step) -> Labelled:
    """`result[n, o] = bias[o] + sum over i of given[n, i] * weight[o, i]`, in each of the groups.

    Whole groups leave if there are at least as many groups as channels in one; else the same channel of every group.

    Args:
        step: The operation.

    Returns:
        Labels of the channels that come out, and of the batch.
    """
    given, weight, groups = step["input"], step["weight"], int(step.get("groups", 1))
    unbatched = len(given.shape) == len(weight.shape) - 1
    if unbatched:
        given = reshaped(given, (1, *given.shape))
    space = range(2, len(given.shape))
    given, weight = step.fix(given, space, SPACE), step.fix(weight, space, "it is a kernel")
    given, weight = step.keep(given, [1]), step.keep(only(weight, [0, 1]), [0])
    if step.get("transposed", False):  # in x out of a group, the input channels of all groups one after another
        weight = _swapped(weight, groups)
    result = _channels(step, only(given, [1]), weight, groups)
    batch = tuple(facet for facet in given.facets if along(facet.core) == {0})
    shape = step.shape if not unbatched else (1, *step.shape)
    facets = [replace(one, core=axis_core(one.core, 1, len(shape))) for one in result.facets]
    found = Labelled(shape, (*batch, *facets))
    bias = step["bias"]
    if bias is not None:
        cores = tuple(replace(one, core=axis_core(one.core, 1, len(shape))) for one in bias.facets)
        found = step.together([found, Labelled((1, len_of(bias), *(1,) * len(space)), cores)], shape, every)
    return reshaped(found, step.shape)


def len_of(given: Labelled) -> int:
    """The first size of a tensor.

    Args:
        given: A tensor.

    Returns:
        The size.
    """
    return given.shape[0]


def _swapped(weight: Labelled, groups: int) -> Labelled:
    """A transposed kernel (in, out of a group) as an ordinary one (out, in of a group)."""
    ins, outs = weight.shape
    cut = permuted(reshaped(weight, (groups, ins // groups, outs)), (0, 2, 1))
    return reshaped(cut, (groups * outs, ins // groups))


def _channels(step: Step, given: Labelled, weight: Labelled, groups: int) -> Labelled:
    """Unite what is summed over; the labels of the channels that come out."""
    outs, inner = weight.shape
    if groups == 1:
        weight = step.keep(weight, [1])
        summed = step.together([given, only(weight, [1])], given.shape, some, SUMMED)
        needs_zero(step, summed, [0])
        return only(step.partition.normal(weight), [0])
    ins, kernel = reshaped(given, (groups, inner)), reshaped(weight, (groups, outs // groups, inner))
    if groups >= inner:
        return _whole_groups(step, ins, kernel)
    return _same_of_every_group(step, ins, kernel)


def _whole_groups(step: Step, ins: Labelled, kernel: Labelled) -> Labelled:
    text = "a group is convolved as a whole"
    ins, kernel = step.keep(ins, [0]), step.keep(kernel, [0])
    ins, kernel = (step.fix(one, range(1, len(one.shape)), text) for one in (ins, kernel))
    found = step.together([only(ins, [0]), only(kernel, [0])], (ins.shape[0],), some, SUMMED)
    shape = kernel.shape[:2]
    return reshaped(
        Labelled(shape, tuple(replace(one, core=one.core[:, None]) for one in found.facets)), (shape[0] * shape[1],)
    )


def _same_of_every_group(step: Step, ins: Labelled, kernel: Labelled) -> Labelled:
    text = "every group loses the same channels"
    ins, kernel = step.fix(ins, [0], text, choice=True), step.fix(kernel, [0], text, choice=True)
    kernel = step.keep(kernel, [1])
    summed = step.together([only(ins, [1]), only(kernel, [2])], (ins.shape[1],), some, SUMMED)
    needs_zero(step, summed, [0])
    out = only(kernel, [1])
    cores = tuple(replace(one, core=one.core[None, :]) for one in out.facets)
    return reshaped(Labelled(kernel.shape[:2], cores), (kernel.shape[0] * kernel.shape[1],))


NAMES = (
    "convolution _convolution conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d "
    "mkldnn_convolution cudnn_convolution"
)
RULES: dict[str, Rule] = for_each(NAMES, convolution)
