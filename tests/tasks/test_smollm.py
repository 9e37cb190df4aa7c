"""The language task: texts that do not meet, windows that do not overlap, and the model where it is installed."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from secateur.errors import DataError
from secateur.tasks import Task, load_task, loader, perplexity
from secateur.tasks.smollm import WINDOWS, cross_entropy, log_likelihood, split, windows
from tests.pretrained import needed


def topics() -> Any:
    return importlib.import_module("pydoc_data.topics").topics


def test_no_paragraph_is_in_two_splits() -> None:
    texts = split(topics())
    paragraphs = {name: text.split("\n\n") for name, text in texts.items()}
    every = [one for found in paragraphs.values() for one in found]
    assert set(texts) == set(WINDOWS)
    assert len(every) == len(set(every))
    known = {one.strip("\n") for text in topics().values() for one in text.split("\n\n") if one.strip()}
    assert set(every) == known


def test_windows_do_not_overlap_and_targets_come_next() -> None:
    inputs, targets = windows(range(100), 7, 12).tensors
    assert torch.equal(targets, inputs + 1)
    assert inputs.unique().numel() == inputs.numel() == 84
    with pytest.raises(DataError, match="the text has 100 tokens; 8 windows of 12 and one more need 104"):
        windows(range(100), 8, 12)


def test_perplexity_is_that_of_every_token_of_the_test_data() -> None:
    """Batches of different sizes count by their samples."""
    draw = torch.Generator().manual_seed(0)
    words = torch.randint(5, (7, 6), generator=draw)
    data = TensorDataset(words[:, :-1].contiguous(), words[:, 1:].contiguous())
    table = nn.Embedding(5, 5)
    task = Task("a", lambda: table, data, data, data, cross_entropy, log_likelihood, words[:1], batch_size=4)
    chance = table(data.tensors[0]).detach().log_softmax(-1).gather(-1, data.tensors[1][..., None])
    assert len(loader(task, "test")) == 2
    assert perplexity(table, task) == pytest.approx(math.exp(-float(chance.double().mean())))


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="secateur data smollm2-135m-instruct"):
        load_task("smollm", data_dir=tmp_path)
    (tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf").touch()

    def refuse(name: str) -> Any:
        raise ImportError(name=name)

    monkeypatch.setattr(sys.modules["secateur.tasks.pretrained"], "import_module", refuse)
    with pytest.raises(DataError, match=r"needs gguf: pip install 'secateur\[language\]'"):
        load_task("smollm", data_dir=tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what other packages warn of is theirs
def test_the_model_predicts_text() -> None:
    needed("smollm2-135m-instruct")
    task = load_task("smollm")
    model = task.model()
    inputs, targets = (part[:2] for part in task.validation.tensors)  # type: ignore[attr-defined]
    assert inputs.shape == (2, 256)
    with torch.no_grad():
        likely = log_likelihood(model(inputs), targets)
    assert 1 < math.exp(-likely) < 100  # of 49,152 words
