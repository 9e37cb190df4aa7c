"""The state of a training run between two epochs, and its file."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from secateur import ranks
from secateur.errors import RunError, SecateurError
from secateur.state import load_state, save_state
from secateur.training.hook import TrainingHook
from secateur.training.keep_zeros import KeepZeros


@dataclass(frozen=True)
class History:
    """What happened in a run, epoch by epoch.

    Args:
        losses: Mean objective (loss and regularizer) over the steps of each epoch.
        validation: Result of `validate` after each epoch; empty where there was none.
        best_epoch: Index into `validation` of the epoch whose weights the model has now, the
            earliest of equals; None where there was no validation or the hook never settled:
            then the model has the weights of the last epoch.

    Example:
        >>> history = History((0.9, 0.4), (0.81, 0.93), best_epoch=1)
        >>> history.validation[history.best_epoch]
        0.93
    """

    losses: tuple[float, ...] = ()
    validation: tuple[float, ...] = ()
    best_epoch: int | None = None


@dataclass(frozen=True)
class Best:
    """How far a run has come, and its best weights so far.

    Args:
        history: What happened until now.
        weights: The model's state at `history.best_epoch`, if there is one.
    """

    history: History = field(default_factory=History)
    weights: dict[str, Any] | None = None


@dataclass(frozen=True)
class Run:
    """The objects that change while a run goes on.

    Args:
        model: What is trained.
        optimizer: What trains it.
        hook: What prunes it, if anything does.
        batches: Where the data comes from; its random generators are part of the state.
    """

    model: nn.Module
    optimizer: Optimizer
    hook: TrainingHook | None
    batches: Iterable[Any]


def save_run(path: Path | str, run: Run, best: Best) -> None:
    """Save a run between two epochs, with all the rest of it depends on; of several ranks, the first writes.

    Args:
        path: The file.
        run: The objects, in their state at the end of an epoch.
        best: History and best weights.

    Raises:
        RunError: If the file cannot be written or the hook's state is not a tree of tensors.
    """
    tree = {
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "hook": None if run.hook is None else run.hook.state_dict(),
        "held": _held(run.hook),
        "random": _random_state(run.batches),
        "history": asdict(best.history),
        "best": best.weights,
    }
    ranks.by_first(lambda: save_state(path, tree))


def load_run(path: Path | str, run: Run) -> Best:
    """Put a run back into a saved state.

    Args:
        path: The file; if there is none, nothing is changed and the run is at its beginning.
        run: The objects, built as they were for the run that was saved; changed in place.

    Returns:
        History and best weights at that point.

    Raises:
        RunError: If the file is not one of `save_run`, or belongs to another model, optimizer,
            hook or plan; the model's weights are as they were then.
    """
    if not ranks.by_first(lambda: os.path.exists(path)):  # noqa: PTH110  Path.exists raises where a name is too long
        return Best()
    tree = load_state(path)
    before = copied(run.model)
    try:
        return _restored(tree, run)
    except _UNFIT as error:
        run.model.load_state_dict(before)
        raise RunError(
            f"{path} does not fit this run ({type(error).__name__}: {error}); expected the"
            " checkpoint of a run with the same model, optimizer, hook and data. Pass what that"
            " run was given, or start anew with resume=False"
        ) from error


# What the state of another run, or one that somebody made up, can provoke.
_UNFIT = (ArithmeticError, AttributeError, LookupError, RuntimeError, SecateurError, TypeError, ValueError)


def copied(model: nn.Module) -> dict[str, Any]:
    """The state of a model, apart from the model.

    Args:
        model: Any module.

    Returns:
        Its `state_dict`, copied; a module's extra state, which may be anything, too.
    """
    return {
        name: value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)
        for name, value in model.state_dict().items()
    }


def _restored(tree: Any, run: Run) -> Best:
    if (run.hook is None) != (tree["hook"] is None):
        raise ValueError("one of the two runs has a hook, the other has none")
    if tree["held"] != _held(run.hook):
        raise ValueError("the two runs do not hold the same plan")
    for now, then in zip(run.optimizer.param_groups, tree["optimizer"]["param_groups"], strict=True):
        if missing := sorted(set(now) - set(then)):
            raise ValueError(f"the optimizer of that run had no {missing}: it was of another kind")
    best = Best(_history(**tree["history"]), tree["best"])
    if best.weights is not None and _shapes(best.weights) != _shapes(run.model.state_dict()):
        raise ValueError("the best weights are those of another model")
    run.model.load_state_dict(tree["model"])
    run.optimizer.load_state_dict(tree["optimizer"])
    _set_random_state(run.batches, tree["random"])
    if run.hook is not None:
        run.hook.load_state_dict(tree["hook"])
    return best


def _held(hook: TrainingHook | None) -> str:
    """What a held plan removes, in short; such a hook has no state by which to tell."""
    if not isinstance(hook, KeepZeros):
        return ""
    digest = hashlib.sha256()
    for name, kept in sorted(hook.plan.masks().items()):
        digest.update(f"{name} {tuple(kept.shape)} ".encode())
        digest.update(kept.cpu().numpy().tobytes())
    return digest.hexdigest()


def _history(losses: Any, validation: Any, best_epoch: int | None) -> History:
    history = History(tuple(map(float, losses)), tuple(map(float, validation)), best_epoch)
    if best_epoch is not None and best_epoch not in range(len(history.validation)):
        raise ValueError(f"there is no epoch {best_epoch}")
    return history


def _shapes(weights: Mapping[str, Any]) -> dict[str, torch.Size | None]:
    return {name: getattr(value, "shape", None) for name, value in weights.items()}


def _random_state(batches: Iterable[Any]) -> dict[str, Any]:
    return {
        "torch": ranks.gathered(torch.get_rng_state()),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "batches": [generator.get_state() for generator in _generators(batches)],
    }


def _set_random_state(batches: Iterable[Any], state: dict[str, Any]) -> None:
    for generator, saved in zip(_generators(batches), state["batches"], strict=True):
        generator.set_state(saved)
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    torch.set_rng_state(state["torch"][ranks.rank() % len(state["torch"])])


def _generators(batches: Iterable[Any]) -> Iterator[torch.Generator]:
    # A DataLoader may have one itself, and others in its sampler or in a sampler's sampler.
    seen: set[int] = set()
    for holder in samplers(batches):
        generator = getattr(holder, "generator", None)
        if isinstance(generator, torch.Generator) and id(generator) not in seen:
            seen.add(id(generator))
            yield generator


def samplers(holder: Any) -> Iterator[Any]:
    """Whatever decides on the order of batches: a loader, its samplers, and those in what wraps it.

    Args:
        holder: A DataLoader, or anything with one of the attributes that are followed.

    Yields:
        The holder, then what it holds.
    """
    if holder is not None:
        yield holder
        for name in ("sampler", "batch_sampler", "batches"):
            yield from samplers(getattr(holder, name, None))
