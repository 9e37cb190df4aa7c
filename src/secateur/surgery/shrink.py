"""`shrink`: a plan carried out, slices taken out of every tensor."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Literal, TypeVar, cast, overload

import torch
from torch import nn
from torch.fx import GraphModule
from torch.optim import Optimizer

from secateur.batches import drop_caches
from secateur.errors import PlanError
from secateur.masking import check_fits, mask
from secateur.plan import Plan
from secateur.plan.slices import fixed_patterns, stays
from secateur.surgery.classes import refresh
from secateur.surgery.dead import without_dead
from secateur.surgery.graph import graphed
from secateur.surgery.norms import rescale, unscaled
from secateur.surgery.optimizer import carried, check_state, with_new
from secateur.surgery.program import Program, program
from secateur.surgery.proof import provable
from secateur.surgery.tensors import Slices, sliced, tensors
from secateur.units import Attribute

Model = TypeVar("Model", bound=nn.Module)


@overload
def shrink(
    model: nn.Module,
    plan: Plan,
    optimizer: None = None,
    *,
    example: Any = None,
    prove: bool = True,
    graph: Literal[True],
) -> GraphModule: ...


@overload
def shrink(
    model: nn.Module,
    plan: Plan,
    optimizer: Optimizer,
    *,
    example: Any = None,
    prove: bool = True,
    graph: Literal[True],
) -> tuple[GraphModule, Optimizer]: ...


@overload
def shrink(
    model: Model,
    plan: Plan,
    optimizer: None = None,
    *,
    example: Any = None,
    prove: bool = True,
    graph: Literal[False] = False,
) -> Model: ...


@overload
def shrink(
    model: Model,
    plan: Plan,
    optimizer: Optimizer,
    *,
    example: Any = None,
    prove: bool = True,
    graph: Literal[False] = False,
) -> tuple[Model, Optimizer]: ...


def shrink(
    model: nn.Module,
    plan: Plan,
    optimizer: Optimizer | None = None,
    *,
    example: Any = None,
    prove: bool = True,
    graph: bool = False,
) -> nn.Module | tuple[nn.Module, Optimizer]:
    """The smaller dense model: what a plan removes is taken out of every parameter and buffer.

    A plan of coupled channels says all that leaves. One of single weights, filters or patterns says only what becomes
    zero; then the weights are masked, and channels leave that are dead after that: nothing that stays reads them, or
    nothing enters them but biases and shifts. What these are for every input goes into the biases of the layers that
    read them, and a layer without one is given one; where it cannot, as under a convolution with padding, the channel
    stays. So it is in eval mode. Inputs of weights in a fixed pattern (N:M) stay, and of every group one unit.

    The result is a plain module of the same class, with fewer channels; integers that held old sizes are rewritten, and
    the weight and eps of norms by root mean squares make up for the channels that their mean has lost. It
    computes what the masked model does: `shrink(m, p)(x) == mask(m, p)(x)`. That is proved on a copy with its weights
    perturbed, so that nothing is zero by initialisation, and on fresh inputs. A group that fails is put back, with a
    warning that names it.

    Args:
        model: The model; it is left as it is.
        plan: Made with any granularity.
        optimizer: To train on from where this model's training stands: moments lose what their parameters lose. One
            that goes weight by weight, as SGD and Adam do, then takes the steps that it would take on the masked model,
            but for weights of norms that have been rescaled.
            It is left as it is. A learning-rate scheduler is bound to the new one by `scheduler.optimizer = optimizer`.
        example: Inputs for the proof; left out: those that the granularity was given. A plan of coupled channels that
            was read from a file has none, and is carried out without proof then. One that masks has to be given some,
            since dead channels are looked for in a forward pass.
        prove: Whether to prove it; costs two forward passes and a copy of the model. Dead channels are also proved with
            the weights as they are.
        graph: Whether to return the recorded operations as a `torch.fx.GraphModule` in place of the model's code. They
            can lose what the code cannot follow, in plans of `granularity.channel(example, graph=True)`. The graph
            computes what the model computes in eval mode, always: dropout and batch norm stay as they were recorded.
            Control flow and sizes are those of the example, but for the size of the batch where the operations go with
            it; else the graph refuses another one. It trains, saves and exports as any module.

    Returns:
        A copy without what the plan removes; with `optimizer` a pair of it and a new optimizer of the same class, with
        the same groups and settings.

    Raises:
        PlanError: The plan does not fit the model, masks and there is no example, or nothing of it can be proved; or
            the optimizer keeps something that does not lie along its parameters, as LBFGS does; or a graph is asked for
            and there is no example, or the plan masks.
        ModelError: A graph is asked for, and the operations are others for other inputs.

    Example:
        >>> from secateur import allocation, criteria, granularity
        >>> from secateur.pruner import Budget, Pruner
        >>> model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
        >>> pruner = Pruner(criteria.magnitude(), granularity.channel(torch.zeros(1, 2)), allocation.uniform())
        >>> shrink(model, pruner.plan(model, Budget(sparsity=0.5)))
        Sequential(
          (0): Linear(in_features=2, out_features=2, bias=True)
          (1): ReLU()
          (2): Linear(in_features=2, out_features=1, bias=True)
        )
    """
    check_fits(model, plan)
    if optimizer is not None:
        check_state(optimizer)
    inputs = plan.example if example is None else example
    coupled, masks = _told_apart(plan)
    if not masks.parts:
        return _carried_out(model, plan, optimizer, inputs, prove, graph)
    if graph:
        raise PlanError(f"{masks.parts[0].name!r} and others are masked; a graph is made of plans of coupled channels")
    if inputs is None:
        raise PlanError(
            f"{masks.parts[0].name!r} and others are masked, and which channels are dead then is found by running the "
            "model: pass example=inputs, or plan with granularity.channel(example)"
        )
    return _dead_too(model, coupled, masks, optimizer, inputs, prove)


def _carried_out(
    model: nn.Module, plan: Plan, optimizer: Optimizer | None, inputs: Any, prove: bool, graph: bool
) -> nn.Module | tuple[nn.Module, Optimizer]:
    """A plan of which all is taken out."""
    made = _program(model, inputs) if graph else None

    def carve(one: nn.Module, what: Plan) -> nn.Module:
        return cut(one, what) if made is None else graphed(one, what, made, _without(one, what))

    small = carve(model, plan) if graph else None  # fails at once where the graph cannot be made
    if prove and inputs is not None:
        proved = provable(model, plan, inputs, carve, graph=graph)
        small, plan = small if proved is plan else None, proved
    if small is None:
        small = carve(model, plan)
    return small if optimizer is None else (small, carried(optimizer, model, small, _slices(plan)))


def _program(model: nn.Module, inputs: Any) -> Program:
    if inputs is None:
        raise PlanError("a graph is recorded on an example, and the plan has none: pass example=")
    return program(model, inputs)


def _dead_too(
    model: nn.Module, coupled: Plan, masks: Plan, optimizer: Optimizer | None, inputs: Any, prove: bool
) -> nn.Module | tuple[nn.Module, Optimizer]:
    """A plan that masks: its coupled channels leave first, so that what is dead is looked for in less."""
    whole = mask(model, masks)
    if coupled.weights_removed:
        coupled = provable(whole, coupled, inputs, cut) if prove else coupled
        whole = cut(whole, coupled)
    moved = optimizer and carried(optimizer, model, whole, _slices(coupled))
    while True:  # in fewer channels more may be told apart, such as those of a convolution that had groups
        small, dead = without_dead(whole, inputs, cut, stays=fixed_patterns(masks.parts), prove=prove)
        moved = moved and with_new(carried(moved, whole, small, _slices(dead)), whole, small)
        if not dead.weights_removed:
            return small if moved is None else (small, moved)
        whole = small


def _told_apart(plan: Plan) -> tuple[Plan, Plan]:
    """What is taken out, and what only masks."""
    single = [not bool(part.keep.all()) and any(axis.axis is None for axis in part.units.index) for part in plan.parts]
    taken = tuple(part for part, one in zip(plan.parts, single, strict=True) if not one)
    masks = tuple(part for part, one in zip(plan.parts, single, strict=True) if one)
    if not masks:
        return plan, replace(plan, parts=())
    return replace(plan, parts=taken, updates={}), replace(plan, parts=masks)


def cut(model: Model, plan: Plan) -> Model:
    """The smaller model, without proof.

    Args:
        model: The model; it is left as it is.
        plan: What leaves.

    Returns:
        A copy without it.
    """
    small = _without(model, plan)
    for attribute, lost in _lost(plan).items():
        rewrite(small, attribute, lost)
    for module in small.modules():
        refresh(module)
    drop_caches(small)
    return small


def _without(model: Model, plan: Plan) -> Model:
    """A copy with smaller tensors, its code not yet fitted."""
    slices = _slices(plan)
    small = copy.deepcopy(model)
    with torch.no_grad():
        for name, value in plan.updates.items():
            tensors(small)[name].copy_(value)
    _cut(small, slices)
    rescale(model, small, plan)
    return small


def put_into(model: nn.Module, small: nn.Module, plan: Plan) -> None:
    """Set the numbers of a smaller model back where they were cut from; what was cut away stays as it is.

    Args:
        model: The whole model, changed in place.
        small: What `cut` made of it, perhaps trained since.
        plan: The same plan.
    """
    mine, theirs = tensors(model), {**tensors(small), **unscaled(model, small, plan)}
    slices = {id(mine[name]): dims for name, dims in _slices(plan).items()}  # one tensor may stand under several names
    with torch.no_grad():
        for name, value in mine.items():
            if dims := slices.get(id(value)):
                places = [dims.get(dim, torch.arange(size)).to(value.device) for dim, size in enumerate(value.shape)]
                value[torch.meshgrid(*places, indexing="ij")] = theirs[name]
            else:
                value.copy_(theirs[name])
    drop_caches(model)


def _slices(plan: Plan) -> Slices:
    """What stays along each dimension; several groups may take from one."""
    for part in plan.parts:
        single = next((axis.parameter for axis in part.units.index if axis.axis is None), None)
        if single is not None and not bool(part.keep.all()):
            raise PlanError(
                f"{part.name!r} removes weights of {single!r} one by one, which leaves no smaller dense "
                "tensor: plan with granularity.channel(example)"
            )
    found: Slices = {}
    for (name, dim), stay in stays(plan.parts).items():
        found.setdefault(name, {})[cast("int", dim)] = stay.nonzero().flatten()
    return found


def _cut(model: nn.Module, slices: Slices) -> None:
    """Take slices out; a tensor that stands under several names stays one tensor."""
    before = tensors(model)
    replaced = {id(before[name]): sliced(before[name], dims) for name, dims in slices.items()}
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None and id(tensor) in replaced:
                    held[name] = replaced[id(tensor)]  # type: ignore[assignment]


def _lost(plan: Plan) -> dict[Attribute, int]:
    """By how much each integer of the model gets smaller."""
    found: dict[Attribute, int] = {}
    for part in plan.parts:
        for attribute, each in part.units.attributes.items():
            found[attribute] = found.get(attribute, 0) + int(each[~part.keep.cpu()].sum())
    return {attribute: lost for attribute, lost in found.items() if lost}


def rewrite(model: nn.Module, attribute: Attribute, lost: int) -> None:
    """Make an integer of a model smaller.

    Args:
        model: The model.
        attribute: Which integer.
        lost: By how much.

    Raises:
        PlanError: The model does not have it.
    """
    try:
        module = model.get_submodule(attribute.module)
        first, *rest = attribute.path
        value = _changed(getattr(module, str(first)), rest, lost)
        object.__setattr__(module, str(first), value)
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise PlanError(f"the plan rewrites {attribute}, which {type(model).__name__} does not have") from error


def _changed(value: Any, path: list[str | int], lost: int) -> Any:
    """A value with an integer in it made smaller; lists, dicts and objects are changed in place."""
    if not path:
        return int(value) - lost
    step, *rest = path
    if isinstance(value, tuple):
        inside = list(value)
        inside[cast("int", step)] = _changed(inside[cast("int", step)], rest, lost)
        return type(value)(*inside) if hasattr(value, "_fields") else type(value)(inside)
    if isinstance(value, list | dict):
        value[step] = _changed(value[step], rest, lost)  # type: ignore[index]
    else:  # past what its class makes of that: a frozen dataclass would refuse
        object.__setattr__(value, str(step), _changed(getattr(value, str(step)), rest, lost))
    return value
