"""Statistics: what a criterion may want to know beside the weights, collected from data in one streaming pass."""

from secateur.statistics.batch import Batch, running_again
from secateur.statistics.calibrate import COLLECTORS, Collector, calibrate
from secateur.statistics.curvature_empirical_fisher import EmpiricalFisher
from secateur.statistics.curvature_exact import Exact
from secateur.statistics.curvature_hutchinson import Hutchinson, HutchinsonGGN
from secateur.statistics.curvature_monte_carlo import MonteCarlo
from secateur.statistics.curvature_recursion import FullRecursion, Recursion
from secateur.statistics.values import Statistics

__all__ = [
    "COLLECTORS",
    "Batch",
    "Collector",
    "EmpiricalFisher",
    "Exact",
    "FullRecursion",
    "Hutchinson",
    "HutchinsonGGN",
    "MonteCarlo",
    "Recursion",
    "Statistics",
    "calibrate",
    "running_again",
]
