"""Cost models: from the shapes of what runs to what that takes, `CostModel = Callable[[Workload], Cost]`."""

from secateur.cost.macs import macs
from secateur.cost.parameters import parameters

__all__ = ["macs", "parameters"]
