"""Layer by layer in forward order: the same data pass many times through a model whose weights change meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from secateur.batches import call, device_of, mode, pair, to_device
from secateur.errors import DataError
from secateur.granularity.layers import PRUNABLE
from secateur.reconstruction.stages import AUTO, Stages, chain_of, homes_of

Pass = Callable[[], Iterator[int]]
"""Runs all the data through the layers of a step, and yields the number of samples after each batch."""


def forward_order(
    model: nn.Module, weights: Collection[str], inputs: Sequence[Any], stages: str | None = AUTO
) -> Generator[tuple[tuple[str, ...], Pass], None, None]:
    """The layers of a model in the order in which data reach them, each with a way to let the data pass through it.

    Layers that read the same tensor, as the projections of an attention, come in one step: none of them is behind
    another. Whoever changes the weights of a step before asking for the next one sees, in the next pass, the inputs
    that the changed model makes.

    Stages are modules that run one after the other, such as the blocks of a transformer. Where a model has them, what
    they have put out is kept for every batch, and a pass runs a single stage. The model's own code runs around them,
    so masks and positions reach a stage as usual. That a stage reads of the stages before it only the last one's output
    is checked on the first batch. Without stages a pass runs the whole model.

    Args:
        model: The model; it runs in evaluation mode until the iterator is exhausted or closed.
        weights: Names of the weights wanted, of linear or convolution layers.
        inputs: Inputs of the batches, as the model takes them.
        stages: Name of the `nn.ModuleList` or `nn.Sequential` that holds the stages; `"auto"`: of those that can serve,
            the one with the most of the wanted weights; None: the model has no stages.

    Yields:
        Names of the weights of a step, and its pass: a function that returns an iterator, which runs a batch for every
        number of samples that it gives.

    Raises:
        DataError: There is no data, or a layer is reached by none.
        ModelError: The stages named cannot serve.
        UnknownNameError: There is no module of that name.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> [names for names, _ in forward_order(net, ["2.weight", "0.weight"], [torch.zeros(4, 2)])]
        [('0.weight',), ('2.weight',)]
    """
    users = users_of(model, weights)
    with mode(model, training=False):
        steps = _steps(model, users, inputs)
        chain = chain_of(model, users, inputs[0], stages)
        homes = homes_of(users, chain)
        passes = Stages(model, inputs, chain)
        for step in steps:
            for home, names in groupby(step, homes.__getitem__):
                yield tuple(names), partial(passes.run, home)


def users_of(model: nn.Module, weights: Collection[str]) -> dict[str, list[nn.Module]]:
    """The linear and convolution layers that read each of the weights.

    Args:
        model: The model.
        weights: Names of parameters.

    Returns:
        Modules by name of the weight.

    Example:
        >>> list(users_of(nn.Sequential(nn.Linear(2, 3)), ["0.weight"])["0.weight"])
        [Linear(in_features=2, out_features=3, bias=True)]
    """
    names = {id(model.get_parameter(name)): name for name in weights}
    users: dict[str, list[nn.Module]] = {name: [] for name in weights}
    for module in model.modules():
        name = names.get(id(module._parameters.get("weight")))
        if name is not None and isinstance(module, PRUNABLE):
            users[name].append(module)
    return users


def inputs_of(batches: Iterable[Any], who: str) -> list[Any]:
    """The inputs of batches, held because they pass more than once.

    Args:
        batches: Pairs of inputs and targets.
        who: Wants them.

    Returns:
        The inputs.

    Raises:
        DataError: There is no batch.

    Example:
        >>> inputs_of([("x", "y"), ("z", None)], "me")
        ['x', 'z']
    """
    inputs = [pair(batch)[0] for batch in batches]
    if not inputs:
        raise DataError(f"{who} needs data and there was no batch: is the loader exhausted, or a generator used twice?")
    return inputs


def read(args: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    """What a layer reads, from the arguments of its call.

    Args:
        args: By position.
        named: By name.

    Returns:
        The tensor.
    """
    found: Tensor = args[0] if args else named["input"]
    return found


def _steps(model: nn.Module, users: dict[str, list[nn.Module]], inputs: Sequence[Any]) -> list[list[str]]:
    """The weights in the order of their first use; those that read the same tensor one after the other together."""
    steps: list[list[str]] = []
    seen: set[str] = set()
    last: list[tuple[Tensor, int]] = []

    def note(name: str, _: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        values = read(args, named)
        again = bool(last) and last[0][0] is values and last[0][1] == values._version
        last[:] = [(values, values._version)]
        if name not in seen:
            seen.add(name)
            if again:
                steps[-1].append(name)
            else:
                steps.append([name])

    with ExitStack() as stack, torch.no_grad():
        for name, modules in users.items():
            for module in modules:
                stack.callback(module.register_forward_pre_hook(partial(note, name), with_kwargs=True).remove)
        for batch in inputs:
            last.clear()
            call(model, to_device(batch, device_of(model)))
            if len(seen) == len(users):
                return steps
    missing = [name for name in users if name not in seen]
    raise DataError(f"the data never reached {', '.join(missing[:5])}: exclude these layers, or give other data")
