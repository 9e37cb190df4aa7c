"""Tasks: a model, its data, its loss and its metric, as one value that every command takes."""

from secateur.tasks.digits import digits
from secateur.tasks.fashion import fashion
from secateur.tasks.load import load_task
from secateur.tasks.smollm import perplexity, smollm
from secateur.tasks.spam import spam
from secateur.tasks.task import Task, dense_rate, evaluate, loader, seeded, train

__all__ = [
    "Task",
    "dense_rate",
    "digits",
    "evaluate",
    "fashion",
    "load_task",
    "loader",
    "perplexity",
    "seeded",
    "smollm",
    "spam",
    "train",
]
