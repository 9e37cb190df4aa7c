"""Training with pruning in it: fine-tuning that can be stopped, regularizers, saved state."""

from secateur.state import load_state, save_state
from secateur.training import rates
from secateur.training.checkpoint import History
from secateur.training.distill import distill
from secateur.training.dropout import adjusted_dropout
from secateur.training.finetune import finetune, sgd
from secateur.training.gradual import GradualPruning
from secateur.training.hook import TrainingHook
from secateur.training.keep_zeros import KeepZeros
from secateur.training.regularizers import Regularizer, group_lasso, l1, l2, undecayed
from secateur.training.rewinding import rewind

__all__ = [
    "GradualPruning",
    "History",
    "KeepZeros",
    "Regularizer",
    "TrainingHook",
    "adjusted_dropout",
    "distill",
    "finetune",
    "group_lasso",
    "l1",
    "l2",
    "load_state",
    "rates",
    "rewind",
    "save_state",
    "sgd",
    "undecayed",
]
