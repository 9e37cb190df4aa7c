"""Plan: which units stay, what the weights become, and where that came from. The waist of the library."""

from secateur.plan.part import Part
from secateur.plan.plan import Plan

__all__ = ["Part", "Plan"]
