"""Penalties that push weights, scales of norms, or whole units towards zero during training: one file each."""

from secateur.training.regularizers.bn_l1 import bn_l1
from secateur.training.regularizers.group_lasso import group_lasso
from secateur.training.regularizers.growing import Growing, growing
from secateur.training.regularizers.l1 import l1
from secateur.training.regularizers.l2 import l2
from secateur.training.regularizers.penalised import ALL_NORMS, BATCH_NORMS
from secateur.training.regularizers.polarization import polarization
from secateur.training.regularizers.regularizer import Regularizer
from secateur.training.regularizers.smooth_l1 import smooth_l1
from secateur.training.regularizers.undecayed import undecayed

__all__ = [
    "ALL_NORMS",
    "BATCH_NORMS",
    "Growing",
    "Regularizer",
    "bn_l1",
    "group_lasso",
    "growing",
    "l1",
    "l2",
    "polarization",
    "smooth_l1",
    "undecayed",
]
