"""Molchanov, Mallya, Tyree, Frosio, Kautz (2019), Importance Estimation for Neural Network Pruning.

What the paper reports: the change of the loss when a filter is set to zero, to first order the square of the sum of
gradient times weight, ranks filters across all layers without scaling them by layer. It correlates with the true change
by more than 93 % on ImageNet, far above the magnitude of weights, and ResNet-101 without 40 % of its operations loses
0.02 points of accuracy.

Here, on Fashion-MNIST: ResNet-20, three seeds; channels through the residual streams, one ranking over all groups,
until half of the multiply-accumulates are left. Taylor against the L2 norm and against chance, right after pruning,
with the statistics of batch norms measured again, and after training on for 5 epochs from half the rate down half a
cosine. Taylor is that of the paper's gates, one behind each norm that a channel passes: gradient times weight over
scales and shifts, in one sum, squared, and averaged over 16 batches of training images. (Over the weights of a filter
that a batch norm follows, that sum is zero.) The paper removes a few filters at a time and measures again; here all
leave at once, which is the harder test of a score.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import islice
from statistics import fmean
from typing import Any

import torch
from _reproduction import CHECKPOINTS, Claim, Job, chosen, finish, load_result, measure, options, shortened
from _training import trained_on
from torch import nn

import secateur as sc
from secateur import allocation, criteria, granularity, reconstruction
from secateur.tasks import Task, evaluate, fashion, loader
from secateur.weights import load_weights
from secateur.workload import workload

PAPER = "Molchanov et al. 2019, Importance Estimation for Neural Network Pruning"
NETWORK = "resnet-20"
SEEDS = (0, 1, 2)
MACS = 0.5
EPOCHS = 5
SLOWER = 2.0  # the rate of training on is that of the dense network divided by this
BATCHES = 16  # of training images, for gradients and for statistics of batch norms
SHORT = 128  # images of each split in the short mode
MINUTES = 7.0


def criterion_of(name: str, seed: int) -> sc.Criterion:
    """A criterion by name."""
    if name == "taylor":
        return criteria.taylor("gates")
    return criteria.magnitude() if name == "magnitude" else criteria.random(seed)


CRITERIA = ("taylor", "magnitude", "random")
STAGES = {"cut": "right after pruning", "measured_again": "with batch norms measured again", "accuracy": "trained on"}


def start_of(seed: int, arguments: argparse.Namespace) -> tuple[Task, nn.Module]:
    """The task and the dense network."""
    task = fashion(NETWORK, data_dir=arguments.data_dir)
    model = task.model()
    load_weights(model, CHECKPOINTS / f"fashion-{NETWORK}-{seed}.safetensors")
    return (shortened(task, SHORT) if arguments.short else task), model.eval()


def pruned(criterion: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Accuracy at every stage, and what is left of every group."""
    task, model = start_of(seed, arguments)
    batches = list(islice(loader(task, seed=seed), BATCHES))
    pruner = sc.Pruner(criterion_of(criterion, seed), granularity.channel(task.example), allocation.global_())
    plan = pruner.plan(model, sc.Budget(macs=MACS), data=batches, loss=task.loss)
    small = sc.shrink(model, plan)
    before, after = (workload(one, task.example) for one in (model, small))
    row = {
        "dense": evaluate(model, task),
        "cut": evaluate(small, task),
        "macs": [before.macs, after.macs],
        "kept": {part.name: [part.kept, len(part.keep)] for part in plan.parts if not part.units.frozen},
    }
    epochs = 1 if arguments.short else EPOCHS
    row["measured_again"] = evaluate(reconstruction.reestimate(small, batches), task)
    return {**row, "accuracy": trained_on(small, task, seed, epochs=epochs, slower=SLOWER, autocast=torch.bfloat16)}


def table(jobs: dict[str, Any], seeds: Sequence[int]) -> dict[str, dict[str, float]]:
    """Means over seeds, by criterion."""
    found = {}
    for criterion in CRITERIA:
        rows = [jobs[f"pruned/{criterion}/{seed}"]["value"] for seed in seeds]
        found[criterion] = {name: fmean([row[name] for row in rows]) for name in ("dense", *STAGES)}
        found[criterion]["macs"] = max(row["macs"][1] / row["macs"][0] for row in rows)
    return found


def claims(found: dict[str, dict[str, float]]) -> list[Claim]:
    """What must come out."""
    left = max(row["macs"] for row in found.values())
    result = [Claim("multiply-accumulates left", f"at most {MACS:g}", f"{left:.3f}", left <= MACS)]
    for stage, words in STAGES.items():
        values = {criterion: row[stage] for criterion, row in found.items()}
        shown = ", ".join(f"{criterion} {value:.2%}" for criterion, value in values.items())
        best = values["taylor"] > max(values["magnitude"], values["random"])
        result.append(Claim(f"test accuracy {words}", "taylor above magnitude and random", shown, best))
    return result


def main() -> None:
    """Measure what is missing, print the rows, write the result if it is whole."""
    arguments = options(__doc__, (NETWORK,), SEEDS).parse_args()
    _, seeds, _ = chosen(arguments)
    jobs = [
        Job(f"pruned/{criterion}/{seed}", pruned, (criterion, seed, arguments), 0.5 if arguments.short else MINUTES)
        for seed in seeds
        for criterion in CRITERIA
    ]
    measured = measure("molchanov2019taylor", jobs, arguments)
    found = table(measured, seeds)
    committed = load_result("molchanov2019taylor")
    for criterion, row in found.items():
        values = ", ".join(f"{words} {row[stage]:.2%}" for stage, words in STAGES.items())
        beside = f"   committed, all seeds: {committed['table'][criterion]['accuracy']:.2%}" if committed else ""
        sys.stdout.write(f"{criterion}: dense {row['dense']:.2%}, {values}{beside}\n")
    finish("molchanov2019taylor", PAPER, claims(found), measured, arguments, table=found)


if __name__ == "__main__":
    main()
