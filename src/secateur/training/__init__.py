"""Training with pruning in it: fine-tuning that can be stopped, regularizers, saved state."""

from secateur.state import load_state, save_state
from secateur.training import rates
from secateur.training.checkpoint import History
from secateur.training.distill import distill
from secateur.training.dropout import adjusted_dropout
from secateur.training.finetune import finetune, sgd
from secateur.training.gradual import GradualPruning
from secateur.training.growing_regularization import GrowingRegularization
from secateur.training.hook import TrainingHook
from secateur.training.keep_zeros import KeepZeros
from secateur.training.regularizers import (
    ALL_NORMS,
    BATCH_NORMS,
    Growing,
    Regularizer,
    bn_l1,
    group_lasso,
    growing,
    l1,
    l2,
    polarization,
    smooth_l1,
    undecayed,
)
from secateur.training.rewinding import rewind

__all__ = [
    "ALL_NORMS",
    "BATCH_NORMS",
    "GradualPruning",
    "Growing",
    "GrowingRegularization",
    "History",
    "KeepZeros",
    "Regularizer",
    "TrainingHook",
    "adjusted_dropout",
    "bn_l1",
    "distill",
    "finetune",
    "group_lasso",
    "growing",
    "l1",
    "l2",
    "load_state",
    "polarization",
    "rates",
    "rewind",
    "save_state",
    "sgd",
    "smooth_l1",
    "undecayed",
]
