"""Allocations: how a sparsity of the whole is shared out among the groups."""

from secateur.allocation.erdos_renyi import erdos_renyi
from secateur.allocation.fixed import fixed
from secateur.allocation.global_ranking import global_
from secateur.allocation.lamp import lamp
from secateur.allocation.scored import Allocation, Scored
from secateur.allocation.uniform import uniform

__all__ = ["Allocation", "Scored", "erdos_renyi", "fixed", "global_", "lamp", "uniform"]
