"""Criteria: how much each unit matters. A criterion is a value, `Criterion(name, score, needs)`; higher scores stay."""

from secateur.criteria.apoz import apoz
from secateur.criteria.bn_scale import bn_scale
from secateur.criteria.combinators import normalized, weighted
from secateur.criteria.criterion import Criterion, Group, elementwise
from secateur.criteria.fpgm import fpgm
from secateur.criteria.magnitude import magnitude
from secateur.criteria.random import random
from secateur.criteria.wanda import wanda

__all__ = [
    "Criterion",
    "Group",
    "apoz",
    "bn_scale",
    "elementwise",
    "fpgm",
    "magnitude",
    "normalized",
    "random",
    "wanda",
    "weighted",
]
