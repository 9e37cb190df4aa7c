"""Layer by layer in forward order: the same data pass many times through a model whose weights change meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from secateur.batches import call, device_of, mode, pair, samples_in, to_device
from secateur.errors import DataError, ModelError, UnknownNameError
from secateur.granularity.layers import PRUNABLE

Pass = Callable[[], Iterator[int]]
"""Runs all the data through the layers of a step, and yields the number of samples after each batch."""

AUTO = "auto"


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
        chain = _chain(model, users, inputs[0], stages)
        homes = _homes(users, chain)
        passes = _Passes(model, inputs, chain)
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


class _Reached(BaseException):
    """Ends a forward pass where nothing behind it is wanted; not an error, and no model's code should catch it."""


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


def _homes(users: dict[str, list[nn.Module]], chain: Sequence[nn.Module]) -> dict[str, int | None]:
    """The stage in which a weight is used; None where there is no such single stage."""
    inside = {id(module): number for number, stage in enumerate(chain) for module in stage.modules()}
    found = {name: {inside.get(id(module)) for module in modules} for name, modules in users.items()}
    return {name: next(iter(homes)) if len(homes) == 1 else None for name, homes in found.items()}


class _Passes:
    """Passes through single stages; what the stages before have put out is kept."""

    def __init__(self, model: nn.Module, inputs: Sequence[Any], chain: Sequence[nn.Module]) -> None:
        self._model, self._inputs, self._chain = model, inputs, chain
        self._done = 0  # stages of which the outputs are known
        self._outputs: list[Any] = [None] * len(inputs)

    def run(self, stage: int | None) -> Iterator[int]:
        """Run every batch through one stage, or through the whole model."""
        while stage is not None and self._done < stage:
            self._outputs = [self._once(number, self._done) for number in range(len(self._inputs))]
            self._done += 1
        for number, inputs in enumerate(self._inputs):
            self._once(number, stage)
            yield samples_in(inputs)

    def _once(self, number: int, stage: int | None) -> Any:
        inputs = to_device(self._inputs[number], device_of(self._model))
        if stage is None:
            with torch.no_grad():
                return call(self._model, inputs)
        skipped = [(module, self._outputs[number]) for module in self._chain[:stage]]
        found: list[Any] = []

        def stop(_: nn.Module, __: Any, output: Any) -> None:
            found.append(output)
            raise _Reached

        with skipping(skipped), _hook(self._chain[stage].register_forward_hook(stop)), torch.no_grad():
            try:
                call(self._model, inputs)
            except _Reached:
                return found[0]
        raise ModelError("a stage that ran on the first batch does not run on another: pass stages=None")


@contextmanager
def skipping(outputs: Sequence[tuple[nn.Module, Any]]) -> Generator[None, None, None]:
    """Let modules return known outputs in place of running.

    Args:
        outputs: Modules and what each returns; tensors in it are copied for every call.

    Yields:
        Nothing.
    """
    before = [(module, vars(module).get("forward")) for module, _ in outputs]
    try:
        for module, output in outputs:
            vars(module)["forward"] = partial(_copied, output)
        yield
    finally:
        for module, forward in before:
            vars(module).pop("forward", None)
            if forward is not None:
                vars(module)["forward"] = forward


def _copied(output: Any, *_: Any, **__: Any) -> Any:
    """Anew for every call: the code behind may write into it."""
    return tree_map_only(Tensor, torch.clone, output)


@contextmanager
def _hook(handle: Any) -> Generator[None, None, None]:
    try:
        yield
    finally:
        handle.remove()


def _chain(model: nn.Module, users: dict[str, list[nn.Module]], inputs: Any, stages: str | None) -> Sequence[nn.Module]:
    """The modules that serve as stages; none: the model has to run whole."""
    if stages is None:
        return ()
    if stages != AUTO:
        found = _children(model, stages)
        if not _serves(model, found, inputs):
            raise ModelError(
                f"the modules in {stages!r} do not run once each, in order, each on nothing of the others but the "
                "output of the one before: pass stages=None"
            )
        return found
    wanted = {id(module) for modules in users.values() for module in modules}
    lists = [list(one.children()) for one in model.modules() if isinstance(one, nn.ModuleList | nn.Sequential)]
    held = {number: _held(found, wanted) for number, found in enumerate(lists) if len(found) > 1}
    for number in sorted(held, key=held.__getitem__, reverse=True):
        if held[number] > 1 and _serves(model, lists[number], inputs):
            return lists[number]
    return ()


def _children(model: nn.Module, name: str) -> list[nn.Module]:
    try:
        return list(model.get_submodule(name).children())
    except AttributeError as error:
        raise UnknownNameError("module", name, [known for known, _ in model.named_modules() if known]) from error


def _held(modules: Sequence[nn.Module], wanted: set[int]) -> int:
    return sum(id(inner) in wanted for module in modules for inner in module.modules())


def _serves(model: nn.Module, modules: Sequence[nn.Module], inputs: Any) -> bool:
    """Whether modules run once each, in order, and each depends on those before by the last one's output alone."""
    ran, forms = _run(model, modules, to_device(inputs, device_of(model)))
    if ran != list(range(len(modules))):
        return False
    return all(_depends_on_last(model, modules[: number + 1], forms, inputs) for number in range(2, len(modules)))


def _run(model: nn.Module, modules: Sequence[nn.Module], inputs: Any) -> tuple[list[int], list[Any]]:
    """Which of the modules run, in order, and the forms of their outputs."""
    ran: list[int] = []
    forms: list[Any] = []

    def note(number: int, _: nn.Module, __: Any, output: Any) -> None:
        ran.append(number)
        forms.append(tree_map_only(Tensor, lambda value: value.to("meta"), output))

    with ExitStack() as stack, torch.no_grad():
        for number, module in enumerate(modules):
            stack.callback(module.register_forward_hook(partial(note, number)).remove)
        call(model, inputs)
    return ran, forms


def _depends_on_last(model: nn.Module, modules: Sequence[nn.Module], forms: Sequence[Any], inputs: Any) -> bool:
    """Whether NaN from all but the last of the modules before stays away from what a module reads."""
    device = device_of(model)
    *early, last, reader = modules
    given = [(module, _filled(form, torch.nan, device)) for module, form in zip(early, forms, strict=False)]
    skipped = [*given, (last, _filled(forms[len(early)], 1.0, device))]
    clean: list[bool] = []

    def look(_: nn.Module, args: Any, named: Any) -> None:
        clean.append(not any(_has_nan(leaf) for leaf in tree_leaves((args, named))))
        raise _Reached

    with skipping(skipped), _hook(reader.register_forward_pre_hook(look, with_kwargs=True)), torch.no_grad():
        try:
            call(model, to_device(inputs, device))
        except _Reached:
            return clean[0]
        except Exception:  # the model's code cannot do without what the early ones put out
            return False
    return False


def _filled(form: Any, value: float, device: torch.device) -> Any:
    return tree_map_only(
        Tensor, lambda one: torch.full_like(one, value if one.is_floating_point() else 0, device=device), form
    )


def _has_nan(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and bool(value.isnan().any())
