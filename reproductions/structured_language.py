"""Attention heads and units of the two layers behind them leave two language models, and least squares makes up for it.

What is known: many heads can leave a trained encoder at little loss, and the first-order effect on the loss says which
(Michel et al. 2019); decoders lose coupled heads and units by the same measure and are then trained on a little (Ma et
al. 2023). Least squares on what the layers put out is how channels of convolutional networks are made up for (He et
al. 2017); it needs no labels and no training.

Here: SmolLM2-135M on the reference topics of Python, one draw of calibration text; a fifth of the units of each group
leaves, whole key and value heads with their queries. MiniLM with a linear layer on labelled mail, trained whole, three
seeds; half of the heads and units leaves, then everything is trained on for an epoch. Units leave by Taylor's first
order (squared sums over a unit, batch by batch), by the L2 norm of what leaves with them, or at random; the width of
both models stays. With `least squares`, what the pruned model's layers put out is fitted to what the whole model's
layers put out, on the same calibration data that Taylor sees.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
from _language import Tiny, calibration, start
from _reproduction import Claim, Job, chosen, finish, measure, options
from _training import trained_on
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.reconstruction import least_squares
from secateur.tasks import Task, evaluate, loader, perplexity, spam, train
from secateur.weights import load_weights, save_weights

PAPER = "after Michel et al. 2019, Are Sixteen Heads Really Better than One?, and Ma et al. 2023, LLM-Pruner"
DECODER, ENCODER = "smollm2-135m", "minilm"
SEEDS = (0, 1, 2)
DRAWS = (0,)  # seeds of the decoder's calibration text
SPARSITY = {DECODER: 0.2, ENCODER: 0.5}
WIDTH = {DECODER: ("*embed*", "lm_head"), ENCODER: ("*embed*", "head")}  # stays
MAILS = 512  # to calibrate with
POINTS = 64  # of each sample, for least squares
CRITERIA: Mapping[str, Callable[[int], sc.Criterion]] = {
    "random": criteria.random,
    "magnitude": lambda _: criteria.magnitude(),
    "taylor": lambda _: criteria.taylor(),
}
WAYS = ("cut", "least squares")
NO_LOSS = -0.01
MINUTES = {
    f"{DECODER}/cut": 3.0,
    f"{DECODER}/least squares": 12.0,
    f"{ENCODER}/cut": 3.0,
    f"{ENCODER}/least squares": 5.0,
}


def pruned_by(
    network: str, name: str, way: str, seed: int, model: nn.Module, task: Task, batches: list[Any]
) -> sc.Plan:
    """What leaves, and new weights for what stays."""
    units = granularity.channel(task.example)
    refit = least_squares(points=POINTS, seed=seed, stages="auto") if way == "least squares" else None
    pruner = sc.Pruner(CRITERIA[name](seed), units, allocation.uniform(), refit=refit, exclude=WIDTH[network])
    return pruner.plan(model, sc.Budget(sparsity=SPARSITY[network]), data=batches, loss=task.loss)


def decoder(name: str, way: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Perplexity of the smaller model, and what is left of its parameters."""
    task, model = start(arguments)
    small = sc.shrink(model, pruned_by(DECODER, name, way, seed, model, task, calibration(task, seed)))
    return {"perplexity": perplexity(small, task), "left": count(small) / count(model)}


def whole_decoder(arguments: argparse.Namespace) -> float:
    """The perplexity of the dense model."""
    task, model = start(arguments)
    return perplexity(model, task)


def encoder_task(arguments: argparse.Namespace) -> Task:
    """The mail task, or, in the short mode, another with a model of two blocks."""
    return short_mail() if arguments.short else spam(data_dir=arguments.data_dir)


def dense_encoder(seed: int, arguments: argparse.Namespace) -> float:
    """Train the dense model; its test accuracy. The weights go to the work folder."""
    task = encoder_task(arguments)
    model, _ = train(task, seed=seed, autocast=torch.bfloat16)
    save_weights(model, weights_of(seed, arguments))
    return evaluate(model, task)


def weights_of(seed: int, arguments: argparse.Namespace) -> Any:
    """Where the weights of the dense encoder lie."""
    return arguments.work / f"{ENCODER}-{'short-' if arguments.short else ''}{seed}.safetensors"


