"""Labelled mail, wanted and unwanted, and MiniLM, a small sentence encoder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from email import message_from_string, policy
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from functools import partial
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils.data import TensorDataset

from secateur.errors import DataError
from secateur.tasks.data.catalogue import MINILM, SPAM_ASSASSIN
from secateur.tasks.data.source import locate
from secateur.tasks.digits import accuracy
from secateur.tasks.pretrained import transformers_for
from secateur.tasks.task import Task

FOLDERS = {"easy-ham-1": 0, "easy-ham-2": 0, "hard-ham-1": 0, "spam-1": 1, "spam-2": 1}
LENGTH = 64  # tokens of a mail that are read
CHARACTERS = 2_000  # of a mail that are tokenized; more than 64 tokens hold
SPLITS = ("train",) * 7 + ("validation",) + ("test",) * 2  # of every ten mails
PADDING = 0  # the token that fills up short mails


def spam(*, data_dir: Path | str | None = None) -> Task:
    """The SpamAssassin mail, wanted (0) or unwanted (1), read by MiniLM.

    The encoder all-MiniLM-L6-v2 has 6 blocks and 22.6 million parameters, of which 10.6 million are in the linear
    layers of the blocks. Its last hidden states, averaged over the tokens of a mail, go into a linear layer of two
    classes, whose weights are drawn; everything is trained. A mail is its subject and its text, without other headers,
    which would give it away; the first 64 tokens are read, and of mails with the same text there is one. Which split a
    mail is in depends on its text alone: seven tenths to train on, one to validate, two to test.

    Args:
        data_dir: A folder with one of each source, `spam-assassin` and `all-minilm-l6-v2`; None: where `secateur data`
            puts them.

    Returns:
        Task: inputs are token numbers, `(samples, 64)`; accuracy, higher is better.

    Raises:
        DataError: The mails or the model's files are not there or damaged, or transformers is not installed.

    Reference:
        Wang, Wei, Dong, Bao, Yang, Zhou (2020), MiniLM: Deep Self-Attention Distillation, for the encoder.
    """
    mails, encoder = locate(SPAM_ASSASSIN, data_dir), locate(MINILM, data_dir)
    transformers = transformers_for("spam")
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder, local_files_only=True)
    data = {name: _tokens(found, tokenizer) for name, found in split(labelled(mails)).items()}
    return Task(
        "spam",
        partial(_model, encoder),
        train=data["train"],
        validation=data["validation"],
        test=data["test"],
        loss=nn.functional.cross_entropy,
        metric=accuracy,
        example=data["train"].tensors[0][:1],
        batch_size=32,
        epochs=2,
        learning_rate=5e-5,
        optimizer=_adamw,
        warm_up=0.2,
    )


class Classifier(nn.Module):
    """An encoder of words, averaged over the words that are there, and a linear layer.

    Args:
        encoder: From token numbers and a mask, both `(samples, length)`, to a value that holds `last_hidden_state`,
            `(samples, length, width)`.
        width: Of the hidden state.
        classes: How many.
    """

    def __init__(self, encoder: nn.Module, width: int, classes: int = 2) -> None:
        """With new weights in the linear layer."""
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(width, classes)

    def forward(self, words: Tensor) -> Tensor:
        """Logits, `(samples, classes)`, of token numbers, `(samples, length)`."""
        there = words != PADDING
        states = self.encoder(input_ids=words, attention_mask=there.long()).last_hidden_state
        share = there.unsqueeze(-1) / there.sum(1)[:, None, None]
        logits: Tensor = self.head((states * share).sum(1))
        return logits


def labelled(folder: Path) -> list[tuple[str, int]]:
    """Texts of mails and whether each is unwanted; of equal texts the first.

    Args:
        folder: With a folder of JSON files for each of `FOLDERS`.

    Returns:
        Pairs, in the order of the files' names.

    Raises:
        DataError: A file is no JSON with a text, or a folder holds none.
    """
    found: dict[str, int] = {}
    for name, label in FOLDERS.items():
        files = sorted((folder / name).glob("*.json"))
        if not files:
            raise DataError(f"there are no mails in {folder / name}; fetch the data again")
        for file in files:
            found.setdefault(_text(file), label)
    return [(text, label) for text, label in found.items() if text]


def split(mails: Iterable[tuple[str, int]]) -> dict[str, list[tuple[str, int]]]:
    """The three splits; a text is always in the same, and its place among the others is by chance.

    Args:
        mails: Pairs of a text and its class.

    Returns:
        Some of them by name of the split.

    Example:
        >>> [name for name, found in split([("Free money", 1)]).items() if found]
        ['test']
    """
    parts: dict[str, list[tuple[str, int]]] = {name: [] for name in dict.fromkeys(SPLITS)}
    for number, text, label in sorted((_drawn(text), text, label) for text, label in mails):
        parts[SPLITS[number % len(SPLITS)]].append((text, label))
    return parts


def _drawn(text: str) -> int:
    return int.from_bytes(sha256(text.encode(errors="surrogatepass")).digest()[:8])


def readable(mail: str) -> str:
    r"""Subject and text of a mail as one line.

    Args:
        mail: As it was sent, with its headers.

    Returns:
        What a person would read, of the first part that is plain text, else of one in HTML.

    Example:
        >>> mail = "From: a@example.org\nSubject: Hello\nContent-Type: text/html\n\n<p>How <b>are</b><br>you?</p>"
        >>> readable(mail)
        'Hello How are you?'
    """
    message = message_from_string(mail, policy=policy.compat32)
    texts = {part.get_content_type(): _payload(part) for part in reversed(list(message.walk())) if _is_text(part)}
    body = texts.get("text/plain") or _without_tags(texts.get("text/html", ""))
    return " ".join(f"{_subject(message.get('subject', ''))} {body}".split())


def _subject(header: Any) -> str:
    """Other letters than ASCII come as `=?utf-8?q?...?=`; what cannot be read so stays as it is."""
    try:
        return str(make_header(decode_header(str(header))))
    except (HeaderParseError, LookupError, ValueError):
        return str(header)


def _is_text(part: Any) -> bool:
    return part.get_content_type() in ("text/plain", "text/html")


def _payload(part: Any) -> str:
    """Bytes are read as Latin-1 where the mail names no character set that is one."""
    payload = part.get_payload(decode=True) or b""
    try:
        return str(payload.decode(part.get_content_charset() or "latin-1", errors="replace"))
    except LookupError:
        return str(payload.decode("latin-1"))


class _Words(HTMLParser):
    """Collects what is written between tags, but for scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002  the base class has it
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style") and self._hidden > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.found.append(data)


def _without_tags(page: str) -> str:
    words = _Words()
    with suppress(AssertionError):  # a declaration that is none; what came before it counts
        words.feed(page)
    return " ".join(words.found)


def _text(file: Path) -> str:
    try:
        mail = json.loads(file.read_text())["text"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is no mail: {type(error).__name__}: {error}; fetch the data again") from error
    return readable(str(mail))[:CHARACTERS]


def _tokens(mails: Sequence[tuple[str, int]], tokenizer: Any) -> TensorDataset:
    texts, labels = [text for text, _ in mails], [label for _, label in mails]
    found = tokenizer(texts, truncation=True, max_length=LENGTH, padding="max_length", return_tensors="pt")
    return TensorDataset(found["input_ids"], torch.tensor(labels))


def _adamw(parameters: list[nn.Parameter], learning_rate: float) -> AdamW:
    return AdamW(parameters, lr=learning_rate, weight_decay=0.01)


def _model(folder: Path) -> nn.Module:
    transformers = transformers_for("spam")
    encoder = transformers.AutoModel.from_pretrained(
        folder, local_files_only=True, dtype=torch.float32, add_pooling_layer=False
    )
    return Classifier(encoder, encoder.config.hidden_size)
