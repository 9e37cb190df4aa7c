"""A plan held while a model trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from secateur.masking import mask, tensor_of, zero
from secateur.plan import Plan


class KeepZeros:
    """Applies a plan to a model and keeps its zeros zero while any loop trains it; `finetune(plan=...)` uses it.

    `w <- M * w` after every step of the optimizer, whatever momentum, weight decay or an adaptive optimizer did;
    removed weights get no gradient, so that they count neither in a clipped norm nor in an optimizer's moments. The
    plan is all there is: nothing is hung on the model, and there is no state to save.

    Args:
        model: The model, masked in place.
        plan: What is removed.

    Raises:
        PlanError: The plan does not fit the model.

    Shapes:
        M and w have the shape of the parameter.

    Reference:
        Han et al. (2015), Learning both Weights and Connections, section 3: the weights that stay are retrained,
        the others stay zero.

    Example:
        >>> import torch
        >>> from secateur import granularity
        >>> from secateur.plan import Part
        >>> model = nn.Linear(2, 1, bias=False)
        >>> part = Part("weight", granularity.weight()(model)["weight"], torch.tensor([True, False]))
        >>> held = KeepZeros(model, Plan((part,)))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> model(torch.ones(1, 2)).sum().backward()
        >>> held.observe()
        >>> optimizer.step()
        >>> held.step()
        >>> model.weight.detach()[0, 1], model.weight.grad
        (tensor(0.), tensor([[1., 0.]]))
    """

    settled = True

    def __init__(self, model: nn.Module, plan: Plan) -> None:
        """Mask the model.

        Raises:
            PlanError: The plan does not fit the model.
        """
        mask(model, plan, inplace=True)
        self.model, self.plan = model, plan
        self._removed = {name: ~kept.to(tensor_of(model, name).device) for name, kept in plan.masks().items()}

    def observe(self) -> None:
        """Take the gradients of removed weights away: after `backward()`, before `optimizer.step()`."""
        for name, gone in self._removed.items():
            gradient = tensor_of(self.model, name).grad
            if gradient is not None:
                gradient.masked_fill_(gone, 0)

    def step(self) -> None:
        """Set removed weights to zero: after `optimizer.step()`."""
        zero(self.model, self._removed)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the plan is given anew.

        Returns:
            An empty dict.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set removed weights to zero in whatever weights were loaded.

        Args:
            state: Not looked at.
        """
        del state
        self.step()
