"""Hu, Peng, Tai, Tang (2016), Network Trimming: A Data-Driven Neuron Pruning Approach towards Efficient Architectures.

What the paper reports: behind a rectifier many neurons are zero for nearly all inputs. Of VGG-16, 631 have an average
percentage of zeros (APoZ) above 90 % on the validation images, most of them in the last convolution and the first fully
connected layer. Trimming a few at a time, and training on from the weights that are left, takes 4096 neurons of that
layer to 1513 and the network to 1/2.59 of its parameters, at an accuracy like that of the whole.

Here, on Fashion-MNIST: the hidden fully connected neurons of LeNet-300-100 (300 and 100) and of LeNet-5 (500), three
seeds. Zeros are counted on the 5,000 validation images, anew in every round; the neurons with the highest share of
zeros of all these layers leave, the smaller network is cut out, and trained on for 8 epochs (LeNet-5: 5) from the rate
of the dense network down half a cosine. The baseline takes as many neurons of each layer by chance, so it has the same
widths in every round, and is trained as long. The target is that half of the neurons leave at a loss of at most 0.3
points. From a third of the rate, for 4 epochs, LeNet-300-100 lost 0.66 points at half of its neurons, LeNet-5 none; and
against chance over all neurons alike, which took fewer of the large first layer, APoZ lost 0.3 points there. What
chance takes at the same widths is as good once it is trained on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

import torch
from _reproduction import CHECKPOINTS, Claim, Job, chosen, finish, load_result, measure, options, shortened
from _training import trained_on
from torch import nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.tasks import Task, evaluate, fashion, loader
from secateur.weights import load_weights

PAPER = "Hu et al. 2016, Network Trimming"
NETWORKS = ("lenet-300-100", "lenet-5")
SEEDS = (0, 1, 2)
CRITERIA = ("apoz", "random")
ROUNDS = (0.2, 0.35, 0.5, 0.65, 0.75)  # neurons gone after each
HALF = 0.5
WITHIN = -0.003
EPOCHS = {"lenet-300-100": 8, "lenet-5": 5}  # of training on, after each round
IDLE = 0.9  # a neuron that is zero more often hardly ever fires
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
MINUTES = {"lenet-300-100": 0.5, "lenet-5": 4.7}


def zeros_of(model: nn.Module, task: Task) -> sc.Statistics:
    """Shares of zeros behind the rectifiers, counted on the validation split."""
    return sc.calibrate(model.eval(), loader(task, "validation"), ["zeros"])


def described(zeros: sc.Statistics) -> dict[str, Any]:
    """How the shares of zeros lie among neurons: quantiles of each layer, and how many hardly ever fire."""
    return {
        name: {
            "quantiles": [round(value, 4) for value in share.quantile(torch.tensor(QUANTILES)).tolist()],
            "idle": int((share > IDLE).sum()),
            "neurons": len(share),
        }
        for name, share in zeros.values["zeros"].items()
        if share.ndim == 2  # of a fully connected layer
    }


def trimmed(
    network: str, criterion: str, seed: int, arguments: argparse.Namespace, widths: Sequence[dict[str, int]] = ()
) -> dict[str, Any]:
    """Round after round: accuracy right after the cut and trained on, neurons and parameters left.

    With `widths`, as many neurons of each layer stay in each round.
    """
    task = fashion(network, data_dir=arguments.data_dir)
    model: Any = task.model()
    load_weights(model, CHECKPOINTS / f"fashion-{network}-{seed}.safetensors")
    task, rounds = (shortened(task), ROUNDS[:3]) if arguments.short else (task, ROUNDS)
    epochs = 1 if arguments.short else EPOCHS[network]
    model.eval()
    found: dict[str, Any] = {"dense": evaluate(model, task), "zeros": described(zeros_of(model, task)), "rows": []}
    for number, (before, after) in enumerate(pairwise((0.0, *rounds))):
        method = criteria.apoz() if criterion == "apoz" else criteria.random(1000 * seed + number)
        pruner = sc.Pruner(method, granularity.channel(task.example), allocation.global_(), exclude=(nn.Conv2d,))
        budget = sc.Budget(sparsity=1 - (1 - after) / (1 - before))
        if widths:
            now = {name: layer.out_features for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
            budget = sc.Budget(per_group={name: 1 - kept / now[name] for name, kept in widths[number].items()})
        plan = pruner.plan(model, budget, statistics=zeros_of(model, task))
        model = sc.shrink(model, plan)
        row = {
            "gone": after,
            "cut": evaluate(model, task),
            "kept": {part.name: part.kept for part in plan.parts if not part.units.frozen},
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        }
        found["rows"].append({**row, "accuracy": trained_on(model, task, seed, epochs=epochs, slower=1.0)})
    return found


def table(jobs: dict[str, Any], networks: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Means over seeds, round by round."""
    found = {}
    for network in networks:
        for criterion in CRITERIA:
            runs = [jobs[f"trimmed/{network}/{criterion}/{seed}"]["value"] for seed in seeds]
            dense = fmean([run["dense"] for run in runs])
            rows = [
                {name: fmean([row[name] for row in level]) for name in ("gone", "cut", "accuracy", "parameters")}
                for level in zip(*(run["rows"] for run in runs), strict=True)
            ]
            found[f"{network} {criterion}"] = {"dense": dense, "zeros": runs[0]["zeros"], "rows": rows}
    return found


