"""A model's weights as a plain safetensors file, which any other tool reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensor_bytes
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from secateur.errors import ModelError, RunError
from secateur.files import atomic_write

ABOUT = "secateur.about"


def save_weights(model: nn.Module, path: Path | str, about: Mapping[str, Any] | None = None) -> None:
    """Write a model's `state_dict`, atomically.

    Args:
        model: The model.
        path: The file.
        about: Plain JSON to keep with it: where the weights come from.

    Raises:
        RunError: The file cannot be written, or `about` is no plain JSON.
        ModelError: The `state_dict` holds something else than dense tensors, or numbers that safetensors lacks.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_weights(nn.Linear(2, 1), Path(folder, "w.safetensors"), {"epochs": 3})
        ...     load_weights(nn.Linear(2, 1), Path(folder, "w.safetensors"))
        {'epochs': 3}
    """
    # A copy of each: safetensors refuses tensors that share memory, or whose memory is in another order.
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in _state(model).items()
    }
    try:
        metadata = {ABOUT: json.dumps(dict(about))} if about else None
    except (TypeError, ValueError, RecursionError) as error:
        raise RunError(
            f"what is to be kept with the weights is no plain JSON ({error}); expected a dict of numbers, words, lists "
            "and dicts. Put tensors into the model's buffers"
        ) from error
    try:
        content = tensor_bytes(tensors, metadata)
    except KeyError as error:
        raise ModelError(
            f"the state of {type(model).__name__} holds numbers of {error}, which safetensors lacks. Convert them first"
        ) from error
    atomic_write(Path(path), content)


def load_weights(model: nn.Module, path: Path | str) -> dict[str, Any]:
    """Put the weights of a file into a model; nothing in the file is executed.

    Args:
        model: Of the class and sizes the weights were saved from; changed in place, or not at all.
        path: A safetensors file of a `state_dict`.

    Returns:
        What was kept with the weights; empty if nothing was.

    Raises:
        RunError: There is no such file, or it is damaged.
        ModelError: The weights are those of another model; the first differences are named.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
            about = json.loads((file.metadata() or {}).get(ABOUT, "{}"))
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read as safetensors ({error}); expected a file of weights") from error
    state = _state(model)
    expected = {name: _described(value) for name, value in state.items()}
    found = {name: _described(value) for name, value in tensors.items()}
    if differing := sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name)):
        shown = "; ".join(f"{name}: file {found.get(name)}, model {expected.get(name)}" for name in differing[:3])
        raise ModelError(
            f"{path} does not fit {type(model).__name__}: {len(differing)} tensors differ ({shown}). Give the weights "
            "of this model"
        )
    # Converted first: what torch cannot convert must not show when half of the model has been changed.
    try:
        model.load_state_dict({name: value.to(state[name].dtype) for name, value in tensors.items()})
    except NotImplementedError as error:
        raise ModelError(f"{path} holds numbers that torch cannot convert ({error}). Convert them first") from error
    return dict(about) if isinstance(about, dict) else {}


def _state(model: nn.Module) -> dict[str, Tensor]:
    """A model's `state_dict`, of dense tensors with values and nothing else."""
    state: dict[str, Any] = model.state_dict()
    for name, value in state.items():
        if what := _unfit(value):
            raise ModelError(
                f"the state of {type(model).__name__} holds {what} at {name}; expected dense tensors. Leave it out of "
                "state_dict(), or run a lazy model once on an example"
            )
    return state


def _unfit(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    if is_lazy(value):
        return "a lazy tensor without a size yet"
    if value.is_meta:
        return "a tensor without values"
    return "" if value.layout is torch.strided else f"a tensor of {value.layout}"


def _described(value: Tensor) -> str:
    """Size and kind of number, but not its precision, which is converted."""
    kind = value.dtype
    if kind.is_floating_point:
        return f"{tuple(value.shape)}"
    words = "complex" if kind.is_complex else "bool" if kind is torch.bool else "integers"
    return f"{tuple(value.shape)} {words}"
