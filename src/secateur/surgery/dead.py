"""Dead channels: what nothing enters, or nothing reads, after single weights have been set to zero."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from secateur.batches import device_of, drop_caches, mode, to_device
from secateur.dependency import Call, Reach, Record, Reference, Solution, reach, references, tensors_in
from secateur.dependency.partition import FIXED
from secateur.errors import PlanError
from secateur.granularity import channel
from secateur.granularity.channel import solution_of
from secateur.masking import zero
from secateur.plan import Part, Plan
from secateur.plan.slices import along
from secateur.surgery.proof import TOLERANCE, Carve, apart, fresh, provable
from secateur.surgery.tensors import tensors
from secateur.units import ParameterAxis, Units

Model = TypeVar("Model", bound=nn.Module)
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Buried:
    """A model in which dead channels are zero, and which of them can leave.

    Args:
        model: What dead channels added to others is in their biases, and all weights of dead channels are zero.
        plan: Coupled: the dead channels, but one of each group that is dead as a whole.
        biases: For each layer that needs a bias and has none its value, and the set of each of its positions.
        sets: By group of the plan the set that stands for each unit.
    """

    model: nn.Module
    plan: Plan
    biases: Mapping[str, tuple[Tensor, Any]]
    sets: Mapping[str, Any]


def without_dead(
    model: Model, example: Any, carve: Carve, *, stays: Iterable[ParameterAxis] = (), prove: bool = True
) -> tuple[Model, Plan]:
    """A smaller model without the channels that add nothing.

    A channel is dead if nothing that stays reads it, or if nothing enters it but biases, so that it is the same for
    every input; the readers' biases take its value over then. Death spreads both ways.

    Args:
        model: With zeros in its weights; it is left as it is.
        example: Inputs that the model takes.
        carve: From a model and a coupled plan to the smaller model.
        stays: Axes along which everything stays, since a fixed pattern lies there.
        prove: Whether to prove the result.

    Returns:
        The smaller model, and the coupled plan of what was taken out of the model.

    Raises:
        PlanError: The smaller model does not compute what the model computes.
    """
    inputs = to_device(example, device_of(model))
    buried = bury(model, inputs, stays)
    leaves = prove and buried.plan.weights_removed > 0
    plan = provable(buried.model, buried.plan, inputs, carve) if leaves else buried.plan
    small = carve(buried.model, plan)
    _give_biases(small, buried, plan)
    if prove and (worst := apart(model, small, fresh(inputs))) > TOLERANCE:
        raise PlanError(
            f"without its dead channels the model differs from the masked one by {worst:.2g} of the largest output: "
            "pass prove=False and look into it, or use mask"
        )
    return small, plan  # type: ignore[return-value]


def bury(model: nn.Module, example: Any, stays: Iterable[ParameterAxis] = ()) -> Buried:
    """Find the dead channels of a model, and move what they add into biases.

    Args:
        model: With zeros in its weights; it is left as it is.
        example: Inputs that the model takes.
        stays: Axes along which everything stays.

    Returns:
        The model with zeros for all that is dead, and what can leave.

    Example:
        The second unit is `relu(2)` for every input, and 6 at the output:

        >>> model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1, bias=False))
        >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0], [0.0]])), model[0].bias.data.fill_(2.0)
        >>> _ = model[2].weight.data.copy_(torch.tensor([[1.0, 3.0]]))
        >>> buried = bury(model, torch.ones(1, 1))
        >>> buried.plan["0"].keep.tolist(), buried.model[2].weight.tolist(), buried.biases["2"][0].tolist()
        ([True, False], [[1.0, 0.0]], [6.0])
    """
    here, given = (
        _on_cpu(model),
        to_device(example, torch.device("cpu")),
    )  # truth values beside numbers: not worth moving
    coupling = channel(given)
    solution = cast("Solution", solution_of(coupling, here))
    homes = _homes(here, solution.record)
    pinned = [(axis.parameter, axis.axis) for axis in stays if axis.axis is not None]
    state = {name: value.detach() for name, value in tensors(here).items()}
    with mode(here, training=False), torch.random.fork_rng(devices=[]):
        found = reach(solution, state, tuple(tensors_in(given)), foldable=homes, stays=pinned)
    free = {name: units for name, units in coupling(here).items() if not units.frozen}
    sets = {name: _sets(solution, units) for name, units in free.items()}
    dead = Plan(tuple(Part(name, units, torch.from_numpy(found.reaches[sets[name]])) for name, units in free.items()))
    buried = copy.deepcopy(model)
    biases = _fold(buried, found, homes)
    zero(buried, {name: ~kept for name, kept in dead.masks().items()})
    drop_caches(buried)
    return Buried(buried, replace(dead, parts=tuple(map(_with_one, dead.parts))), biases, sets)


def _on_cpu(model: nn.Module) -> nn.Module:
    return model if device_of(model).type == "cpu" else copy.deepcopy(model).cpu()


def _with_one(part: Part) -> Part:
    """One unit of every group stays, as elsewhere."""
    if bool(part.keep.any()):
        return part
    first = torch.zeros_like(part.keep)
    first[0] = True
    return replace(part, keep=first)


def _sets(solution: Solution, units: Units) -> Any:
    """The label that stands for each unit."""
    record = solution.record
    numbers = {name: number for number in record.numbers("parameter") for name in record.values[number].names}
    found = np.full(units.n_units, FIXED, np.int64)
    for axis, index in units.index.items():
        if axis.axis is not None:
            each = along(index, axis.axis).numpy()
            labels = solution.partition.seen(solution.labels(numbers[axis.parameter], axis.axis))
            found[each[each >= 0]] = labels[each >= 0]
    return found


@dataclass(frozen=True)
class _Home:
    """The bias that a call adds to its result: a parameter, or one that its layer may be given."""

    name: str
    made: bool


def _homes(model: nn.Module, record: Record) -> dict[int, _Home]:
    """Calls with a bias to themselves, by their first result. In train mode constants are other ones: none then."""
    if record.training:
        return {}
    found = dict(_candidates(model, record))
    taken = Counter(home.name for home in found.values())
    uses = Counter(number for call in record.calls for number in references(call))
    read = {name: uses[one] for one in record.numbers("parameter") for name in record.values[one].names}
    return {key: home for key, home in found.items() if taken[home.name] == 1 and read.get(home.name, 1) == 1}


def _candidates(model: nn.Module, record: Record) -> Iterator[tuple[int, _Home]]:
    for call in record.calls:
        result = call.results[0] if call.results else None
        if result is None or call.name not in ("mm", "addmm", "convolution"):
            continue
        given = call.given.get("bias" if call.name == "convolution" else "self") if call.name != "mm" else None
        value = record.values[given.number] if isinstance(given, Reference) else None
        if value is not None:
            if value.source == "parameter" and len(value.shape) == 1 and call.given.get("beta", 1) == 1:
                yield result, _Home(value.names[0], made=False)
        elif (layer := _layer(model, call)) is not None:
            yield result, _Home(f"{call.module}.bias".lstrip("."), made=layer.bias is None)


def _layer(model: nn.Module, call: Call) -> nn.Module | None:
    """The layer of torch's that makes a product and does nothing else."""
    module = model.get_submodule(call.module)
    kind = next((kind for kind in LAYERS if isinstance(module, kind)), None)
    return module if kind is not None and type(module).forward is kind.forward else None


def _fold(model: nn.Module, found: Reach, homes: Mapping[int, _Home]) -> dict[str, tuple[Tensor, Any]]:
    """Add what dead channels are to biases; those that are missing are returned, with the set of each position."""
    missing = {}
    for reading in found.readings:
        added = found.added(reading)
        if bool(added.any()):
            home = homes[reading.call.results[0] or 0]
            if home.made:
                missing[reading.call.module] = (added, reading.outs)
            else:
                bias = tensors(model)[home.name].detach()
                bias.copy_(bias.double().cpu() + added)
    return missing


def _give_biases(small: nn.Module, buried: Buried, plan: Plan) -> None:
    """Biases for layers that had none, without the positions that left."""
    gone = np.concatenate([np.empty(0, np.int64), *(buried.sets[one.name][~one.keep.numpy()] for one in plan.parts)])
    for name, (value, sets) in buried.biases.items():
        layer = small.get_submodule(name)
        weight = layer.weight
        kept = value[torch.from_numpy(~np.isin(sets, gone))]
        layer.bias = nn.Parameter(kept.to(weight), requires_grad=weight.requires_grad)  # type: ignore[arg-type]