def encoder(name: str, way: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Test accuracy right after the cut and trained on for an epoch, and what is left of the parameters."""
    task = encoder_task(arguments)
    model = task.model()
    load_weights(model, weights_of(seed, arguments))
    few = TensorDataset(*(part[:MAILS] for part in task.train.tensors))  # type: ignore[attr-defined]
    batches = list(loader(replace(task, train=few)))
    small = sc.shrink(model.eval(), pruned_by(ENCODER, name, way, seed, model, task, batches))
    cut = evaluate(small, task)
    accuracy = trained_on(small, task, seed, epochs=1, slower=1.0, autocast=torch.bfloat16)
    return {"cut": cut, "accuracy": accuracy, "left": count(small) / count(model)}


def count(model: nn.Module) -> int:
    """Numbers in its parameters."""
    return sum(value.numel() for value in model.parameters())


class ShortClassifier(nn.Module):
    """The tiny language model's states, averaged, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Tiny()
        self.body.lm_head = nn.Identity()  # type: ignore[assignment]
        self.head = nn.Linear(16, 2)

    def forward(self, words: Tensor) -> Tensor:
        """Logits of two classes."""
        logits: Tensor = self.head(self.body(words).mean(1))
        return logits


def short_mail() -> Task:
    """Random text whose class is that of its first word."""
    words = torch.randint(32, (96, 12), generator=torch.Generator().manual_seed(0))
    data = TensorDataset(words, words[:, 0] % 2)
    return Task(
        "short mail",
        ShortClassifier,
        data,
        data,
        data,
        nn.functional.cross_entropy,
        lambda outputs, targets: float((outputs.argmax(1) == targets).float().mean()),
        words[:1],
        epochs=1,
        learning_rate=0.01,
    )


def claims(measured: Mapping[str, Any], networks: tuple[str, ...], seeds: tuple[int, ...]) -> list[Claim]:
    """What must come out."""
    found = []
    if DECODER in networks:
        dense = measured[f"{DECODER}/dense"]["value"]
        loss = {
            (name, way): fmean(measured[f"{DECODER}/{name}/{way}/{seed}"]["value"]["perplexity"] for seed in DRAWS)
            for name in CRITERIA
            for way in WAYS
        }
        for way in WAYS:
            taylor, other, chance = (loss[name, way] for name in ("taylor", "magnitude", "random"))
            found.append(
                Claim(
                    f"{DECODER}, {way}: perplexity of dense, Taylor, and the better of magnitude and random",
                    "in this order",
                    f"{dense:.2f}, {taylor:.2f}, {min(other, chance):.2f}",
                    dense < taylor < min(other, chance),
                )
            )
        found.append(
            lowered(f"{DECODER}: perplexity", {name: tuple(loss[name, way] for way in WAYS) for name in CRITERIA})
        )
    if ENCODER in networks:
        found += encoder_claims(measured, seeds)
    return found


def encoder_claims(measured: Mapping[str, Any], seeds: tuple[int, ...]) -> list[Claim]:
    """What must come out of the encoder."""

    def mean(what: str, name: str, way: str) -> float:
        return fmean(measured[f"{ENCODER}/{name}/{way}/{seed}"]["value"][what] for seed in seeds)

    dense = fmean(measured[f"{ENCODER}/dense/{seed}"]["value"] for seed in seeds)
    taylor, other, chance = (mean("cut", name, "cut") for name in ("taylor", "magnitude", "random"))
    best = mean("accuracy", "taylor", "least squares")
    return [
        Claim(
            f"{ENCODER}, cut: test accuracy of Taylor, and the better of magnitude and random",
            "in this order",
            f"{taylor:.2%}, {max(other, chance):.2%}",
            taylor > max(other, chance),
        ),
        lowered(
            f"{ENCODER}: test error",
            {name: tuple(1 - mean("cut", name, way) for way in WAYS) for name in CRITERIA},
        ),
        Claim(
            f"{ENCODER}, Taylor and least squares, an epoch later: test accuracy against dense",
            f"at least {NO_LOSS * 100:+.1f} points",
            f"{(best - dense) * 100:+.2f} points ({best:.2%} of {dense:.2%})",
            best - dense >= NO_LOSS,
        ),
    ]


def lowered(what: str, values: Mapping[str, tuple[float, ...]]) -> Claim:
    """Least squares lowers a loss, whatever chose."""
    shown = ", ".join(f"{name} {before:.4g} to {after:.4g}" for name, (before, after) in values.items())
    return Claim(f"{what} without and with least squares", "lower", shown, all(b > a for b, a in values.values()))


def main() -> None:
    """Measure what is missing, print the rows, write the result if it is whole."""
    arguments = options(__doc__, (DECODER, ENCODER), SEEDS).parse_args()
    networks, seeds, _ = chosen(arguments)
    measured: dict[str, Any] = {}
    if ENCODER in networks:
        jobs = [Job(f"{ENCODER}/dense/{seed}", dense_encoder, (seed, arguments), 12.0) for seed in seeds]
        measured |= measure("structured_language", jobs, arguments)
    measured |= measure("structured_language", list(jobs_of(networks, seeds, arguments)), arguments)
    for key, job in measured.items():
        value = job["value"]
        shown = f"{value:.4g}" if isinstance(value, float) else ", ".join(f"{k} {v:.4g}" for k, v in value.items())
        sys.stdout.write(f"{key}: {shown}\n")
    finish("structured_language", PAPER, claims(measured, networks, seeds), measured, arguments)


def jobs_of(networks: tuple[str, ...], seeds: tuple[int, ...], arguments: argparse.Namespace) -> list[Job]:
    """All but the training of dense encoders."""
    found = [Job(f"{DECODER}/dense", whole_decoder, (arguments,), 3.0)] if DECODER in networks else []
    for network, function, drawn in ((DECODER, decoder, DRAWS), (ENCODER, encoder, seeds)):
        if network in networks:
            found += [
                Job(
                    f"{network}/{name}/{way}/{seed}",
                    function,
                    (name, way, seed, arguments),
                    MINUTES[f"{network}/{way}"],
                )
                for name in CRITERIA
                for way in WAYS
                for seed in drawn
            ]
    return found


if __name__ == "__main__":
    main()
