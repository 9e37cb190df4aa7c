"""Pruning while training: the one object of the library that has state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from secateur import schedules
from secateur.batches import device_of
from secateur.budget import Budget
from secateur.criteria import Criterion
from secateur.errors import DataError, ModelError, PlanError
from secateur.plan import Plan
from secateur.pruner import Pruner
from secateur.schedules import Schedule
from secateur.statistics import COLLECTORS, Statistics
from secateur.statistics.gradient import OfGradients
from secateur.statistics.taylor import TaylorGroups
from secateur.training.keep_zeros import KeepZeros
from secateur.training.plan_state import plan_of, plan_state
from secateur.units import Units

OBSERVED = frozenset({"gradient", "squared_gradient", "movement", "taylor_groups", "taylor_gates"})
"""Statistics that training itself yields, each step being a batch."""


class GradualPruning:
    """Prunes a model along a schedule while any loop trains it, and keeps zeros zero.

    At the steps where the schedule names a fraction f, the pruner makes a new plan for that fraction of the budget;
    what was removed stays removed. After every step of the optimizer the removed weights are set to zero again,
    whatever momentum, weight decay or an adaptive optimizer did to them: `w <- M_t * w`, `M_t = plan(f(t) * budget)`.
    The model itself stays plain: nothing is hung on it.

    ```python
    loss.backward()
    hook.observe()  # removed weights get no gradient; what the criterion wants to know of gradients is added up
    optimizer.step()
    hook.step()
    ```

    Args:
        model: The model, pruned in place. With a schedule that starts at step 0, it is pruned at the first `step`.
        pruner: Its method is a criterion: a method that mends weights together cannot be repeated while they train.
        budget: The final one; None where the granularity fixes it.
        schedule: From step number to fraction of the budget.
        statistics: For criteria that need more than gradients.

    Raises:
        ModelError: The pruner's method is not a criterion.
        DataError: The criterion needs statistics that training does not yield.

    Shapes:
        Masks of the shapes of the parameters, units `(n_units,)` of each group.

    Reference:
        Zhu, Gupta (2018), To Prune, or Not to Prune; Han et al. (2015), Learning both Weights and Connections.

    Example:
        >>> from secateur import allocation, criteria, granularity
        >>> model = nn.Linear(4, 1, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
        >>> pruner = Pruner(criteria.magnitude(), granularity.weight(), allocation.uniform())
        >>> hook = GradualPruning(model, pruner, Budget(sparsity=0.5), schedules.linear(0, 2))
        >>> for _ in range(3):
        ...     hook.step()
        ...     print(model.weight.tolist(), hook.settled)
        [[4.0, 3.0, 2.0, 1.0]] False
        [[4.0, 3.0, 2.0, 0.0]] False
        [[4.0, 3.0, 0.0, 0.0]] True
    """

    def __init__(
        self,
        model: nn.Module,
        pruner: Pruner,
        budget: Budget | None,
        schedule: Schedule,
        *,
        statistics: Statistics | None = None,
    ) -> None:
        """Look at the model and the pruner; nothing is pruned yet.

        Raises:
            ModelError: The pruner's method is not a criterion.
            DataError: The criterion needs statistics that training does not yield.
        """
        if not isinstance(pruner.method, Criterion):
            raise ModelError(
                "GradualPruning takes criteria only: a method that mends weights is planned once, then fine-tuned"
            )
        missing = pruner.method.needs - OBSERVED - (statistics.kinds if statistics else frozenset())
        if missing:
            raise DataError(f"{pruner.method.name} needs {sorted(missing)}: pass statistics=calibrate(...)")
        self.model, self.pruner, self.budget, self.schedule = model, pruner, budget, schedule
        self._given = statistics
        self._units = pruner.groups(model)
        self._workload = pruner.workload(model) if budget is not None and budget.predicted else None
        self._count = 0
        self._held: KeepZeros | None = None
        wanted = pruner.method.needs - (statistics.kinds if statistics else frozenset())
        self._seen = {kind: _watching(kind, model, self._units) for kind in sorted(wanted)}
        self._observed = 0

    @property
    def plan(self) -> Plan | None:
        """The plan in force; None before the first one."""
        return self._held.plan if self._held else None

    @property
    def steps(self) -> int:
        """How often `step` was called."""
        return self._count

    @property
    def settled(self) -> bool:
        """Whether the schedule has reached its end: the final sparsity is in force."""
        return schedules.settled(self.schedule, self._count)

    def observe(self) -> None:
        """Look at the gradients: after `backward()` (and unscaling, if they are scaled), before `optimizer.step()`.

        Removed weights get no gradient, so that they count neither in a clipped norm nor in an optimizer's moments.
        """
        if self._held:
            self._held.observe()
        if self._seen:
            self._add()

    def step(self) -> None:
        """Go one step along the schedule and set what is removed to zero: after `optimizer.step()`."""
        fraction = self.schedule(self._count)
        if fraction is not None:
            self._held = KeepZeros(self.model, self._planned(fraction))
        elif self._held:
            self._held.step()
        self._count += 1

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on: step, decisions, averaged gradients.

        Returns:
            A tree of tensors and plain values, for `secateur.training.save_state`, or `torch.save`.
        """
        return {
            "step": self._count,
            **plan_state(self.plan),
            "gradients": dict(self._seen["gradient"].sums) if "gradient" in self._seen else {},
            "sums": {kind: dict(seen.sums) for kind, seen in self._seen.items() if kind != "gradient"},
            "observed": self._observed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; the removed weights of the model are set to zero.

        Args:
            state: What `state_dict` returned.

        Raises:
            PlanError: It was taken from another model or granularity, or is no state; the hook is as it was then.
        """
        try:
            plan = plan_of(state, self._units)
            count, observed = int(state["step"]), int(state["observed"])
            sums = {"gradient": state["gradients"], **state.get("sums", {})}
            shapes = {kind: {name: value.shape for name, value in of.items()} for kind, of in sums.items()}
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise PlanError(f"this is no state of a GradualPruning ({type(error).__name__}: {error})") from error
        foreign = [
            name for kind, of in shapes.items() for name, shape in of.items() if self._shapes(kind).get(name) != shape
        ]
        if foreign:
            raise PlanError(f"the state has gradients of {foreign[:5]}, which the model lacks or has in another shape")
        self._held = KeepZeros(self.model, plan) if plan else None
        self._count, self._observed = count, observed
        parameters, device = dict(self.model.named_parameters()), device_of(self.model)
        for kind, seen in self._seen.items():
            seen.count = observed
            seen.sums = {
                name: value.to(parameters[name].device if name in parameters else device, copy=True)
                for name, value in sums.get(kind, {}).items()
            }

    def _shapes(self, kind: str) -> dict[str, torch.Size]:
        """Of all that sums of a kind are kept for: parameters, or the units of groups."""
        if isinstance(self._seen.get(kind), TaylorGroups):
            return {name: torch.Size([units.n_units]) for name, units in self._units.items()}
        return {name: value.shape for name, value in self.model.named_parameters()}

    def _planned(self, fraction: float) -> Plan:
        statistics = self._statistics()
        plan = self.pruner.plan(
            self.model,
            self.budget,
            statistics=statistics,
            units=self._units,
            fraction=fraction,
            start=self.plan,
            workload=self._workload,
        )
        for seen in self._seen.values():
            if seen.restarts:
                seen.sums, seen.count = {}, 0
        self._observed = 0
        return plan

    def _add(self) -> None:
        """Add what the gradients of this step tell, in at least single precision."""
        named = self.model.named_parameters()
        gradients = {name: value.grad.detach() for name, value in named if value.grad is not None}
        for seen in self._seen.values():
            seen.take(gradients, 1)
        self._observed += 1

    def _statistics(self) -> Statistics | None:
        if not self._seen:
            return self._given
        if any(seen.count == 0 and not seen.sums for seen in self._seen.values()):
            raise DataError(
                "the criterion reads gradients and none were observed since the last plan: call hook.observe() after "
                "backward(), and start the schedule at step 1 or later"
            )
        found = [*([self._given] if self._given else []), *(seen.result() for seen in self._seen.values())]
        values = {kind: numbers for one in found for kind, numbers in one.values.items()}
        units = {kind: numbers for one in found for kind, numbers in one.units.items()}
        return Statistics(values, self._observed, units)


def _watching(kind: str, model: nn.Module, groups: Mapping[str, Units]) -> OfGradients:
    collector = COLLECTORS[kind]()
    collector.watch(model, {name: units for name, units in groups.items() if not units.frozen})
    return cast(OfGradients, collector)
