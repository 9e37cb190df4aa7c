"""Training with pruning in it: fine-tuning that can be stopped, regularizers, saved state."""

from secateur.state import load_state, save_state
from secateur.training import rates
from secateur.training.checkpoint import History
from secateur.training.finetune import finetune, sgd
from secateur.training.gradual import GradualPruning
from secateur.training.hook import TrainingHook
from secateur.training.keep_zeros import KeepZeros
from secateur.training.regularizers import group_lasso, l1, l2

__all__ = [
    "GradualPruning",
    "History",
    "KeepZeros",
    "TrainingHook",
    "finetune",
    "group_lasso",
    "l1",
    "l2",
    "load_state",
    "rates",
    "save_state",
    "sgd",
]
