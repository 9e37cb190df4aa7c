"""Fine-tuning, and plain training: one loop, short enough to copy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from operator import length_hint
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from secateur import ranks
from secateur.batches import call, device_of, grouped, mode, pair, samples_in, to_device
from secateur.errors import DataError, ModelError, RunError
from secateur.plan import Plan
from secateur.training.checkpoint import Best, History, Run, copied, load_run, samplers, save_run
from secateur.training.display import progress_bar
from secateur.training.hook import TrainingHook
from secateur.training.keep_zeros import KeepZeros
from secateur.training.rates import Rate, constant
from secateur.training.regularizers import Regularizer

Batches: TypeAlias = Iterable[Any]
"""(inputs, targets) pairs that can be gone through once an epoch: a DataLoader or a list."""
Loss: TypeAlias = Callable[[Any, Any], Tensor]
OptimizerFactory: TypeAlias = Callable[[list[nn.Parameter], float], Optimizer]


def sgd(parameters: list[nn.Parameter], learning_rate: float) -> Optimizer:
    """Stochastic gradient descent with Nesterov momentum 0.9 and weight decay 5e-4.

    Args:
        parameters: What to train.
        learning_rate: Step size.

    Returns:
        The optimizer.

    Example:
        >>> sgd([nn.Parameter(torch.zeros(1))], 0.1).param_groups[0]["momentum"]
        0.9
    """
    return torch.optim.SGD(parameters, lr=learning_rate, momentum=0.9, nesterov=True, weight_decay=5e-4)


def finetune(
    model: nn.Module,
    batches: Batches,
    loss: Loss,
    *,
    learning_rate: float,
    epochs: int,
    divide_by: float = 10,
    rate: Rate | None = None,
    optimizer: OptimizerFactory = sgd,
    plan: Plan | None = None,
    hook: TrainingHook | None = None,
    regularizer: Regularizer | None = None,
    validate: Callable[[nn.Module], float] | None = None,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    progress: bool = True,
    autocast: torch.dtype | None = None,
    accumulate: int = 1,
    on_epoch: Callable[[History], None] | None = None,
) -> History:
    r"""Train a pruned model on, in place, at a fraction of the rate it was first trained with.

    Every step of the optimizer follows the gradient of

    .. math:: \frac{1}{k} \sum_{i=1}^{k} \mathrm{loss}(\mathrm{model}(x_i), y_i) + R(\mathrm{model})

    over k = `accumulate` batches, at the rate `learning_rate` / `divide_by`, times `rate` of the epochs done. With
    `divide_by=1` this is plain training.

    With `validate`, the weights of the best epoch are put back at the end. Only epochs at whose
    end the hook is `settled` compete, because an earlier one has more weights left.

    With `checkpoint`, everything that the rest of the run depends on is saved before the first epoch
    and after every one: model, optimizer, hook, torch's random generators, the DataLoader's, and the
    history. A run that stopped for whatever reason and is called again with `resume=True` ends, on a
    CPU with as many threads, in the same bits as one that never stopped. Python's and NumPy's
    generators are not saved: draw augmentation from torch's. The rates and `epochs` of the new call
    hold.

    Where `torch.distributed` is initialised, as under ``torchrun``, every rank calls this function with a model of the
    same shape and batches of its own, as many as the others (a `DistributedSampler`, or `tasks.loader`). Gradients are
    averaged over samples, so the weights, and what a hook prunes, are the same bits on every rank; batch norm takes
    its statistics of each rank's own samples, and keeps those of the first. The first rank writes the checkpoint.

    Args:
        model: Trained in place; its train or eval mode is as before afterwards.
        batches: (inputs, targets) pairs, gone through once an epoch; moved to the model's device.
            Inputs that are a tuple, list or dict are passed as several arguments.
        loss: Of (outputs, targets): a scalar tensor, the mean over the batch.
        learning_rate: The rate the dense model was trained with.
        epochs: How often to go through `batches`.
        divide_by: Han et al. fine-tune LeNets at 1/10 and AlexNet at 1/100 of the original rate.
        rate: Factor on the learning rate, such as ``rates.cosine(epochs)``; None: constant. It moves with every step,
            and with every epoch only where `batches` has no length.
        optimizer: Of (parameters, learning rate), such as `sgd` or ``torch.optim.AdamW``.
        plan: Applied to the model before the first step, and its zeros kept.
        hook: Prunes along the way and keeps zeros zero; see `TrainingHook`.
        regularizer: Of the model: a scalar tensor, added to the loss; see `l1` and `group_lasso`.
        validate: Of the model: a number, higher is better; called after every epoch, in eval mode, without gradients.
        checkpoint: A file to keep the state of the run in.
        resume: Go on from `checkpoint` if that file exists.
        progress: Show a bar where standard output is a terminal.
        autocast: ``torch.bfloat16``: run the forward pass in mixed precision.
        accumulate: Batches per step of the optimizer; those left over at the end of an epoch make
            a step of their own.
        on_epoch: Called with the history so far after every epoch, before the checkpoint.

    Returns:
        The losses and validation results, epoch by epoch.

    Raises:
        RunError: If an argument is out of range, the loss is not finite, or the checkpoint cannot
            be written, read or fitted to this run.
        DataError: If there are no batches, in the first epoch or a later one, or a batch is no pair.
        ModelError: If no parameter requires a gradient.

    Reference:
        S. Han, J. Pool, J. Tran, W. J. Dally, *Learning both Weights and Connections for Efficient
        Neural Networks*, NeurIPS 2015, sections 4.1 (LeNet, rate divided by 10) and 4.2 (AlexNet,
        by 100).

    Example:
        One weight, one batch, two steps of plain gradient descent on (w - 3)^2 at rate 1/10:
        w = 0, then 0 + 0.1 * 6 = 0.6, then 0.6 + 0.1 * 4.8 = 1.08.

        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> history = finetune(
        ...     model,
        ...     [(torch.ones(1, 1), torch.tensor([[3.0]]))],
        ...     nn.functional.mse_loss,
        ...     learning_rate=1.0,
        ...     epochs=2,
        ...     optimizer=torch.optim.SGD,
        ... )
        >>> round(model.weight.item(), 4), [round(loss, 4) for loss in history.losses]
        (1.08, [9.0, 5.76])
    """
    _check(learning_rate, divide_by, epochs, accumulate, autocast)
    if resume and checkpoint is None:
        raise RunError("resume=True, but there is no checkpoint; expected a file. Pass checkpoint=")
    if plan is not None:
        if hook is not None:
            raise RunError("plan and hook were both given; expected one: a plan to hold, or a hook that makes plans")
        hook = KeepZeros(model, plan)
    run = Run(model, _built(optimizer, model, learning_rate / divide_by), hook, batches)
    moving = _MovingRate(run.optimizer, rate or constant(), math.ceil(length_hint(batches) / accumulate))
    best = load_run(checkpoint, run) if checkpoint is not None and resume else Best()
    step = _Step(run, ranks.joined(model), moving, loss, regularizer, autocast)
    if checkpoint is not None and not best.history.losses:
        save_run(checkpoint, run, best)
    first = len(best.history.losses)
    shown = progress_bar(moving.steps * epochs or None, moving.steps * first, show=progress and ranks.rank() == 0)
    with mode(model, training=True), shown as advance:
        for epoch in range(first, epochs):
            mean_loss = _epoch(step, grouped(batches, accumulate), _Epoch(epoch, epochs), advance)
            best = _judged(best, run, mean_loss, validate)
            if on_epoch is not None:
                on_epoch(best.history)
            if checkpoint is not None:
                save_run(checkpoint, run, best)
    if best.weights is not None:
        model.load_state_dict(best.weights)
    return best.history


@dataclass(frozen=True)
class _Epoch:
    """An epoch, counted from 0, of so many."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"epoch {self.number + 1} of {self.count}"


