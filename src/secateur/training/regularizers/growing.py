"""Growing regularisation: an L2 penalty on what is to leave, which gets stronger step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce

import torch
from torch import Tensor, nn

from secateur.errors import PlanError, RunError
from secateur.plan import Plan
from secateur.training.regularizers.penalised import parameter_of
from secateur.units import Units


@dataclass(frozen=True, eq=False)
class Growing:
    """What `growing` returns: a function of a model and a step.

    Args:
        penalised: For each parameter a bool tensor of its shape, True where it is penalised.
        delta: By how much the strength grows.
        every: After how many steps it grows.
        ceiling: The strength at which it stays.

    Raises:
        RunError: A number is out of range.
    """

    penalised: Mapping[str, Tensor] = field(repr=False)
    delta: float
    every: int
    ceiling: float

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            RunError: A number is out of range.
        """
        for name, value in (("delta", self.delta), ("ceiling", self.ceiling)):
            if not 0 < value < math.inf:
                raise RunError(f"{name} of a growing penalty is {value}; expected a number above 0. Try 1e-4, up to 1")
        if self.every < 1:
            raise RunError(f"a growing penalty grows every {self.every} steps; expected 1 or more. Try every=5")

    @property
    def steps(self) -> int:
        """The first step at which the ceiling is reached, `(ceil(ceiling / delta) - 1) * every`."""
        rises = math.ceil(self.ceiling / self.delta * (1 - 1e-12))  # 1.0 / 1e-4 may round to a little above 10000
        return (rises - 1) * self.every

    def strength(self, step: int) -> float:
        """The factor lambda at a step.

        Args:
            step: Counted from 0.

        Returns:
            `min(ceiling, delta * (floor(step / every) + 1))`.
        """
        return self.ceiling if step >= self.steps else self.delta * (step // self.every + 1)

    def __call__(self, model: nn.Module, step: int) -> Tensor:
        """The penalty at a step.

        Args:
            model: The model that the plan or the units were made for.
            step: Counted from 0.

        Returns:
            A scalar to add to the loss.

        Raises:
            PlanError: It is another model.
        """
        sums = [
            parameter_of(model, name, tuple(chosen.shape))[chosen].square().sum()
            for name, chosen in self.penalised.items()
        ]
        return 0.5 * self.strength(step) * torch.stack(sums).sum()


def growing(what: Plan | Mapping[str, Units], *, delta: float = 1e-4, every: int = 5, ceiling: float = 1.0) -> Growing:
    r"""L2 on all weights that are to leave, whose strength grows step by step until they are as good as zero.

    .. math:: R(s) = \frac{\lambda_s}{2} \sum_{w \in \mathrm{removed}} w^2, \qquad
        \lambda_s = \min(\tau, \delta \, (\lfloor s / K \rfloor + 1))

    with s the step, K = `every` and tau = `ceiling`. Its gradient is lambda_s * w: a weight that the loss does not hold
    shrinks by 1 - r * lambda_s a step of plain SGD at rate r. What a small penalty would take back at every step is
    given time to move into the weights that stay, so little is lost when the others go at the end.

    Everything that leaves with a unit is penalised, scale and shift of its norm too: behind a batch norm the size of a
    filter alone makes no difference. In a loop of one's own add `growing(plan)(model, step)` to the loss;
    `GrowingRegularization` is the hook that counts steps, chooses, and removes at the end.

    Args:
        what: A plan: what it removes. Or groups of units, as a granularity returns them: all that is free to leave.
        delta: By how much the strength grows, above 0.
        every: After how many steps it grows.
        ceiling: The strength at which it stays, above 0. The rate times it has to stay below 2, or steps overshoot.

    Returns:
        A frozen value: a function of a model and a step.

    Raises:
        RunError: A number is out of range.
        PlanError: Nothing is penalised: the plan removes nothing, or all groups are frozen.

    Shapes:
        The removed entries of parameters of any shape to a scalar.

    Reference:
        Wang, Qin, Zhang, Fu (2021), Neural Pruning via Growing Regularization, section 3, GReg-1; the defaults are
        those of the authors' code for ImageNet.

    Example:
        The second of two weights leaves; its square is 16, the strength 0.1 at first and 0.3 at most.

        >>> from secateur import granularity
        >>> from secateur.plan import Part
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, -4.0]]))
        >>> plan = Plan((Part("weight", granularity.weight()(layer)["weight"], torch.tensor([True, False])),))
        >>> penalty = growing(plan, delta=0.1, every=2, ceiling=0.3)
        >>> [round(penalty(layer, step).item(), 4) for step in range(6)]
        [0.8, 0.8, 1.6, 1.6, 2.4, 2.4]
    """
    penalised = _removed(what) if isinstance(what, Plan) else _free(what)
    if not penalised:
        raise PlanError(
            "nothing is penalised: the plan removes nothing, or every group is frozen; expected at least one unit that "
            "leaves. Raise the budget, or exclude less"
        )
    return Growing(penalised, delta, every, ceiling)


def _removed(plan: Plan) -> dict[str, Tensor]:
    return {name: ~kept for name, kept in plan.masks().items()}


def _free(groups: Mapping[str, Units]) -> dict[str, Tensor]:
    """All weights of all units that may leave."""
    found: dict[str, list[Tensor]] = {}
    for units in groups.values():
        if not units.frozen:
            for axis, kept in units.expand(torch.zeros(units.n_units, dtype=torch.bool)).items():
                found.setdefault(axis.parameter, []).append(~kept)
    return {name: reduce(torch.logical_or, parts) for name, parts in found.items()}
