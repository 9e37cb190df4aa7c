"""Weight rewinding: the weights that stay go back to what they were early in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from secateur.errors import ModelError
from secateur.masking import check_fits, zero
from secateur.plan import Plan


def rewind(model: nn.Module, early: Mapping[str, Tensor], plan: Plan) -> None:
    """Put a model back to an earlier state of its own training, and remove what a plan removes: `w <- M * w_early`.

    With the state of step 0 this is the lottery ticket's initialisation; with one a little later it is what large
    networks need. Train on with `rates.rewound` of the dense run's rate from that epoch on. (To keep the weights and
    rewind the learning rate only, leave this function out.)

    Args:
        model: Changed in place: parameters and buffers.
        early: Its `state_dict` at that time.
        plan: What is removed, decided on the trained weights; new values that it has for weights are left out.

    Raises:
        ModelError: The state is that of another model, which is untouched then.
        PlanError: The plan does not fit the model, which is untouched then.

    Shapes:
        Every value of `early` has the shape of the parameter or buffer of its name.

    Reference:
        Frankle, Carbin (2019), The Lottery Ticket Hypothesis, section 1; Frankle, Dziugaite, Roy, Carbin (2020), Linear
        Mode Connectivity and the Lottery Ticket Hypothesis, section 4; Renda, Frankle, Carbin (2020), Comparing
        Rewinding and Fine-tuning in Neural Network Pruning.

    Example:
        >>> import torch
        >>> import secateur as sc
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[0.3, 0.2]]))
        >>> early = {name: value.clone() for name, value in model.state_dict().items()}
        >>> _ = model.weight.data.copy_(torch.tensor([[0.1, 0.9]]))  # after training, the second is larger
        >>> pruner = sc.Pruner(sc.criteria.magnitude(), sc.granularity.weight(), sc.allocation.uniform())
        >>> rewind(model, early, pruner.plan(model, sc.Budget(sparsity=0.5)))
        >>> model.weight.detach()
        tensor([[0.0000, 0.2000]])
    """
    now, then = _shapes(model.state_dict()), _shapes(early)
    if differing := sorted(name for name in {*now, *then} if now.get(name) != then.get(name)):
        shown = "; ".join(f"{name}: {then.get(name, 'none')}, model {now.get(name, 'none')}" for name in differing[:3])
        raise ModelError(
            f"the earlier state is not one of this {type(model).__name__}: {len(differing)} entries differ ({shown}). "
            "Give its own `state_dict` of an earlier time"
        )
    check_fits(model, plan)
    model.load_state_dict(early)
    zero(model, {name: ~kept for name, kept in plan.masks().items()})


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...] | str]:
    # a module's extra state may be anything
    return {name: tuple(value.shape) if isinstance(value, Tensor) else "no tensor" for name, value in state.items()}