def claims(found: dict[str, Any], networks: Sequence[str]) -> list[Claim]:
    """What must come out."""
    result = []
    for network in networks:
        ours, chance = found[f"{network} apoz"], found[f"{network} random"]
        good = [row for row in ours["rows"] if row["gone"] >= HALF and row["accuracy"] - ours["dense"] >= WITHIN]
        at_half = next(row for row in ours["rows"] if row["gone"] >= HALF)
        difference = at_half["accuracy"] - ours["dense"]
        result.append(
            Claim(
                f"{network}: fully connected neurons gone within {-WITHIN * 100:.1f} points of dense",
                f"at least {HALF:.0%}",
                f"{max((row['gone'] for row in good), default=0):.0%}; at {at_half['gone']:.0%} "
                f"{difference * 100:+.2f} points ({at_half['accuracy']:.2%} of {ours['dense']:.2%})",
                bool(good),
            )
        )
        for stage, words in (("cut", "right after the cut"), ("accuracy", "trained on")):
            gains = [mine[stage] - other[stage] for mine, other in zip(ours["rows"], chance["rows"], strict=True)]
            sizes = [row["gone"] for row in ours["rows"]]
            shown = ", ".join(f"{gone:.0%}: {gain * 100:+.2f}" for gone, gain in zip(sizes, gains, strict=True))
            result.append(
                Claim(f"{network}: APoZ against chance, {words}", "better at every round", shown, min(gains) > 0)
            )
    return result


def main() -> None:
    """Measure what is missing, print the rows, write the result if it is whole."""
    arguments = options(__doc__, NETWORKS, SEEDS).parse_args()
    networks, seeds, _ = chosen(arguments)
    settings = [(network, seed) for network in networks for seed in seeds]

    def jobs(criterion: str, widths: Callable[[str, int], Sequence[dict[str, int]]]) -> list[Job]:
        return [
            Job(
                f"trimmed/{network}/{criterion}/{seed}",
                trimmed,
                (network, criterion, seed, arguments, widths(network, seed)),
                0.1 if arguments.short else MINUTES[network],
            )
            for network, seed in settings
        ]

    def taken(network: str, seed: int) -> list[dict[str, int]]:
        return [row["kept"] for row in measured[f"trimmed/{network}/apoz/{seed}"]["value"]["rows"]]

    measured = measure("hu2016apoz", jobs("apoz", lambda *_: ()), arguments)
    measured |= measure("hu2016apoz", jobs("random", taken), arguments)
    found = table(measured, networks, seeds)
    committed = load_result("hu2016apoz")
    for key, row in found.items():
        values = "  ".join(f"{one['gone']:.0%} {one['cut']:.2%} {one['accuracy']:.2%}" for one in row["rows"])
        beside = f"   committed, last: {committed['table'][key]['rows'][-1]['accuracy']:.2%}" if committed else ""
        sys.stdout.write(f"{key}: dense {row['dense']:.2%}; gone, cut, trained on: {values}{beside}\n")
    finish("hu2016apoz", PAPER, claims(found, networks), measured, arguments, table=found)


if __name__ == "__main__":
    main()
