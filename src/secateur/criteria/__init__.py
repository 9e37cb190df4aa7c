"""Criteria: how much each unit matters. A criterion is a value, `Criterion(name, score, needs)`; higher scores stay."""

from secateur.criteria.combinators import normalized, weighted
from secateur.criteria.criterion import Criterion, Group, elementwise
from secateur.criteria.magnitude import magnitude
from secateur.criteria.random import random

__all__ = ["Criterion", "Group", "elementwise", "magnitude", "normalized", "random", "weighted"]
