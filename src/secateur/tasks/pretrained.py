"""Trained models of the transformers library, which is wanted only where a task has one."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from secateur.errors import DataError


def transformers_for(task: str, *also: str) -> Any:
    """The transformers library.

    Args:
        task: Who needs it, for the message.
        *also: What the task needs beside it.

    Returns:
        The module.

    Raises:
        DataError: It is not installed, or another of these is not.
    """
    try:
        for name in also:
            import_module(name)
        return import_module("transformers")
    except ImportError as error:
        raise DataError(
            f"the task {task} needs {error.name}: pip install 'secateur[language]', which brings transformers, gguf "
            "and accelerate"
        ) from error
