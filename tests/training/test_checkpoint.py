"""A run that stopped and is gone on with ends in the bits of one that never stopped."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur.state import load_state
from secateur.training import History, KeepZeros, finetune
from tests.runs import EPOCHS, HOOKS, LOADERS, LOSS, OPTIMIZERS, STEPS, Stop, Training, bits
from tests.small import network, pruner

pytestmark = pytest.mark.usefixtures("seeded")  # which leaves the global generator as it was


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.safetensors"


# ------------------------------------------------------------------------------------ going on


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("loader", LOADERS)
def test_going_on_is_never_having_stopped(path: Path, optimizer: str, hook: str, loader: str) -> None:
    whole = Training(optimizer, hook, loader)
    history = whole.run()
    assert len(history.losses) == len(history.validation) == EPOCHS
    left = whole.bits()
    for stop in (STEPS, 2 * STEPS + 1, EPOCHS * STEPS - 1):  # between two epochs, and within
        path.unlink(missing_ok=True)
        with pytest.raises(Stop):
            Training(optimizer, hook, loader).run(stop=stop, checkpoint=path)
        again = Training(optimizer, hook, loader, seed=60 + stop)
        assert again.run(checkpoint=path, resume=True) == history
        assert again.steps == EPOCHS * STEPS - stop // STEPS * STEPS  # whole epochs, and none twice
        assert again.bits() == left


def test_stopping_again_and_again_changes_nothing(path: Path) -> None:
    whole = Training(hook="gradual")
    history = whole.run()
    for seed in range(EPOCHS - 1):
        with pytest.raises(Stop):
            Training(hook="gradual", seed=6 if seed == 0 else seed).run(stop=STEPS + 1, checkpoint=path, resume=True)
    last = Training(hook="gradual", seed=9)
    assert last.run(checkpoint=path, resume=True) == history
    assert last.bits() == whole.bits()


@pytest.mark.parametrize("stop", [1, STEPS + 1])
@pytest.mark.parametrize("hook", HOOKS)
def test_the_same_objects_can_go_on_too(path: Path, stop: int, hook: str) -> None:
    """As in a notebook: the call that was broken off is made again, even if no epoch was over."""
    whole = Training(hook=hook)
    history = whole.run()
    one = Training(hook=hook)
    with pytest.raises(KeyboardInterrupt):
        one.run(stop=stop, error=KeyboardInterrupt, checkpoint=path, resume=True)
    assert one.run(checkpoint=path, resume=True) == history
    assert one.bits() == whole.bits()


def test_ctrl_c_passes_through_and_leaves_the_last_full_epoch(path: Path) -> None:
    seen: list[History] = []
    with pytest.raises(KeyboardInterrupt):
        Training().run(stop=2 * STEPS + 1, error=KeyboardInterrupt, checkpoint=path, on_epoch=seen.append)
    history = load_state(path)["history"]
    assert (history["losses"], history["validation"]) == (seen[1].losses, seen[1].validation)
    other = Training(seed=8)
    assert other.run(checkpoint=path, resume=True, epochs=2) == seen[1]  # nothing is left to do
    assert other.steps == 0


KILLED = """
import os, signal, sys, torch
torch.set_num_threads(int(sys.argv[2]))
from tests.runs import STEPS, Training

class Kill(BaseException):
    def __init__(self):
        os.kill(os.getpid(), signal.SIGKILL)

