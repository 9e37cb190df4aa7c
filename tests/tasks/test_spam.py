"""The mail task: what a person would read of a mail, splits by text, and the model where it is installed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from secateur.errors import DataError
from secateur.tasks import evaluate, load_task, train
from secateur.tasks.spam import FOLDERS, Classifier, labelled, readable, split
from tests.pretrained import needed

HTML = "Subject: Offer\nContent-Type: text/html; charset={charset}\n\n<style>p {{}}</style><p>Only<br>today</p>"
BOTH = """Subject: Two parts
Content-Type: multipart/alternative; boundary=cut

--cut
Content-Type: text/html

<p>pretty</p>
--cut
Content-Type: text/plain

plain
--cut--
"""


def test_a_mail_is_its_subject_and_its_text() -> None:
    assert readable("From: a@example.org\nSubject: Hello\n\nHow are\n  you?") == "Hello How are you?"
    assert readable(BOTH) == "Two parts plain"
    assert readable("Content-Type: image/png\n\nxyz") == ""
    encoded = "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nGr=FC=DFe"
    assert readable(encoded) == "Grüße"
    assert readable("Subject: =?iso-8859-1?q?Gr=FC=DFe?= =?utf-8?b?4oKs?=\n\nx") == "Grüße€ x"
    assert readable("Subject: =?no-such-set?q?abc?=\n\nx") == "=?no-such-set?q?abc?= x"


@pytest.mark.parametrize("charset", ["latin-1", "no-such-set", '"'])
def test_html_is_read_whatever_set_of_characters_it_names(charset: str) -> None:
    assert readable(HTML.format(charset=charset)) == "Offer Only today"


@given(st.text())
def test_any_text_is_a_mail(text: str) -> None:
    found = readable(text)
    assert found == " ".join(found.split())
    readable(f"Subject: =?utf-8?b?{text}?=\n\n")
    readable("Content-Type: text/html\n\n<" + text)
    readable("Content-Type: text/html\n\n<![if " + text)


@given(st.dictionaries(st.text(), st.integers(0, 1)))
def test_a_text_is_in_one_split_whatever_comes_with_it(mails: dict[str, int]) -> None:
    parts = split(mails.items())
    assert sorted(pair for part in parts.values() for pair in part) == sorted(mails.items())
    for name, part in parts.items():
        for pair in part:
            assert split([pair])[name] == [pair]


def mailbox(folder: Path, text: str = "Subject: {name}\n\nbody") -> None:
    for name in FOLDERS:
        (folder / name).mkdir()
        (folder / name / "1.json").write_text(json.dumps({"text": text.format(name=name)}))


def test_mails_are_read_by_folder_and_equal_ones_once(tmp_path: Path) -> None:
    mailbox(tmp_path)
    assert labelled(tmp_path) == [(f"{name} body", label) for name, label in FOLDERS.items()]
    (tmp_path / "spam-2" / "2.json").write_text(json.dumps({"text": "Subject: easy-ham-1\n\nbody"}))
    assert len(labelled(tmp_path)) == len(FOLDERS)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"id": 1}', "3"])
def test_damaged_mail_is_named(content: str, tmp_path: Path) -> None:
    mailbox(tmp_path)
    (tmp_path / "spam-1" / "0.json").write_text(content)
    with pytest.raises(DataError, match=r"spam-1/0\.json is no mail: .*; fetch the data again"):
        labelled(tmp_path)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there are no mails in .*easy-ham-1; fetch the data again"):
        labelled(tmp_path)


class Table(nn.Module):
    """A state for each word, as an encoder returns it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=self.table(input_ids) + 0 * attention_mask[..., None])


def test_padding_does_not_count() -> None:
    model = Classifier(Table(), 3)
    short, padded = torch.tensor([[1, 2]]), torch.tensor([[1, 2, 0, 0, 0]])
    assert torch.allclose(model(short), model(padded))
    mean = model.encoder.table.weight[1:3].mean(0)  # type: ignore[union-attr,index]
    assert torch.allclose(model(padded)[0], model.head(mean))


@pytest.mark.filterwarnings("ignore")  # what other packages warn of is theirs
def test_missing_data_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="secateur data spam-assassin"):
        load_task("spam", data_dir=tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what other packages warn of is theirs
def test_some_mails_are_enough_to_learn_from() -> None:
    needed("spam-assassin", "all-minilm-l6-v2")
    task = load_task("spam")
    assert task.example.shape == (1, 64)
    whole: Any = task
    some, few = (
        TensorDataset(*(part[:count] for part in data.tensors))
        for data, count in ((whole.train, 256), (whole.test, 128))
    )
    task = replace(task, train=some, test=few, validation=few, learning_rate=2e-4)  # one epoch is eight steps
    model, _ = train(task, seed=0, epochs=1)
    wanted = 1 - float(few.tensors[1].float().mean())
    assert evaluate(model, task) > wanted + 0.1
