"""Secateur: prune any PyTorch model, and make the zeros pay.

Everything above makes a `Plan` (which units stay), everything below consumes one:

- what leaves together: `secateur.granularity`
- how much each unit matters: `secateur.criteria`
- how the budget is shared out: `secateur.allocation`
- all three in one value: `Pruner`, whose `plan(model, Budget(...))` makes a plan
- applied once: `mask`; while training: `GradualPruning` with one of `secateur.schedules`, in `finetune` or any other
loop
"""

from secateur import allocation, criteria, granularity, schedules, statistics, tasks, training
from secateur.budget import Budget
from secateur.criteria import Criterion, Group
from secateur.errors import (
    BudgetError,
    DataError,
    ModelError,
    PlanError,
    RunError,
    SecateurError,
    UnknownNameError,
)
from secateur.masking import mask
from secateur.plan import Part, Plan
from secateur.pruner import Pruner
from secateur.statistics import Statistics, calibrate
from secateur.training import GradualPruning, finetune
from secateur.units import ParameterAxis, Units, select

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "BudgetError",
    "Criterion",
    "DataError",
    "GradualPruning",
    "Group",
    "ModelError",
    "ParameterAxis",
    "Part",
    "Plan",
    "PlanError",
    "Pruner",
    "RunError",
    "SecateurError",
    "Statistics",
    "Units",
    "UnknownNameError",
    "allocation",
    "calibrate",
    "criteria",
    "finetune",
    "granularity",
    "mask",
    "schedules",
    "select",
    "statistics",
    "tasks",
    "training",
]
