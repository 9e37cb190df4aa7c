"""Plans that take whole channels: the smaller network is what is measured, trained, and left in the folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from torch import nn

from secateur import ranks
from secateur.batches import pair, samples_in
from secateur.errors import RunError
from secateur.masking import mask
from secateur.plan import Plan
from secateur.reconstruction import reestimate
from secateur.reconstruction.batchnorm import keeping
from secateur.reporting import report
from secateur.surgery import save
from secateur.surgery.proof import provable
from secateur.surgery.shrink import cut, put_into
from secateur.tasks import Task, loader
from secateur.workflow.run_folder import RunFolder

BATCHES = 100
"""So many batches of training data tell the statistics of batch norms."""


def takes_slices(plan: Plan) -> bool:
    """Whether a plan takes whole slices out of tensors, so that there is a smaller network.

    Args:
        plan: The plan.

    Returns:
        True for coupled channels and heads; False where weights leave one by one.
    """
    return not any(axis.axis is None for part in plan.parts for axis in part.units.index)


def crosses(plan: Plan) -> bool:
    """Whether the smaller network takes means or variances over fewer channels than the masked one.

    Args:
        plan: The plan.

    Returns:
        True if so.
    """
    return any(bool(part.units.crosses) and not bool(part.keep.all()) for part in plan.parts)


def check_crossing(plan: Plan, *, trained_along: bool) -> None:
    """Refuse to train a masked network whose means and variances would be other ones than the smaller network's.

    Args:
        plan: What is removed.
        trained_along: Whether the network is trained while it is masked along a schedule.

    Raises:
        RunError: That would be so.
    """
    if trained_along and crosses(plan):
        raise RunError(
            "--cross-norms: along a schedule the network is trained masked, and its norms would count the channels "
            "that are gone. Use one_shot, or iterative with --rewind rate, which train the smaller network"
        )


def proven(model: nn.Module, plan: Plan, task: Task) -> Plan:
    """A plan without groups for which the smaller network would differ from the masked one.

    Args:
        model: The whole network.
        plan: The plan.
        task: Its example is what it is proved on.

    Returns:
        The plan; as it is if weights leave one by one.
    """
    return provable(model, plan, task.example, cut) if takes_slices(plan) else plan


def pruned(model: nn.Module, plan: Plan) -> nn.Module:
    """The network that a plan leaves.

    Args:
        model: The whole network; it is left as it is.
        plan: A proven plan.

    Returns:
        The smaller network where there is one, else the masked one.
    """
    return cut(model, plan) if takes_slices(plan) else mask(model, plan)


def left(model: nn.Module, plan: Plan) -> nn.Module:
    """The network that is left of one that has been trained since the plan was made.

    Args:
        model: In the shapes of the whole one, zeros in place.
        plan: A proven plan; the new values that it has for weights are left out, since they have been trained.

    Returns:
        The smaller network where there is one, else `model`.
    """
    return cut(model, replace(plan, updates={})) if takes_slices(plan) else model


def whole(model: nn.Module, network: nn.Module, plan: Plan) -> nn.Module:
    """A pruned network in the shapes of the whole one.

    Args:
        model: The whole network; it is left as it is.
        network: What `pruned` made of it, perhaps trained since.
        plan: The same plan.

    Returns:
        A masked network: zeros where channels are gone.
    """
    if not takes_slices(plan):
        return network
    masked = mask(model, plan)
    put_into(masked, network, plan)
    return masked


def measured_again(network: nn.Module, task: Task, seed: int) -> nn.Module | None:
    """A network with the statistics of its batch norms measured again on some of the training data.

    Args:
        network: The network; it is left as it is.
        task: The data.
        seed: Of their order.

    Returns:
        A copy; None if no batch norm keeps statistics.
    """
    if not keeping(network):
        return None
    again = reestimate(network, _alike(task, seed))
    ranks.same_buffers(again)
    return again


def _alike(task: Task, seed: int) -> Iterator[Any]:
    """Batches that are as large as the first: each counts alike, and the last of an epoch may be small."""
    size = None
    for batch in islice(loader(task, seed=seed), BATCHES):
        found = samples_in(pair(batch)[0])
        size = size or found
        if found == size:
            yield batch


def leave_smaller(task: Task, folder: RunFolder, plan: Plan, dense: nn.Module, network: nn.Module) -> dict[str, Any]:
    """Leave the smaller network in the folder, and lay it beside the dense one.

    Args:
        task: Its example is what both are counted and timed on.
        folder: Where `small.safetensors` goes.
        plan: In force at the end.
        dense: The dense network.
        network: The pruned one.

    Returns:
        `report`, plain JSON; nothing if weights leave one by one.
    """
    if not takes_slices(plan):
        return {}
    folder.leave("small.safetensors", lambda path: save(network, path))
    found = folder.once("report", lambda: ranks.by_first(lambda: report(dense, network, plan, task.example).as_dict()))
    return {"report": found}