class _MovingRate:
    """Sets the rate of every group of an optimizer to its own first rate times a factor."""

    def __init__(self, optimizer: Optimizer, rate: Rate, steps: int) -> None:
        self.optimizer, self.rate, self.steps = optimizer, rate, steps
        self.full = [group["lr"] for group in optimizer.param_groups]

    def __call__(self, epoch: int, step: int) -> None:
        factor = self.rate(epoch + (step / self.steps if self.steps else 0))
        for group, full in zip(self.optimizer.param_groups, self.full, strict=True):
            group["lr"] = full * factor


@dataclass(frozen=True)
class _Step:
    """One step of the optimizer, on the mean over a few batches."""

    run: Run
    forward: nn.Module  # the model, or what averages its gradients over ranks
    move_rate: _MovingRate
    loss: Loss
    regularizer: Regularizer | None
    autocast: torch.dtype | None

    def __call__(self, group: list[Any], where: str) -> float:
        self.run.optimizer.zero_grad(set_to_none=True)
        losses = [self._backward(*pair(batch), len(group), last=batch is group[-1]) for batch in group]
        mean = sum(losses) / len(losses)
        if not math.isfinite(mean):
            raise RunError(
                f"the loss is {mean} in {where}; expected a finite number. Use a smaller learning"
                " rate (or a larger divide_by), and look for inputs that are not finite"
            )
        if self.run.hook is not None:
            self.run.hook.observe()
        self.run.optimizer.step()
        if self.run.hook is not None:
            self.run.hook.step()
        return mean

    def _backward(self, inputs: Any, targets: Any, parts: int, *, last: bool) -> float:
        model, device = self.run.model, device_of(self.run.model)
        weight = ranks.weight_of(samples_in(inputs), device) if ranks.count() > 1 else 1
        with nullcontext() if last else _apart(self.forward):
            with _precision(device, self.autocast):
                outputs = call(self.forward, to_device(inputs, device))
                data_loss = self.loss(outputs, to_device(targets, device)) * weight
            total = data_loss if self.regularizer is None else data_loss + self.regularizer(model)
            (total / parts).backward()
        return ranks.mean(total.item(), 1, device)


