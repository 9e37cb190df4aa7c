"""What a task is, and the three things one does with it: load its data, train its model, measure it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
    default_convert,
)

from secateur import ranks
from secateur.batches import call, device_of, mode, pair, samples_in, to_device
from secateur.errors import DataError
from secateur.training import History, finetune
from secateur.training.finetune import OptimizerFactory, sgd
from secateur.training.rates import Rate, constant, cosine
from secateur.weights import save_weights

Split = Literal["train", "validation", "test"]
Augment: TypeAlias = Callable[[Any, torch.Generator], Any]


@dataclass(frozen=True)
class Task:
    """A model, its data, its loss and its metric.

    Args:
        name: What it is called.
        model: Makes an untrained model; its weights come from torch's global generator.
        train: Dataset of (inputs, target) to train on.
        validation: To choose by: the best epoch, a ratio.
        test: To report, never to choose by.
        loss: Of (outputs, targets): a scalar tensor, the mean over the batch.
        metric: Of (outputs, targets): a number, the mean over the batch; higher is better.
        example: Inputs of a batch of one, for whatever looks at shapes.
        metric_name: For people.
        batch_size: Samples in a batch.
        epochs: Epochs that train the dense model.
        learning_rate: The largest rate of training.
        optimizer: Of (parameters, learning rate).
        warm_up: Epochs in which dense training raises its rate, before it lowers it along a cosine.
        augment: Of (inputs, generator): changed inputs of a batch to train on, drawn from the generator.

    Example:
        >>> x, y = torch.arange(8.0).reshape(8, 1), torch.arange(8.0).reshape(8, 1)
        >>> data = TensorDataset(x, 2 * y)
        >>> def near(outputs, targets):
        ...     return float((outputs - targets).abs().lt(0.5).float().mean())
        >>> line = Task(
        ...     "line",
        ...     lambda: nn.Linear(1, 1),
        ...     data,
        ...     data,
        ...     data,
        ...     nn.functional.mse_loss,
        ...     near,
        ...     x[:1],
        ...     learning_rate=0.01,
        ... )
        >>> model, history = train(line, seed=0, epochs=100)
        >>> evaluate(model, line)
        1.0
    """

    name: str
    model: Callable[[], nn.Module]
    train: Dataset[Any]
    validation: Dataset[Any]
    test: Dataset[Any]
    loss: Callable[[Any, Any], Tensor]
    metric: Callable[[Any, Any], float]
    example: Any
    metric_name: str = "accuracy"
    batch_size: int = 64
    epochs: int = 10
    learning_rate: float = 0.1
    optimizer: OptimizerFactory = field(default=sgd)
    warm_up: float = 0
    augment: Augment | None = None


def loader(task: Task, split: Split = "train", *, seed: int | None = None) -> DataLoader[Any]:
    """Batches of a split.

    Args:
        task: The task.
        split: Which data.
        seed: Shuffle, in an order that this seed fixes, and augment, if these are data to train on; None: the data as
            they are, in their own order.

    Returns:
        A loader with a generator of its own, so that other random draws do not move it. Where several ranks train
        together, each has its part of every shuffled batch, so that a step sees the samples it would see with one.

    Raises:
        DataError: The split is empty.

    Example:
        >>> from secateur.tasks import digits
        >>> inputs, targets = next(iter(loader(digits(), "test")))
        >>> inputs.shape, targets.shape
        (torch.Size([64, 1, 8, 8]), torch.Size([64]))
    """
    data: Any = getattr(task, split)
    if len(data) == 0:
        raise DataError(f"the {split} data of task {task.name!r} is empty; expected at least one sample")
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    augment = task.augment if split == "train" and generator is not None else None
    if not isinstance(data, TensorDataset):
        collate = partial(_collated, default_collate, augment, generator)
        return DataLoader(data, task.batch_size, shuffle=seed is not None, generator=generator, collate_fn=collate)
    # Tensors are indexed a batch at a time: collating samples one by one takes longer than a small network.
    order: Any = SequentialSampler(data) if seed is None else RandomSampler(data, generator=generator)
    sampler = BatchSampler(order, task.batch_size, drop_last=False)
    collate = partial(_collated, default_convert, augment, generator)
    return DataLoader(data, batch_size=None, sampler=sampler, collate_fn=collate)


def _collated(collate: Callable[[Any], Any], augment: Augment | None, generator: Any, samples: Any) -> Any:
    batch = collate(samples)
    if augment is not None:
        inputs, targets = pair(batch)
        batch = augment(inputs, generator), targets
    return ranks.share(batch) if generator is not None else batch


def evaluate(model: nn.Module, task: Task, split: Split = "test") -> float:
    """The metric of a model, mean over samples, in evaluation mode.

    Args:
        model: The model; its mode is as before afterwards.
        task: The task.
        split: On which data.

    Returns:
        The metric.
    """
    total, samples = 0.0, 0
    with mode(model, training=False), torch.no_grad():
        for outputs, targets, size in _outputs(model, task, split):
            total += size * float(task.metric(outputs, targets))
            samples += size
    return total / samples


def _outputs(model: nn.Module, task: Task, split: Split) -> Iterator[tuple[Any, Any, int]]:
    device = device_of(model)
    for inputs, targets in loader(task, split):
        yield call(model, to_device(inputs, device)), to_device(targets, device), samples_in(inputs)


def train(
    task: Task,
    *,
    seed: int,
    epochs: int | None = None,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    progress: bool = True,
    device: torch.device | str = "cpu",
    snapshots: Mapping[int, Path] | None = None,
    **more: Any,
) -> tuple[nn.Module, History]:
    """Train the dense model of a task, its rate annealed along a cosine; the best epoch by validation is kept.

    The same seed gives the same weights, bit for bit, on one machine and as many threads. The global generator is
    left as it was.

    Args:
        task: The task.
        seed: Of the weights and the order of the data.
        epochs: Instead of the task's own number.
        checkpoint: A file to keep the state of the run in.
        resume: Go on from there if the file exists.
        progress: Show a bar on a terminal.
        device: Where to train; the weights are drawn on the CPU.
        snapshots: Files for the weights after so many epochs; after 0: those before the first step.
        **more: Other arguments of `finetune`: `autocast`, `accumulate`, `regularizer`, `optimizer`, ...

    Returns:
        The model and what happened.
    """
    with seeded(seed):
        model = task.model().to(device)
        _snapshot(model, 0, snapshots)
        history = finetune(
            model,
            loader(task, seed=seed),
            task.loss,
            **{
                "learning_rate": task.learning_rate,
                "divide_by": 1,
                "rate": dense_rate(task, epochs),
                "epochs": task.epochs if epochs is None else epochs,
                "optimizer": task.optimizer,
                "validate": lambda trained: evaluate(trained, task, "validation"),
                "checkpoint": checkpoint,
                "resume": resume,
                "progress": progress,
                "on_epoch": lambda so_far: _snapshot(model, len(so_far.losses), snapshots),
                **more,
            },
        )
    return model, history


def dense_rate(task: Task, epochs: int | None = None) -> Rate:
    """How the rate moves while the dense model of a task is trained: a rise over the task's warm-up, then a cosine.

    Args:
        task: The task.
        epochs: Instead of the task's own number.

    Returns:
        The factor on the task's learning rate, as a function of the epochs done.
    """
    count = task.epochs if epochs is None else epochs
    return cosine(count, warm_up=task.warm_up if task.warm_up < count else 0) if count else constant()


@contextmanager
def seeded(seed: int) -> Generator[None, None, None]:
    """Seed torch's global generator, and put it back as it was afterwards.

    Args:
        seed: The seed.

    Yields:
        Nothing.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _snapshot(model: nn.Module, epochs: int, files: Mapping[int, Path] | None) -> None:
    if files and epochs in files:
        ranks.by_first(lambda: save_weights(model, files[epochs]))
