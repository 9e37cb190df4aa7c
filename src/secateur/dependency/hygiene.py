"""What a recording needs of torch and of a model, for as long as it takes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook


@contextmanager
def quiet() -> Generator[None, None, None]:
    """No gradients, attention as its plain operations, and the random generator as it was.

    Yields:
        Nothing.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def buffers_kept(model: nn.Module) -> Generator[None, None, None]:
    """Buffers and their values as they were, also where the pass puts another tensor in a buffer's place.

    Args:
        model: Any module.

    Yields:
        Nothing.
    """
    held = [(module, dict(module._buffers)) for module in model.modules()]
    values = [(buffer, buffer.clone()) for _, buffers in held for buffer in buffers.values() if buffer is not None]
    try:
        yield
    finally:
        for module, buffers in held:
            module._buffers.update(buffers)
        for buffer, value in values:
            buffer.copy_(value)


@contextmanager
def norms_in_eval(model: nn.Module) -> Generator[None, None, None]:
    """Batch norms with the statistics they hold, also in train mode: those of a single value have no variance.

    Args:
        model: Any module.

    Yields:
        Nothing.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
    before = [module.training for module in norms]
    for module in norms:
        module.training = False
    try:
        yield
    finally:
        for module, training in zip(norms, before, strict=True):
            module.training = training


@contextmanager
def modules(model: nn.Module) -> Generator[list[str], None, None]:
    """Names of the modules that are running, outermost first.

    Args:
        model: Any module.

    Yields:
        A list that changes while it runs.
    """
    names = {id(module): name for name, module in model.named_modules()}
    stack: list[str] = []

    def entered(module: nn.Module, _: Any) -> None:
        if id(module) in names:
            stack.append(names[id(module)])

    def left(module: nn.Module, *_: Any) -> None:
        if id(module) in names:
            stack.pop()

    handles = [register_module_forward_pre_hook(entered), register_module_forward_hook(left, always_call=True)]
    try:
        yield stack
    finally:
        for handle in handles:
            handle.remove()
