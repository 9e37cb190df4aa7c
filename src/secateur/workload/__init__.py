"""Workloads: the shapes of what runs, before and after channels leave, without running anything."""

from secateur.workload.layer import Kind, Layer, Workload
from secateur.workload.origins import Extent
from secateur.workload.price import Cost, CostModel
from secateur.workload.resize import resize
from secateur.workload.trace import from_solution, workload

__all__ = ["Cost", "CostModel", "Extent", "Kind", "Layer", "Workload", "from_solution", "resize", "workload"]
