"""Secateur: prune any PyTorch model, and make the zeros pay.

Everything above makes a `Plan` (which units stay), everything below consumes one:

- what leaves together: `secateur.granularity`
- how much each unit matters: `secateur.criteria`
- how the budget is shared out: `secateur.allocation`
- what the smaller model takes: `secateur.workload` and `secateur.cost`
- all three in one value: `Pruner`, whose `plan(model, Budget(...))` makes a plan
- applied once: `mask`, or `shrink` to a smaller dense model, and `report` lays the two side by side
- while training: `GradualPruning` with one of `secateur.schedules`, in `finetune` or any loop
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from secateur.version import __version__ as __version__

if TYPE_CHECKING:
    from secateur import (
        allocation,
        cost,
        criteria,
        granularity,
        schedules,
        statistics,
        tasks,
        testing,
        training,
        workload,
    )
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
    from secateur.reporting.comparison import report
    from secateur.statistics import Statistics
    from secateur.statistics.calibrate import calibrate
    from secateur.surgery.saved import restore, save
    from secateur.surgery.shrink import shrink
    from secateur.tasks import Task
    from secateur.training.finetune import finetune
    from secateur.training.gradual import GradualPruning
    from secateur.units import ParameterAxis, Units, select
    from secateur.workload import Cost, Workload

__all__ = [
    "Budget",
    "BudgetError",
    "Cost",
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
    "Task",
    "Units",
    "UnknownNameError",
    "Workload",
    "allocation",
    "calibrate",
    "cost",
    "criteria",
    "finetune",
    "granularity",
    "mask",
    "report",
    "restore",
    "save",
    "schedules",
    "select",
    "shrink",
    "statistics",
    "tasks",
    "testing",
    "training",
    "workload",
]

# Imported when first used: the command line answers --help without waiting for torch.
_MODULES = (
    "allocation",
    "cost",
    "criteria",
    "granularity",
    "schedules",
    "statistics",
    "tasks",
    "testing",
    "training",
    "workload",
)
_HOME = {
    "budget": ("Budget",),
    "criteria": ("Criterion", "Group"),
    "errors": tuple(name for name in __all__ if name.endswith("Error")),
    "masking": ("mask",),
    "plan": ("Part", "Plan"),
    "pruner": ("Pruner",),
    "reporting": ("report",),
    "statistics": ("Statistics", "calibrate"),
    "surgery": ("restore", "save", "shrink"),
    "tasks": ("Task",),
    "training": ("GradualPruning", "finetune"),
    "units": ("ParameterAxis", "Units", "select"),
    "workload": ("Cost", "Workload"),
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"secateur.{name}")
    for module, names in _HOME.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"secateur.{module}"), name)
            return value
    raise AttributeError(f"module 'secateur' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
