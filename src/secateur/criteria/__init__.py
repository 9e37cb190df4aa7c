"""Criteria: how much each unit matters. A criterion is a value, `Criterion(name, score, needs)`; higher scores stay."""

from secateur.criteria.combinators import normalized, weighted
from secateur.criteria.criterion import Criterion, Group, elementwise
from secateur.criteria.magnitude import magnitude
from secateur.criteria.movement import movement
from secateur.criteria.obd import obd
from secateur.criteria.random import random
from secateur.criteria.snip import snip
from secateur.criteria.taylor import taylor

__all__ = [
    "Criterion",
    "Group",
    "elementwise",
    "magnitude",
    "movement",
    "normalized",
    "obd",
    "random",
    "snip",
    "taylor",
    "weighted",
]
