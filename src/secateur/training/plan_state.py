"""A plan as part of a hook's state: its decisions, without the units, which the hook makes anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.errors import PlanError
from secateur.plan import Part, Plan
from secateur.units import Units


def plan_state(plan: Plan | None) -> dict[str, Any]:
    """The decisions of a plan.

    Args:
        plan: The plan, or None.

    Returns:
        A tree of tensors and plain values.
    """
    parts = plan.parts if plan else ()
    return {
        "planned": plan is not None,
        "keep": {part.name: part.keep for part in parts},
        "reasons": {part.name: part.reason for part in parts},
        "made_by": dict(plan.made_by) if plan else {},
    }


def plan_of(state: Mapping[str, Any], units: Mapping[str, Units]) -> Plan | None:
    """The plan again.

    Args:
        state: What `plan_state` returned; other keys are not looked at.
        units: The groups of the model.

    Returns:
        The plan, or None.

    Raises:
        PlanError: The state speaks of other groups.
    """
    if not state["planned"]:
        return None
    if set(state["keep"]) != set(units):
        raise PlanError(f"the state speaks of the groups {list(state['keep'])}, the model has {list(units)}")
    parts = tuple(Part(name, one, state["keep"][name], state["reasons"][name]) for name, one in units.items())
    return Plan(parts, made_by=dict(state["made_by"]))
