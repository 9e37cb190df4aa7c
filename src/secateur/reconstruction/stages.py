"""Modules that run one after the other: each can be run by itself, on what the one before has put out."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from secateur.batches import call, device_of, samples_in, to_device
from secateur.errors import ModelError, UnknownNameError

AUTO = "auto"


class _Reached(BaseException):
    """Ends a forward pass where nothing behind it is wanted; not an error, and no model's code should catch it."""


class Stages:
    """Runs single stages of a model; what the stages before have put out is kept.

    Args:
        model: The model.
        inputs: Of each batch.
        chain: The stages, as `chain_of` finds them; none: every pass runs the whole model.
    """

    def __init__(self, model: nn.Module, inputs: Sequence[Any], chain: Sequence[nn.Module]) -> None:
        """Nothing is kept yet."""
        self._model, self._inputs, self._chain = model, inputs, chain
        self._done = 0  # stages of which the outputs are known
        self._outputs: list[Any] = [None] * len(inputs)

    def advance(self, stage: int | None) -> None:
        """Keep the outputs of the stages before one, as the model is now; there is no way back.

        Args:
            stage: Which one; None: nothing is to be kept.
        """
        while stage is not None and self._done < stage:
            self._outputs = [self._once(number, self._done) for number in range(len(self._inputs))]
            self._done += 1

    def skipped(self, number: int, stage: int | None) -> AbstractContextManager[None]:
        """The stages before one return what is kept of a batch instead of running.

        Args:
            number: Which batch.
            stage: The stage that `advance` was last called with.

        Returns:
            In which this is so.
        """
        return skipping([(module, self._outputs[number]) for module in self._chain[: stage or 0]])

    def run(self, stage: int | None) -> Iterator[int]:
        """Run every batch through one stage, or through the whole model.

        Args:
            stage: Which one; None: the whole model.

        Yields:
            Samples of each batch.
        """
        self.advance(stage)
        for number, inputs in enumerate(self._inputs):
            self._once(number, stage)
            yield samples_in(inputs)

    def _once(self, number: int, stage: int | None) -> Any:
        inputs = to_device(self._inputs[number], device_of(self._model))
        if stage is None:
            with torch.no_grad():
                return call(self._model, inputs)
        found: list[Any] = []

        def stop(_: nn.Module, __: Any, output: Any) -> None:
            found.append(output)
            raise _Reached

        here = self._chain[stage].register_forward_hook(stop)
        with self.skipped(number, stage), _hook(here), torch.no_grad():
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


def chain_of(
    model: nn.Module, users: dict[str, list[nn.Module]], inputs: Any, stages: str | None
) -> Sequence[nn.Module]:
    """The modules that serve as stages.

    Args:
        model: The model.
        users: Modules that read each of the weights wanted.
        inputs: Of one batch, on which it is tried whether they serve.
        stages: Name of the module that holds them; `"auto"`: the one with the most of the wanted modules; None: none.

    Returns:
        The modules in order; none: the model has to run whole.

    Raises:
        ModelError: The stages named cannot serve.
        UnknownNameError: There is no module of that name.
    """
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


def homes_of(users: dict[str, list[nn.Module]], chain: Sequence[nn.Module]) -> dict[str, int | None]:
    """The stage in which each weight is used.

    Args:
        users: Modules that read each of the weights.
        chain: The stages.

    Returns:
        Its number by name of the weight; None where there is no such single stage.
    """
    inside = {id(module): number for number, stage in enumerate(chain) for module in stage.modules()}
    found = {name: {inside.get(id(module)) for module in modules} for name, modules in users.items()}
    return {name: next(iter(homes)) if len(homes) == 1 else None for name, homes in found.items()}
