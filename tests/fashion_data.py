"""Fashion-MNIST, where it is on this machine; the tests that need it skip where it is not, with the way to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from secateur.errors import DataError
from secateur.tasks.data import SOURCES, locate


@pytest.fixture(scope="session")
def fashion_mnist() -> Path:
    """The folder of the four files."""
    try:
        return locate(SOURCES["fashion-mnist"])
    except DataError as error:
        pytest.skip(str(error))
