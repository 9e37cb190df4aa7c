"""The training loop: its progress bar, and what it refuses."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rich
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import secateur as sc
from secateur.training.display import Watched
from tests.runs import LOSS, Line, Settles, batches, descend, sloping
from tests.small import data, network, pruner

pytestmark = pytest.mark.usefixtures("seeded")  # which leaves the global generator as it was

# -------------------------------------------------------------------------------------- display


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Stream(IterableDataset[Any]):
    """Data of unknown length."""

    def __iter__(self) -> Iterator[Any]:
        yield from zip(*data(), strict=True)


def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal in the place of standard output; no fixture, because pytest sets that anew before a test."""
    made = Terminal()
    monkeypatch.setattr(sys, "stdout", made)
    monkeypatch.setattr(rich, "_console", None)  # rich keeps one, which has looked at the real standard output
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "JUPYTER_COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.mark.parametrize("length", ["known", "unknown"])
def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch, length: str) -> None:
    terminal = a_terminal(monkeypatch)
    loader = batches() if length == "known" else DataLoader(Stream(), batch_size=8)
    descend(network(), loader, LOSS, learning_rate=0.1, epochs=2)
    for text in ("epoch 2 of 2", "loss", "6/6" if length == "known" else "6/?"):
        assert text in terminal.getvalue()
    assert sys.stdout is terminal


def test_the_bar_of_a_run_that_is_gone_on_with_counts_the_steps_of_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    terminal = a_terminal(monkeypatch)
    for epochs in (1, 2):
        descend(Line(), sloping(1, 1), epochs=epochs, checkpoint=tmp_path / "run", resume=True)
        assert f"{2 * epochs}/{2 * epochs}" in terminal.getvalue()


def test_a_pass_over_data_shows_a_bar_and_one_within_it_none(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    watched = Watched(["a", "b"], "statistics", show=True)
    passes = iter(watched)
    assert [next(passes), *watched, *passes, *watched] == ["a", "a", "b", "b", "a", "b"]
    assert "statistics" in terminal.getvalue()
    assert "2/2" in terminal.getvalue()
    before = len(terminal.getvalue())
    assert list(Watched([1], show=False)) == [1]
    assert len(terminal.getvalue()) == before


def test_a_run_that_fails_gives_the_cursor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    with pytest.raises(sc.RunError):
        descend(Line(), loss=lambda y, _: y.sum() * math.nan)
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    assert 0 <= terminal.getvalue().rfind(hidden) < terminal.getvalue().rfind(shown)
    assert sys.stdout is terminal


def test_a_terminal_that_cannot_move_its_cursor_is_not_asked_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = a_terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    descend(Line(), epochs=2)
    assert "\x1b" not in terminal.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_nothing_is_shown_where_nobody_would_see_it_or_wants_to(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO]
) -> None:
    output = stream()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(rich, "_console", None)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    descend(Line(), progress=stream is io.StringIO)
    assert output.getvalue() == ""


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_before_it_reaches_the_weights(value: float) -> None:
    model = Line()
    with pytest.raises(sc.RunError, match=rf"the loss is {value} in epoch 2 of 3, step 2; expected a finite number"):
        descend(model, sloping(1, 1), lambda y, _: -y.sum() if y < 3 else y.sum() * value, epochs=3)
    assert model.w.item() == 3


def test_data_that_come_to_an_end_are_refused() -> None:
    with pytest.raises(sc.DataError, match="there were no batches in epoch 1 of 1"):
        descend(Line(), [])
    assert descend(Line(), iter(sloping(1, 1))).losses == (-0.5,)  # once is enough for one epoch
    with pytest.raises(
        sc.DataError, match=r"no batches in epoch 2 of 2; .* not a generator, which can be used only once"
    ):
        descend(Line(), iter(sloping(1, 1)), epochs=2)


@pytest.mark.parametrize(
    ("batch", "what"),
    [
        ((torch.ones(1),) * 3, "a tuple of length 3"),
        ([torch.ones(1)], "a list of length 1"),
        (torch.ones(2, 1), "a Tensor of length 2"),
        ({"inputs": torch.ones(1), "labels": torch.ones(1)}, "a dict of length 2"),
        (None, "a NoneType;"),
        (torch.tensor(1.0), "a Tensor"),
    ],
)
def test_batches_that_are_no_pairs_are_refused(batch: Any, what: str) -> None:
    with pytest.raises(sc.DataError, match=rf"a batch is {what}.* expected a pair \(inputs, targets\)"):
        descend(Line(), [batch])


@pytest.mark.parametrize(
    "wrong",
    [
        *({"learning_rate": rate} for rate in (0, -1, math.nan, math.inf)),
        *({"divide_by": by} for by in (0, -10, math.nan, math.inf)),
        {"epochs": -1},
        {"accumulate": 0},
        {"autocast": torch.float16},
        {"autocast": torch.float32},
    ],
    ids=repr,
)
def test_arguments_out_of_range_are_refused_before_anything_is_done(wrong: dict[str, Any]) -> None:
    model = network()
    ((name, value),) = wrong.items()
    with pytest.raises(sc.RunError, match=f"{name} is {value}; expected"):
        descend(model, batches(), LOSS, plan=pruner().plan(model, sc.Budget(sparsity=0.5)), **wrong)
    assert not bool((model.get_parameter("6.weight") == 0).any())


def test_plan_and_hook_together_are_refused() -> None:
    model = network()
    plan = pruner().plan(model, sc.Budget(sparsity=0.5))
    with pytest.raises(sc.RunError, match="plan and hook were both given; expected one"):
        descend(model, batches(), LOSS, plan=plan, hook=Settles(0))
    assert not bool((model.get_parameter("6.weight") == 0).any())


def test_going_on_needs_a_checkpoint() -> None:
    with pytest.raises(sc.RunError, match=r"there is no checkpoint; expected a file\. Pass checkpoint="):
        descend(Line(), resume=True)


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Linear(1, 1).requires_grad_(False)], ids=["none", "frozen"])
def test_models_without_trainable_parameters_are_refused(model: nn.Module) -> None:
    with pytest.raises(sc.ModelError, match=f"{type(model).__name__} has no parameter that requires a gradient"):
        descend(model)
