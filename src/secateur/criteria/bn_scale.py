"""Scales of norms: a channel that its norm scales by little matters little."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from secateur.criteria.criterion import Criterion, Group, elementwise
from secateur.errors import ModelError


def bn_scale() -> Criterion:
    """The magnitude of the scale by which a norm multiplies a unit, gamma of a batch norm.

    `score(u) = mean over norms of u ( mean over channels of u ( |gamma| ) )`

    Train with `training.l1` on the scales, or anything that pulls them to zero, for them to tell channels apart. Scales
    of layer norms and group norms count alike, where channels may leave across them. Norms that stand in other places,
    with inputs of other sizes, have scales that can be compared only as far as their layers are alike.

    Units need their norms beside them: `granularity.channel(example)`. Of a model in which some groups have no norm
    with a scale, exclude those; the example finds them.

    Returns:
        Criterion: scores `(n_units,)`, without unit, 0 or more; raises ModelError, with the group's name, for a group
        without a norm that scales it.

    Reference:
        Liu, Li, Shen, Huang, Yan, Zhang (2017), Learning Efficient Convolutional Networks through Network Slimming,
        section 3.

    Example:
        >>> from secateur import Budget, Pruner, allocation, granularity
        >>> from torch import nn
        >>> net = nn.Sequential(
        ...     nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 1, 1)
        ... )
        >>> _ = net[1].weight.data.copy_(torch.tensor([0.5, -0.1, 0.3]))
        >>> channels = granularity.channel(torch.zeros(1, 1, 4, 4))
        >>> groups = channels(net)
        >>> bare = tuple(name for name, units in groups.items() if "norm_scale" not in units.role.values())
        >>> bare
        ('3', '5')
        >>> pruner = Pruner(bn_scale(), channels, allocation.global_(), exclude=bare)
        >>> pruner.plan(net, Budget(per_group={"0": 1 / 3}))["0"].keep.tolist()
        [True, False, True]
    """
    scale = elementwise(torch.abs, name="bn_scale", within="mean", across="mean", roles=("norm_scale",))
    return Criterion("bn_scale", partial(_score, scale))


def _score(scale: Criterion, group: Group) -> Tensor:
    if "norm_scale" not in group.units.role.values():
        raise ModelError(
            f"bn_scale looks at the scales of norms, and none scales the units of group {group.name!r}. Exclude groups "
            f"without norms, exclude=({group.name!r}, ...), take granularity.channel(example), whose units have their "
            "norms beside them, or another criterion"
        )
    return scale.score(group)