Training(hook="gradual").run(stop=2 * STEPS + 1, error=Kill, checkpoint=sys.argv[1])
"""


def test_kill_minus_nine_loses_at_most_an_epoch(path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", KILLED, str(path), str(torch.get_num_threads())]
    places = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, check=False, cwd=root, env={**os.environ, "PYTHONPATH": places})
    assert done.returncode == -signal.SIGKILL
    whole, again = Training(hook="gradual"), Training(hook="gradual", seed=9)
    torch.manual_seed(6)
    history = whole.run()
    left = whole.bits()
    assert again.run(checkpoint=path, resume=True) == history
    assert again.steps == 2 * STEPS
    assert again.bits() == left


@pytest.mark.parametrize("hook", HOOKS)
def test_a_finished_run_gives_its_best_weights_again_and_trains_nothing(path: Path, hook: str) -> None:
    one = Training(hook=hook)
    history = one.run(checkpoint=path)
    again = Training(hook=hook, seed=9)
    assert again.run(checkpoint=path, resume=True) == history
    assert again.steps == 0
    assert bits(again.model.state_dict()) == bits(one.model.state_dict())


def test_a_run_can_be_made_longer(path: Path) -> None:
    whole = Training()
    history = whole.run(rate=None)
    Training().run(rate=None, epochs=2, checkpoint=path)
    longer = Training(seed=9)
    assert longer.run(rate=None, checkpoint=path, resume=True) == history
    assert longer.bits() == whole.bits()


def test_the_rate_of_the_new_call_holds(path: Path) -> None:
    Training().run(rate=None, epochs=1, checkpoint=path)
    again = Training(seed=9)
    again.run(rate=None, epochs=2, divide_by=1000, checkpoint=path, resume=True)
    assert [group["lr"] for group in again.optimizers[-1].param_groups] == [0.5 / 1000]


def test_a_run_that_is_not_to_go_on_starts_anew(path: Path) -> None:
    first, second = Training(), Training()
    torch.manual_seed(6)
    expected = first.run(checkpoint=path)
    torch.manual_seed(6)
    assert second.run(checkpoint=path, resume=False) == expected
    assert second.steps == EPOCHS * STEPS


def test_without_a_file_a_run_to_go_on_with_is_a_new_one(path: Path) -> None:
    whole, other = Training(), Training()
    torch.manual_seed(6)
    expected = whole.run()
    torch.manual_seed(6)
    assert other.run(checkpoint=str(path), resume=True) == expected
    assert path.exists()


class Counting(nn.Module):
    """Keeps something in its state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls = network(), {"calls": 0}

    def forward(self, x: Tensor) -> Tensor:
        self.calls["calls"] += 1
        return torch.as_tensor(self.inner(x))

    def get_extra_state(self) -> dict[str, int]:
        return self.calls

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.calls = state


def test_extra_state_of_modules_is_kept(path: Path) -> None:
    results = iter([0.2, 0.9, 0.1])
    loader = LOADERS["own generator"](0)

    def run(epochs: int) -> Counting:
        model = Counting()
        more = {"validate": lambda _: next(results), "checkpoint": path, "resume": True}
        finetune(model, loader, LOSS, learning_rate=0.1, epochs=epochs, **more)  # type: ignore[arg-type]
        return model

    run(2)
    model = run(3)
    assert load_state(path)["model"]["_extra_state"] == {"calls": 3 * STEPS}
    assert model.calls == {"calls": 2 * STEPS}  # as in the best epoch


# ------------------------------------------------------------------------------------- writing


def test_a_checkpoint_that_cannot_be_written_is_reported_before_training(tmp_path: Path) -> None:
    for place in ("none/run", "x" * 300, "."):
        training = Training()
        with pytest.raises(sc.RunError, match="cannot write"):
            training.run(checkpoint=tmp_path / place, resume=place != ".")
        assert training.steps == 0


def test_a_full_disk_leaves_the_checkpoint_of_the_epoch_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Training(hook="gradual")
    history = whole.run()
    left = whole.bits()
    real, written = os.replace, []

    def replace(*names: Any) -> None:
        written.append(names)
        if len(written) == 3:  # before the first epoch, after it, after the second
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*names)

    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", replace)
        with pytest.raises(sc.RunError, match="No space left on device"):
            Training(hook="gradual").run(checkpoint=path)
    again = Training(hook="gradual", seed=9)
    assert again.run(checkpoint=path, resume=True) == history
    assert again.steps == 3 * STEPS
    assert again.bits() == left


def test_a_hook_whose_state_is_no_tree_is_reported_before_training(path: Path) -> None:
    class Odd(KeepZeros):
        def state_dict(self) -> dict[str, Any]:
            return {"odd": object()}

    training = Training()
    training.hook = Odd(training.model, pruner().plan(training.model, sc.Budget(sparsity=0.5)))
    with pytest.raises(sc.RunError, match="a object at hook/odd"):
        training.run(checkpoint=path)
    assert training.steps == 0
