"""Statistics: what a criterion may want to know beside the weights, collected from data in one streaming pass."""

from secateur.statistics.calibrate import COLLECTORS, Collector, calibrate
from secateur.statistics.values import Statistics

__all__ = ["COLLECTORS", "Collector", "Statistics", "calibrate"]
