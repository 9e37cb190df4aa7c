"""What `lasso` and `thinet` share: layer after layer, the inputs are chosen and the weights mended."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import ModelError, SecateurError
from secateur.masking import mask, tensor_of
from secateur.plan import Part, Plan
from secateur.reconstruction.observe import Reading, read, refuse_crossed, repeatable, side_by_side
from secateur.reconstruction.responses import columns_of
from secateur.reconstruction.sampling import Sampling
from secateur.reconstruction.sites import Site, survey, weight_matrix
from secateur.reconstruction.solve import is_few, put, remarks
from secateur.units import Units, removed_units


@dataclass(frozen=True)
class Settings:
    """How a method goes about it.

    Args:
        method: Its name, for messages.
        sampling: Which points it looks at.
        damping: Of the least squares.
        branches: Whether the last layer of a residual branch makes up for the shortcut too.

    Raises:
        SecateurError: `damping` is negative.
    """

    method: str
    sampling: Sampling
    damping: float = 0.0
    branches: bool = True

    def __post_init__(self) -> None:
        """Check the damping.

        Raises:
            SecateurError: It is negative.
        """
        if not self.damping >= 0:
            raise SecateurError(
                f"damping is at least 0, relative to the mean square of an input; given: {self.damping}"
            )


@dataclass(frozen=True, eq=False)
class Choice:
    """A group of which so many units have to go, and the layers that read it.

    Args:
        units: The group.
        sparsity: Fraction to remove.
        readings: Of the layers.
        columns: For each of them the unit that each column reads, `(groups, columns)`.
    """

    units: Units
    sparsity: float
    readings: tuple[Reading, ...]
    columns: tuple[Tensor, ...]


Choose = Callable[[Choice, float], tuple[Tensor, float]]
"""From a choice, and a number that one choice hands to the next, to which units stay and that number."""

Mend = Callable[[Reading, Tensor, list[Tensor]], tuple[Tensor, bool]]
"""From a reading, what it keeps, and the units of its columns in each group to new weights; whether singular."""


@dataclass
class _Run:
    """A model on its way, and how far it has been pruned."""

    model: nn.Module
    pruned: nn.Module
    batches: Iterable[Any]
    settings: Settings
    parts: dict[str, Part] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    errors: dict[str, float] = field(default_factory=dict)
    singular: list[str] = field(default_factory=list)
    few: list[str] = field(default_factory=list)

    def read(self, sites: list[Site]) -> tuple[Reading, ...]:
        """Measure some layers of the model as it is now."""
        how = self.settings
        return tuple(read(self.model, self.pruned, sites, self.batches, how.sampling, branches=how.branches))

    def decide(self, name: str, group: Units, keep: Tensor) -> None:
        """Set what leaves to zero."""
        self.parts[name] = Part(name, group, keep.cpu(), "nothing allocated" if bool(keep.all()) else "")
        plan = Plan((self.parts[name],))
        refuse_crossed(plan, self.settings.method)
        mask(self.pruned, plan, inplace=True)

    def mend(self, site: Site, losing: list[Tensor], mend: Mend) -> None:
        """Give a layer new weights; some of its inputs have left."""
        found = self.read([site])
        if not found:
            return
        stays = Plan(tuple(self.parts.values())).masks()[site.layer.parameter]
        keep = weight_matrix(site.layer, stays).to(found[0].weight.device)
        weight, singular = mend(found[0], keep, losing)
        self.errors[site.label] = found[0].error(weight)
        self.changed |= put(self.model, self.pruned, found[0], weight)
        self.singular += [site.label] if singular else []
        self.few += [site.label] if is_few(found[0], keep) and not self.settings.damping else []


def choose_in_turn(
    model: nn.Module,
    units: Mapping[str, Units],
    sparsities: Mapping[str, float],
    data: Iterable[Any],
    *,
    choose: Choose,
    mend: Mend,
    settings: Settings,
    start: float,
) -> Plan:
    """Go through the layers as they run: choose which of its inputs stay, then mend its weights.

    A layer's inputs come from the model as it has been pruned so far, its wanted outputs from the whole model. So every
    layer makes up for the errors before it, and each is mended once, when all before it is settled. A group that
    several layers read is chosen at the first of them, for all.

    Args:
        model: The model; it is left as it is.
        units: Groups that are free.
        sparsities: What each loses.
        data: Batches of inputs and targets.
        choose: Which units stay.
        mend: New weights.
        settings: How.
        start: Handed to the first choice.

    Returns:
        The plan, with new values of all that was mended, and the error of each layer in `made_by`.
    """
    batches = repeatable(data, settings.method)
    now = _Run(model, copy.deepcopy(model).requires_grad_(False), batches, settings)
    with side_by_side(model, now.pruned):
        sites = survey(model, batches)
        losing = {name: group for name, group in units.items() if removed_units(group, sparsities[name])}
        readers = {name: _readers(sites, name, group, settings.method) for name, group in losing.items()}
        for site in sites:
            mine = [name for name, found in readers.items() if site.name in found]
            for name in mine:
                if name not in now.parts:
                    readings = now.read([one for one in sites if one.name in readers[name]])
                    columns = tuple(readers[name][reading.site.name] for reading in readings)
                    keep, start = choose(Choice(units[name], sparsities[name], readings, columns), start)
                    now.decide(name, units[name], keep)
            gone = [readers[name][site.name] for name in mine if not bool(now.parts[name].keep.all())]
            if gone:
                now.mend(site, gone, mend)
    if said := remarks(now.singular, now.few, settings.method):
        warnings.warn(said, stacklevel=5)
    updates = {name: tensor_of(now.pruned, name).detach().clone() for name in sorted(now.changed)}
    return Plan(
        tuple(now.parts.get(name) or _whole(name, units[name]) for name in units), updates, {"error": now.errors}
    )


def _whole(name: str, group: Units) -> Part:
    return Part(name, group, torch.ones(group.n_units, dtype=torch.bool), "nothing allocated")


def _readers(sites: list[Site], name: str, group: Units, method: str) -> dict[str, Tensor]:
    """The layers that read a group, and the unit of each of their columns."""
    layers = {site.layer.parameter: site for site in sites}
    found = {}
    for axis, role in group.role.items():
        site = layers.get(axis.parameter)
        columns = columns_of(site.layer, group.index[axis]) if site and role == "in" else None
        if site and columns is not None:
            found[site.name] = columns
    if not found:
        raise ModelError(
            f"{method} has nothing to say about {name!r}: no linear layer or convolution of the model reads its units. "
            "Use granularity.channel(example) or granularity.input_channel() and exclude what is left, or choose by a "
            "criterion and mend with refit=least_squares()"
        )
    return found
