"""A model's weights as a plain safetensors file, which any other tool reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensor_bytes
from torch import nn

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
        RunError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_weights(nn.Linear(2, 1), Path(folder, "w.safetensors"), {"epochs": 3})
        ...     load_weights(nn.Linear(2, 1), Path(folder, "w.safetensors"))
        {'epochs': 3}
    """
    # A copy of each: safetensors refuses tensors that share memory, or whose memory is in another order.
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }
    atomic_write(Path(path), tensor_bytes(tensors, {ABOUT: json.dumps(dict(about))} if about else None))


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
    except (OSError, SafetensorError, ValueError) as error:
        raise RunError(f"{path} cannot be read as safetensors ({error}); expected a file of weights") from error
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if differing := sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name)):
        shown = "; ".join(f"{name}: file {found.get(name)}, model {expected.get(name)}" for name in differing[:3])
        raise ModelError(
            f"{path} does not fit {type(model).__name__}: {len(differing)} tensors differ ({shown}). Give the weights "
            "of this model"
        )
    model.load_state_dict(tensors)
    return dict(about) if isinstance(about, dict) else {}