def _epoch(step: _Step, groups: Iterable[list[Any]], epoch: _Epoch, advance: Callable[[str], None]) -> float:
    step.run.model.train()
    for sampler in samplers(step.run.batches):
        if hasattr(sampler, "set_epoch"):  # a DistributedSampler would deal the same order every time
            sampler.set_epoch(epoch.number)
    losses = []
    for number, group in enumerate(groups):
        step.move_rate(epoch.number, number)
        losses.append(step(group, f"{epoch}, step {number + 1}"))
        advance(f"{epoch}  loss {losses[-1]:.4g}")
    if not losses:
        raise DataError(
            f"there were no batches in {epoch}; expected (inputs, targets) pairs anew in every"
            " epoch. Pass a DataLoader or a list, not a generator, which can be used only once"
        )
    return math.fsum(losses) / len(losses)


def _judged(best: Best, run: Run, mean_loss: float, validate: Callable[[nn.Module], float] | None) -> Best:
    history = replace(best.history, losses=(*best.history.losses, mean_loss))
    if validate is None:
        return replace(best, history=history)
    with mode(run.model, training=False), torch.no_grad():
        ranks.same_buffers(run.model)
        result = ranks.agreed(float(validate(run.model)))
    settled = run.hook is None or run.hook.settled
    earlier = history.best_epoch
    wins = settled and not math.isnan(result) and (earlier is None or result > history.validation[earlier])
    history = replace(history, validation=(*history.validation, result))
    if not wins:
        return replace(best, history=history)
    return Best(replace(history, best_epoch=len(history.validation) - 1), copied(run.model))


def _apart(forward: nn.Module) -> AbstractContextManager[Any]:
    """Gradients stay on their rank; they are exchanged once a step, with the last of its batches."""
    return forward.no_sync() if isinstance(forward, DistributedDataParallel) else nullcontext()


def _precision(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def _built(factory: OptimizerFactory, model: nn.Module, learning_rate: float) -> Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ModelError(
            f"{type(model).__name__} has no parameter that requires a gradient; expected at least"
            " one to train. Call model.requires_grad_(True)"
        )
    return factory(parameters, learning_rate)


def _check(
    learning_rate: float,
    divide_by: float,
    epochs: int,
    accumulate: int,
    autocast: torch.dtype | None,
) -> None:
    for name, value, fits, expected in (
        ("learning_rate", learning_rate, 0 < learning_rate < math.inf, "a number above 0"),
        ("divide_by", divide_by, 0 < divide_by < math.inf, "a number above 0, such as 10"),
        ("epochs", epochs, epochs >= 0, "0 or more"),
        ("accumulate", accumulate, accumulate >= 1, "1 or more batches per step"),
        # float16 gradients underflow unless the loss is scaled, which this loop does not do.
        ("autocast", autocast, autocast in (None, torch.bfloat16), "None or torch.bfloat16"),
    ):
        if not fits:
            raise RunError(f"{name} is {value}; expected {expected}. Change this argument")
