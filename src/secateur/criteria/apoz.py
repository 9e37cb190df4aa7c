"""Average percentage of zeros: a neuron that hardly ever fires matters little."""

from __future__ import annotations

from torch import Tensor

from secateur.criteria.criterion import Criterion, Group, measured
from secateur.errors import ModelError
from secateur.units import fold


def apoz() -> Criterion:
    """One less the average percentage of zeros (APoZ): how often a unit's outputs are not zero behind the rectifier.

    `score(u) = 1 - APoZ(u)`, `APoZ(u) = #{samples, positions: rectified output of u is 0} / #{samples, positions}`

    Needs the statistic `"zeros"`, counted on data behind the rectifiers that read the unit's layers (relu, relu6,
    hardswish, a clamp or threshold at 0). Of several layers that make a unit, those count that a rectifier reads, each
    alike. Network Trimming prunes little at a time and trains in between: iterate, and count anew for every plan.

    Units are output channels: `granularity.filter()`, where the neurons of a linear layer are its filters, and
    `granularity.channel(example)`; smaller units of a layer get the score of the channel they make, averaged over those
    they lie in.

    Returns:
        Criterion: scores `(n_units,)`, without unit, from 0 (never fires) to 1; raises ModelError, with the group's
        name, for a group that makes no channels, or whose channels no rectifier reads.

    Reference:
        Hu, Peng, Tai, Tang (2016), Network Trimming: A Data-Driven Neuron Pruning Approach towards Efficient Deep
        Architectures.

    Example:
        Two samples of three channels of 4 x 4 with 5, 5, 6 and 6, 7, 8 zeros: 11, 12 and 14 of 32 are zero, so the
        third goes first.

        >>> import torch
        >>> from secateur import calibrate
        >>> from secateur.granularity import filter
        >>> images = torch.ones(2, 3, 16)
        >>> for sample, zeros in enumerate([(5, 5, 6), (6, 7, 8)]):
        ...     for channel, count in enumerate(zeros):
        ...         images[sample, channel, :count] = 0
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1, bias=False), torch.nn.ReLU())
        >>> _ = net[0].weight.data.copy_(torch.eye(3).reshape(3, 3, 1, 1))
        >>> statistics = calibrate(net, [(images.reshape(2, 3, 4, 4), None)], ["zeros"])
        >>> weight = {("0.weight", None): net[0].weight.detach()}
        >>> apoz().score(Group("0", filter()(net)["0"], weight, statistics))
        tensor([0.6562, 0.6250, 0.5625])
    """
    return Criterion("apoz", _score, frozenset(["zeros"]))


def _score(group: Group) -> Tensor:
    units = group.units
    makers = [axis for axis, role in units.role.items() if role == "out" and axis in group.parameters]
    if not makers:
        raise ModelError(
            f"apoz looks at output channels, and group {group.name!r} makes none: use granularity.filter() or "
            f"granularity.channel(example), or exclude=({group.name!r}, ...)"
        )
    counted = group.statistics.values.get("zeros")
    read = [axis for axis in makers if counted is None or axis.parameter in counted]
    if not read:
        raise ModelError(
            f"apoz counts zeros behind rectifiers, and none reads the output channels of group {group.name!r} "
            f"({', '.join(axis.parameter for axis in makers[:3])}): exclude=({group.name!r}, ...), or use another "
            "criterion"
        )
    shares = [units.index[axis].reduce(measured(group, "zeros", axis), "mean") for axis in read]
    return 1 - fold(shares, "mean")
