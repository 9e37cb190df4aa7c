"""A checkpoint that does not belong to a run is turned down, and nothing is changed by it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import secateur as sc
from secateur import granularity, schedules
from secateur.state import load_state, save_state
from secateur.training import GradualPruning, finetune
from tests.runs import HOOKS, LOADERS, LOSS, Training, bits, with_dropout
from tests.small import network, pruner, zeros_kept

pytestmark = pytest.mark.usefixtures("seeded")  # which leaves the global generator as it was


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.safetensors"


def wider() -> nn.Sequential:
    model = with_dropout(seed=9)
    model[-1] = nn.Linear(12, 5)
    return model


def assert_refused(path: Path, training: Training, match: str, **more: Any) -> None:
    """The checkpoint is turned down, and what it was for is as it was before."""
    before = bits(training.model.state_dict())
    hook = None if training.hook is None else bits(training.hook.state_dict())
    with pytest.raises(sc.RunError, match=f"(?s){match}"):
        training.run(checkpoint=path, resume=True, **more)
    assert training.steps == 0
    assert bits(training.model.state_dict()) == before
    assert training.hook is None or bits(training.hook.state_dict()) == hook
    assert load_state(path)["history"]["losses"]  # the file is still that of the other run


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (wider, r"size mismatch for 10\.weight"),
        (lambda: nn.Sequential(*with_dropout(), nn.Linear(4, 4)), r"Missing key\(s\) in state_dict"),
        (lambda: with_dropout()[:-1], r"params|group|Unexpected key"),
    ],
)
@pytest.mark.parametrize("validated", [True, False])
def test_the_checkpoint_of_another_model_is_refused(
    path: Path, make: Callable[[], nn.Sequential], what: str, validated: bool
) -> None:
    more: dict[str, Any] = {} if validated else {"validate": None}
    Training().run(epochs=1, checkpoint=path, **more)
    other = Training(seed=9)
    other.model = make()
    assert_refused(path, other, f"does not fit this run .*({what}|the best weights are those of another model)", **more)


@pytest.mark.parametrize(("then", "now"), [("sgd", "adamw"), ("adamw", "sgd")])
def test_the_checkpoint_of_another_optimizer_is_refused(path: Path, then: str, now: str) -> None:
    Training(then).run(epochs=1, checkpoint=path)
    assert_refused(path, Training(now, seed=9), "the optimizer of that run had no .*it was of another kind")


def test_the_checkpoint_of_other_groups_of_parameters_is_refused(path: Path) -> None:
    Training().run(epochs=1, checkpoint=path)
    other = Training(seed=9)
    other.kind = lambda parameters, rate: torch.optim.SGD([{"params": [one]} for one in parameters], lr=rate)
    assert_refused(path, other, "does not fit this run")
    frozen = Training(seed=9)
    frozen.model[0].requires_grad_(False)
    assert_refused(path, frozen, "does not fit this run")


@pytest.mark.parametrize("then", HOOKS)
@pytest.mark.parametrize("now", HOOKS)
def test_the_checkpoint_of_another_kind_of_hook_is_refused(path: Path, then: str, now: str) -> None:
    Training(hook=then).run(epochs=1, checkpoint=path)
    if then == now:
        assert Training(hook=now, seed=9).run(epochs=1, checkpoint=path, resume=True).losses
    else:
        assert_refused(
            path, Training(hook=now, seed=9), "one of the two runs has a hook|the two runs do not hold the same plan"
        )


def test_the_checkpoint_of_another_granularity_is_refused(path: Path) -> None:
    Training(hook="gradual").run(epochs=1, checkpoint=path)
    other = Training(hook="gradual", seed=9)
    other.hook = GradualPruning(
        other.model, pruner(granularity.filter()), sc.Budget(sparsity=0.5), schedules.cubic(1, 8, 2)
    )
    assert_refused(path, other, "does not fit this run .PlanError")


def test_the_checkpoint_of_another_plan_is_refused(path: Path) -> None:
    """Else a finished run at half the sparsity would be passed off as this one, with weights where zeros were asked."""
    model = network()
    half, most = (pruner().plan(model, sc.Budget(sparsity=sparsity)) for sparsity in (0.5, 0.9))
    batches = LOADERS["own generator"](0)
    finetune(model, batches, LOSS, learning_rate=0.1, epochs=1, plan=half, checkpoint=path)
    other = network()
    with pytest.raises(sc.RunError, match="the two runs do not hold the same plan"):
        finetune(other, batches, LOSS, learning_rate=0.1, epochs=1, plan=most, checkpoint=path, resume=True)
    assert zeros_kept(other, most)
    equal = pruner().plan(network(), sc.Budget(sparsity=0.5))
    finetune(other, batches, LOSS, learning_rate=0.1, epochs=1, plan=equal, checkpoint=path, resume=True)


@pytest.mark.parametrize(("then", "now"), [("global generator", "own generator"), ("two generators", "own generator")])
def test_the_checkpoint_of_another_kind_of_loader_is_refused(path: Path, then: str, now: str) -> None:
    Training(loader=then).run(epochs=1, checkpoint=path)
    assert_refused(path, Training(loader=now, seed=9), "does not fit this run")


PLACES = ["model", "optimizer", "hook", "held", "random", "history", "best"]
WRONG: list[Any] = [3, "text", [], [1, 2], {"a": 1}, {1: torch.ones(1)}, torch.ones(2), 10**400]


@pytest.mark.parametrize("place", PLACES)
def test_a_checkpoint_that_somebody_made_up_is_refused(path: Path, place: str) -> None:
    Training(hook="gradual").run(epochs=1, checkpoint=path)
    tree = load_state(path)
    missing = copy.copy(tree)
    del missing[place]
    for number, made_up in enumerate([missing, *({**tree, place: wrong} for wrong in WRONG)]):
        target = path.with_name(f"{place}-{number}")
        save_state(target, made_up)
        training = Training(hook="gradual", seed=9)
        before = bits(training.model.state_dict())
        with pytest.raises(sc.RunError, match="does not fit this run"):
            training.run(checkpoint=target, resume=True)
        assert bits(training.model.state_dict()) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"losses": (10**400,)},
        {"losses": ("0.5", "no")},
        {"losses": 3},
        {"validation": (None,)},
        {"best_epoch": 1},
        {"best_epoch": -1},
        {"best_epoch": "0"},
        {"more": 1},
    ],
    ids=repr,
)
def test_a_history_that_somebody_made_up_is_refused(path: Path, wrong: dict[str, Any]) -> None:
    Training().run(epochs=1, checkpoint=path)
    tree = load_state(path)
    save_state(path, {**tree, "history": {**tree["history"], **wrong}})
    with pytest.raises(sc.RunError, match="does not fit this run"):
        Training(seed=9).run(checkpoint=path, resume=True)


@pytest.mark.parametrize("tree", [None, 3, [], {}, {"model": {}}], ids=repr)
def test_a_state_that_is_no_run_is_refused(path: Path, tree: Any) -> None:
    save_state(path, tree)
    with pytest.raises(sc.RunError, match="does not fit this run"):
        Training().run(checkpoint=path, resume=True)


def test_a_damaged_checkpoint_is_refused_and_left_where_it_is(path: Path) -> None:
    Training().run(epochs=1, checkpoint=path)
    cut = path.read_bytes()[:-7]
    path.write_bytes(cut)
    with pytest.raises(sc.RunError, match=r"is not a secateur\.state file, or is damaged"):
        Training(seed=9).run(checkpoint=path, resume=True)
    assert path.read_bytes() == cut
