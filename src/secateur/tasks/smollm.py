"""A small language model, SmolLM2-135M, and the English text that Python ships."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from secateur.errors import DataError
from secateur.tasks.data.catalogue import SMOLLM2
from secateur.tasks.data.source import locate
from secateur.tasks.pretrained import transformers_for
from secateur.tasks.task import Task, evaluate

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
LENGTH = 256
WINDOWS = {"train": 64, "validation": 16, "test": 64}
SPLITS = ("train",) * 5 + ("validation",) + ("test",) * 4  # of every ten topics


def smollm(*, data_dir: Path | str | None = None) -> Task:
    """SmolLM2-135M-Instruct on the reference topics of Python: predict the next token.

    A decoder of 30 blocks, 134.5 million parameters, of which 106.2 million are in the linear layers of the blocks; its
    weights are stored in 4 bits and widened when they are read, so the dense model is that of 4 bits. Texts are those
    of `pydoc_data.topics`, each paragraph once, whole topics in one split: 64 windows of 256 tokens to calibrate or
    train on, 16 to validate, 64 to test. They differ a little between versions of Python, and the model has probably
    seen them in training, so perplexities here compare methods and mean nothing by themselves.

    The metric is the mean log-likelihood of a token in nats, higher is better; `perplexity` is its exponential.
    `task.model()` returns the trained weights, and the epochs of dense training are 0. The head shares its weight with
    the embedding: exclude `lm_head` from pruning, as the literature does.

    Args:
        data_dir: The folder with the file of the model; None: where `secateur data` puts it.

    Returns:
        Task: inputs and targets are token numbers, `(samples, 256)`.

    Raises:
        DataError: The model's file is not there, or transformers, gguf or accelerate is not installed.

    Reference:
        Allal et al. (2025), SmolLM2: When Smol Goes Big, for the model.
    """
    folder = locate(SMOLLM2, data_dir)
    transformers = transformers_for("smollm", "gguf", "accelerate")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=FILE, local_files_only=True)
    texts = split(import_module("pydoc_data.topics").topics)
    data = {name: windows(tokenizer(texts[name])["input_ids"], WINDOWS[name], LENGTH) for name in WINDOWS}
    return Task(
        "smollm",
        partial(_model, folder),
        train=data["train"],
        validation=data["validation"],
        test=data["test"],
        loss=cross_entropy,
        metric=log_likelihood,
        example=data["train"].tensors[0][:1],
        metric_name="log-likelihood per token",
        batch_size=4,
        epochs=0,
        learning_rate=1e-3,
    )


def perplexity(model: nn.Module, task: Task) -> float:
    """How many tokens a language model hesitates between: `exp(-mean log p(token | tokens before))`, on the test data.

    Args:
        model: The model.
        task: One whose metric is the mean log-likelihood of a token, such as `smollm()`.

    Returns:
        At least 1, lower is better.

    Example:
        Of three tokens a model that knows nothing gives each a third:

        >>> data = TensorDataset(torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 4, dtype=torch.int64))
        >>> task = Task("a", nn.Identity, data, data, data, cross_entropy, log_likelihood, data.tensors[0][:1])
        >>> class Guess(nn.Module):
        ...     def forward(self, words):
        ...         return torch.zeros(*words.shape, 3)
        >>> round(perplexity(Guess(), task), 4)
        3.0
    """
    return math.exp(-evaluate(model, task))


def cross_entropy(outputs: Any, targets: Tensor) -> Tensor:
    """The mean of `-log p(token)`.

    Args:
        outputs: Logits, `(samples, length, words)`, or a value that holds them as `logits`.
        targets: The token to come at each place, `(samples, length)`.

    Returns:
        A scalar, in nats.

    Example:
        >>> cross_entropy(torch.zeros(1, 2, 4), torch.tensor([[1, 3]])).exp()
        tensor(4.)
    """
    logits = outputs if isinstance(outputs, Tensor) else outputs.logits
    return nn.functional.cross_entropy(logits.flatten(0, -2).float(), targets.flatten())


def log_likelihood(outputs: Any, targets: Tensor) -> float:
    """The mean of `log p(token)`.

    Args:
        outputs: As `cross_entropy` takes them.
        targets: As `cross_entropy` takes them.

    Returns:
        At most 0, in nats, higher is better.
    """
    return -float(cross_entropy(outputs, targets).detach())


def split(topics: Mapping[str, str]) -> dict[str, str]:
    """Texts for the three splits: whole topics, in the order of their names; a paragraph that came before is left out.

    Args:
        topics: Texts by name.

    Returns:
        A text for each split.

    Example:
        >>> split({name: f"text {name}" for name in "abcdefghij"})["validation"]
        'text f'
    """
    seen: set[str] = set()
    parts: dict[str, list[str]] = {name: [] for name in WINDOWS}
    for number, name in enumerate(sorted(topics)):
        for paragraph in (found.strip("\n") for found in topics[name].split("\n\n")):
            if paragraph.strip() and paragraph not in seen:
                seen.add(paragraph)
                parts[SPLITS[number % len(SPLITS)]].append(paragraph)
    return {name: "\n\n".join(found) for name, found in parts.items()}


def windows(tokens: Sequence[int] | Iterable[int], count: int, length: int) -> TensorDataset:
    """Stretches of text that do not overlap, and for each place the token that comes next.

    Args:
        tokens: Numbers of the tokens.
        count: How many stretches.
        length: Tokens in each.

    Returns:
        Inputs and targets, int64 `(count, length)` each.

    Raises:
        DataError: The text is too short.

    Example:
        >>> [part.tolist() for part in windows(range(10), 2, 3).tensors]
        [[[0, 1, 2], [4, 5, 6]], [[1, 2, 3], [5, 6, 7]]]
    """
    numbers = torch.tensor(list(tokens), dtype=torch.int64)
    wanted = count * (length + 1)
    if len(numbers) < wanted:
        raise DataError(f"the text has {len(numbers)} tokens; {count} windows of {length} and one more need {wanted}")
    cut = numbers[:wanted].reshape(count, length + 1)
    return TensorDataset(cut[:, :-1].contiguous(), cut[:, 1:].contiguous())


def _model(folder: Path) -> nn.Module:
    """The file holds numbers and names and is read as such: nothing in it is run."""
    found: nn.Module = transformers_for("smollm", "gguf", "accelerate").AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=FILE, local_files_only=True, dtype=torch.float32, use_cache=False
    )
    return found.eval()
