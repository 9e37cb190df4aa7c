"""Dropout for a pruned network: less capacity needs less of it."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from secateur.batches import call, device_of, mode, to_device
from secateur.errors import ModelError
from secateur.masking import check_fits
from secateur.plan import Plan


@contextmanager
def adjusted_dropout(model: nn.Module, plan: Plan, example: Any) -> Generator[Mapping[str, float], None, None]:
    r"""Lower the rates of dropout while a pruned network is trained.

    .. math:: D_r = D_o \sqrt{C_{ir} / C_{io}}

    with C_io the connections of the layer that feeds the dropout, C_ir those that the plan leaves. The layer is the
    last one of the plan that runs before the dropout, as seen in a forward pass on the example, also if it keeps all
    of them; a dropout before the first stays as it is, and one that is used several times goes by its last use.

    Args:
        model: Its rates are changed inside the `with` block, and put back after it.
        plan: What is removed.
        example: Inputs of a batch.

    Yields:
        The rates in force, by name of the dropout.

    Raises:
        ModelError: No dropout of the model is fed by a layer of the plan.
        PlanError: The plan does not fit the model.

    Shapes:
        C counts entries of the weight `(O, I, h, w)` of a layer; a rate is a number.

    Reference:
        Han et al. (2015), Learning both Weights and Connections for Efficient Neural Networks, section 3.2, equation 2.

    Example:
        Three of four connections go, so the rate is halved.

        >>> from secateur import granularity
        >>> from secateur.plan import Part
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        >>> units = granularity.weight()(model)
        >>> plan = Plan((Part("0", units["0"], torch.tensor([True, False, False, False])),))
        >>> with adjusted_dropout(model, plan, torch.zeros(1, 2)) as rates:
        ...     rates, model[1].p
        ({'1': 0.25}, 0.25)
        >>> model[1].p
        0.5
    """
    check_fits(model, plan)
    left = _left(plan)
    drops = {name: module for name, module in model.named_modules() if isinstance(module, _DropoutNd)}
    feeding = _feeding(model, set(left), set(drops), example)
    if not feeding:
        raise ModelError(
            f"no dropout of {type(model).__name__} is fed by a layer of the plan; expected a module such as nn.Dropout "
            "after one. Leave the adjustment out"
        )
    before = {name: drops[name].p for name in feeding}
    try:
        for name, parameter in feeding.items():
            drops[name].p = before[name] * math.sqrt(left[parameter])
        yield {name: drops[name].p for name in feeding}
    finally:
        for name, rate in before.items():
            drops[name].p = rate


def _left(plan: Plan) -> dict[str, float]:
    """The fraction of the connections that stay, for every weight of the plan."""
    masks = plan.masks()  # without those that stay whole
    weights = [axis.parameter for part in plan.parts for axis, role in part.units.role.items() if role in ("out", "in")]
    return {name: float(masks[name].double().mean()) if name in masks else 1.0 for name in weights}


def _feeding(model: nn.Module, parameters: set[str], drops: set[str], example: Any) -> dict[str, str]:
    """The parameter of the plan that was last used before each dropout."""
    found: dict[str, str] = {}
    last: list[str] = []

    def note(name: str) -> Any:
        def hook(*_: Any) -> None:
            if name in drops and last:
                found[name] = last[-1]
            last.extend(sorted(own for own in parameters if own.rpartition(".")[0] == name))

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in model.named_modules()]
    try:
        with mode(model, training=False), torch.no_grad():
            call(model, to_device(example, device_of(model)))
    finally:
        for handle in handles:
            handle.remove()
    return found
