"""What the tests share: how hypothesis searches, a seeded generator, and a data set."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.fashion_data import fashion_mnist  # noqa: F401  a fixture

# The same examples on every run and every machine. Time is no criterion: machines are shared.
settings.register_profile(
    "deterministic",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("deterministic")


@pytest.fixture(autouse=True)
def seeded() -> Iterator[torch.Generator]:
    """Seed torch's global generator for every test, hand out one of the test's own, and restore afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield torch.Generator().manual_seed(0)
