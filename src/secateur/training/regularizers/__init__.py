"""Penalties that push weights, scales of norms, or whole units towards zero during training: one file each."""

from secateur.training.regularizers.group_lasso import group_lasso
from secateur.training.regularizers.l1 import l1
from secateur.training.regularizers.l2 import l2
from secateur.training.regularizers.regularizer import Regularizer
from secateur.training.regularizers.undecayed import undecayed

__all__ = [
    "Regularizer",
    "group_lasso",
    "l1",
    "l2",
    "undecayed",
]
