"""Parameters."""

from __future__ import annotations

from secateur.recipe import Recipe
from secateur.workload import Cost, CostModel, Workload


def parameters() -> CostModel:
    """How many numbers the parameters of a model have, each shared one counted once, without buffers.

    Returns:
        CostModel: a workload's `Cost(parameters=...)`.

    Example:
        >>> import torch
        >>> from secateur.workload import workload
        >>> parameters()(workload(torch.nn.Linear(3, 2), torch.zeros(1, 3))).parameters
        8
    """
    return Recipe("parameters", _parameters)


def _parameters(workload: Workload) -> Cost:
    return Cost(parameters=workload.parameter_count)
