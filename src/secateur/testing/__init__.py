"""Conformance checks for criteria and granularities of your own: each states the laws, and names the one broken."""

from secateur.testing.common import ConformanceError, ExampleNet
from secateur.testing.criterion import check_criterion
from secateur.testing.granularity import check_granularity

__all__ = ["ConformanceError", "ExampleNet", "check_criterion", "check_granularity"]
