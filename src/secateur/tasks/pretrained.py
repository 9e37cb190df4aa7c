"""Trained models of the transformers library, which is wanted only where a task has one."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from secateur.errors import DataError


def transformers_for(task: str) -> Any:
    """The transformers library, and what it reads files with.

    Args:
        task: Who needs it, for the message.

    Returns:
        The module.

    Raises:
        DataError: It is not installed, or gguf or accelerate is not.
    """
    try:
        for name in ("gguf", "accelerate"):
            import_module(name)
        return import_module("transformers")
    except ImportError as error:
        raise DataError(
            f"the task {task} needs {error.name}: pip install 'secateur[language]', which brings transformers, gguf "
            "and accelerate"
        ) from error
