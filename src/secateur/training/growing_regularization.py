"""Growing regularisation while training: push out what is to leave, then remove it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from secateur.budget import Budget
from secateur.criteria import Criterion
from secateur.errors import DataError, ModelError, PlanError, RunError
from secateur.plan import Plan
from secateur.pruner import Pruner
from secateur.statistics import Statistics
from secateur.training.keep_zeros import KeepZeros
from secateur.training.plan_state import plan_of, plan_state
from secateur.training.regularizers.growing import Growing, growing


class GrowingRegularization:
    r"""Chooses what leaves, pushes it towards zero with a growing L2 penalty, and removes it when that is done.

    GReg-1, the default: the pruner chooses at the first step, by the weights as they are. From then on the gradient of
    everything that is to leave grows by `lambda * w`, with `lambda = min(ceiling, delta * (floor(step / every) + 1))`;
    when the ceiling is reached and `hold` more steps went by, it is removed and its zeros are kept.

    GReg-2, with `pick_ceiling` above 0: first all that is free to leave is penalised alike, with a strength that grows
    by `pick_delta` up to `pick_ceiling`; only then the pruner chooses. Under one and the same penalty the weights that
    the loss holds with a larger curvature h shrink less, by h / (h + lambda) near a minimum, so magnitude then sees the
    curvature. The paper also pushes the weights that stay outwards, with a small negative penalty; that is left out.

    ```python
    loss.backward()
    hook.observe()  # adds the gradient of the penalty, whatever the optimizer
    optimizer.step()
    hook.step()
    ```

    The penalty goes into the gradients and not into the loss, so the losses that are reported are those of the data.

    Args:
        model: The model, trained and pruned in place.
        pruner: Its method is a criterion, usually `magnitude`.
        budget: How much leaves; None where the granularity fixes it.
        delta: By how much the strength grows.
        every: After how many steps it grows.
        ceiling: The strength at which it stays.
        hold: More steps at the ceiling before the removal; the authors' code for ImageNet takes 40,000.
        pick_delta: By how much the strength grows while all is penalised alike.
        pick_ceiling: Up to which strength all is penalised alike, 0: not at all; the authors take 0.01.
        statistics: For criteria that need some.

    Raises:
        ModelError: The pruner's method is not a criterion.
        DataError: The criterion needs statistics, and there are none.
        RunError: A number is out of range.

    Shapes:
        Gradients and masks of the shapes of the parameters, units `(n_units,)` of each group.

    Reference:
        Wang, Qin, Zhang, Fu (2021), Neural Pruning via Growing Regularization, section 3, GReg-1 and GReg-2.

    Example:
        The smaller of two weights leaves: 1 - 0.25 * 1 = 0.75, then 0.75 - 0.5 * 0.75, at the ceiling, and out.

        >>> from secateur import allocation, criteria, granularity
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[2.0, 1.0]]))
        >>> pruner = Pruner(criteria.magnitude(), granularity.weight(), allocation.uniform())
        >>> hook = GrowingRegularization(model, pruner, Budget(sparsity=0.5), delta=0.25, every=1, ceiling=0.5)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        >>> for _ in range(3):
        ...     optimizer.zero_grad()
        ...     hook.observe()
        ...     optimizer.step()
        ...     hook.step()
        ...     print(model.weight.tolist(), hook.settled)
        [[2.0, 0.75]] False
        [[2.0, 0.0]] True
        [[2.0, 0.0]] True
    """

    def __init__(
        self,
        model: nn.Module,
        pruner: Pruner,
        budget: Budget | None,
        *,
        delta: float = 1e-4,
        every: int = 5,
        ceiling: float = 1.0,
        hold: int = 0,
        pick_delta: float = 1e-5,
        pick_ceiling: float = 0.0,
        statistics: Statistics | None = None,
    ) -> None:
        """Look at the model and the pruner; nothing is chosen yet.

        Raises:
            ModelError: The pruner's method is not a criterion.
            DataError: The criterion needs statistics, and there are none.
            RunError: A number is out of range.
        """
        _check(pruner, statistics, hold, pick_ceiling)
        self.model, self.pruner, self.budget = model, pruner, budget
        self._statistics, self._hold = statistics, hold
        self._growth = Growing({}, delta, every, ceiling)
        self._units = pruner.groups(model)
        self._alike: Growing | None = None
        if pick_ceiling:
            self._alike = growing(self._units, delta=pick_delta, every=every, ceiling=pick_ceiling)
        self._count = 0
        self._chosen: Plan | None = None
        self._penalty: Growing | None = None
        self._held: KeepZeros | None = None

    @property
    def plan(self) -> Plan | None:
        """The plan in force; None before the removal."""
        return self._held.plan if self._held else None

    @property
    def chosen(self) -> Plan | None:
        """What is being pushed out, or was; None before it is chosen."""
        return self._chosen

    @property
    def steps(self) -> int:
        """How often `step` was called."""
        return self._count

    @property
    def settled(self) -> bool:
        """Whether what was chosen is removed."""
        return self._held is not None

    @property
    def strength(self) -> float:
        """The strength of the penalty at the next step; 0 after the removal."""
        if self._held:
            return 0.0
        if self._alike and self._count < self._begin:
            return self._alike.strength(self._count)
        return self._growth.strength(self._count - self._begin)

    @property
    def _begin(self) -> int:
        """The step at which the pruner chooses: after the first one at the ceiling of the common penalty."""
        return self._alike.steps + self._alike.every if self._alike else 0

    def observe(self) -> None:
        """Add the gradient of the penalty: after `backward()` (and unscaling), before `optimizer.step()`.

        After the removal: take the gradients of removed weights away.
        """
        if self._held:
            self._held.observe()
            return
        if self._alike and self._count < self._begin:
            self._push(self._alike, self._count)
            return
        if self._penalty is None:
            self._choose()
        if self._penalty is not None:
            self._push(self._penalty, self._count - self._begin)

    def step(self) -> None:
        """Count a step; remove what was chosen when it is time, and keep its zeros: after `optimizer.step()`."""
        self._count += 1
        if self._held:
            self._held.step()
        elif self._penalty and self._chosen and self._count > self._begin + self._penalty.steps + self._hold:
            self._held = KeepZeros(self.model, self._chosen)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on: step, choice, whether it is removed.

        Returns:
            A tree of tensors and plain values.
        """
        return {"step": self._count, "removed": self.settled, **plan_state(self._chosen)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Args:
            state: What `state_dict` returned.

        Raises:
            PlanError: It was taken from another model or granularity, or is no state; the hook is as it was then.
        """
        try:
            plan, count, removed = plan_of(state, self._units), int(state["step"]), bool(state["removed"])
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise PlanError(f"this is no state of a GrowingRegularization ({type(error).__name__}: {error})") from error
        penalty = self._grown(plan) if plan else None
        held = KeepZeros(self.model, plan) if plan and removed else None
        self._count, self._chosen, self._penalty, self._held = count, plan, penalty, held

    def _choose(self) -> None:
        plan = self.pruner.plan(self.model, self.budget, statistics=self._statistics, units=self._units)
        self._penalty, self._chosen = self._grown(plan), plan

    def _grown(self, plan: Plan) -> Growing:
        return growing(plan, delta=self._growth.delta, every=self._growth.every, ceiling=self._growth.ceiling)

    def _push(self, penalty: Growing, step: int) -> None:
        """The gradient by itself, so that what averages gradients over ranks does not see a second backward pass."""
        parameters = [parameter for name, parameter in self.model.named_parameters() if name in penalty.penalised]
        free = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter, slope in zip(free, torch.autograd.grad(penalty(self.model, step), free), strict=True):
            parameter.grad = slope if parameter.grad is None else parameter.grad + slope


def _check(pruner: Pruner, statistics: Statistics | None, hold: int, pick_ceiling: float) -> None:
    if not isinstance(pruner.method, Criterion):
        raise ModelError(
            "GrowingRegularization takes criteria only: a method that mends weights is planned once, then fine-tuned"
        )
    missing = pruner.method.needs - set(statistics.values if statistics else ())
    if missing:
        raise DataError(f"{pruner.method.name} needs {sorted(missing)}: pass statistics=calibrate(...)")
    if hold < 0:
        raise RunError(f"hold is {hold}; expected 0 or more steps. Change this argument")
    if not 0 <= pick_ceiling < math.inf:
        raise RunError(f"pick_ceiling is {pick_ceiling}; expected 0, or a number above 0. Try 0.01")
