"""Trained models and their data, where they are on this machine; tests that need them skip, with the way to them."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from secateur.errors import DataError
from secateur.tasks.data import SOURCES, locate


def needed(*sources: str) -> None:
    """Skip unless transformers is installed and these sources are fetched."""
    if any(find_spec(name) is None for name in ("transformers", "gguf", "accelerate")):
        pytest.skip("the extra `language` is not installed: pip install 'secateur[language]'")
    for name in sources:
        try:
            locate(SOURCES[name])
        except DataError as error:
            pytest.skip(str(error))
