"""Tasks: a model, its data, its loss and its metric, as one value that every command takes."""

from secateur.tasks.digits import digits
from secateur.tasks.load import load_task
from secateur.tasks.task import Task, evaluate, loader, train

__all__ = ["Task", "digits", "evaluate", "load_task", "loader", "train"]
