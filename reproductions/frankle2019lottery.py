"""Frankle, Carbin (2019), The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks.

What the paper reports: on MNIST, LeNet-300-100 contains subnetworks of 10 to 20 % of the weights and less that, set
back to their first values and trained alone, learn faster than the whole network and reach its test accuracy or more;
with new random values in the same places they learn more slowly and reach less, the more so the fewer weights are left.

Here, on Fashion-MNIST, with the recipe of the paper's section 2: Adam at 1.2e-3, constant; in each round the smallest
weights of each layer go, at the output half as many; what is left goes back to its first values and is trained alone. A
round here takes two of the paper's: 36 % of the weights left, 19 % at the output. The control at every size has the
same connections and new values, trained as long. Test accuracy is that of the epoch that was best in validation.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import Any

import torch
from _reproduction import Claim, Job, chosen, finish, load_result, measure, options, shortened
from torch import nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.tasks import Task, evaluate, fashion, loader, seeded
from secateur.training import finetune, rewind

PAPER = "Frankle, Carbin 2019, The Lottery Ticket Hypothesis"
NETWORKS = ("lenet-300-100",)
SEEDS = (0, 1, 2)
ROUNDS = 9
KEEP, KEEP_OUTPUT = 0.64, 0.81  # of what is left, in a round
EPOCHS = 12
RATE = 1.2e-3
NO_LOSS = -0.001
SMALL = 0.25  # a ticket is small with fewer of the weights than this
PRUNER = sc.Pruner(criteria.magnitude(), granularity.weight(), allocation.uniform())
MINUTES = 6.0


def adam(parameters: list[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    """The optimizer of the paper's experiments with this network."""
    return torch.optim.Adam(parameters, lr=learning_rate)


def trained(model: nn.Module, task: Task, plan: sc.Plan | None, *, seed: int, epochs: int) -> float:
    """Train a model in place, its zeros held; the test accuracy."""
    finetune(
        model,
        loader(task, seed=seed),
        task.loss,
        learning_rate=RATE,
        divide_by=1,
        epochs=epochs,
        optimizer=adam,
        plan=plan,
        validate=lambda candidate: evaluate(candidate, task, "validation"),
        progress=False,
    )
    return evaluate(model, task)


def tickets(network: str, seed: int, arguments: argparse.Namespace) -> list[dict[str, float]]:
    """Round after round: weights left, accuracy of the ticket, accuracy of the same connections with new values."""
    task = fashion(network, data_dir=arguments.data_dir)
    rounds, epochs = ROUNDS, EPOCHS
    if arguments.short:
        task, rounds, epochs = shortened(task), 4, 1
    run = partial(trained, task=task, seed=seed, epochs=epochs)
    with seeded(seed):
        model = task.model()
        first = {name: value.clone() for name, value in model.state_dict().items()}
        rows = [{"left": 1.0, "ticket": run(model, plan=None)}]
        *hidden, output = [layer.name for layer in granularity.weight_layers(model)]
        plan = None
        for number in range(1, rounds + 1):
            removed = dict.fromkeys(hidden, 1 - KEEP**number) | {output: 1 - KEEP_OUTPUT**number}
            plan = PRUNER.plan(model, sc.Budget(per_group=removed), start=plan)
            rewind(model, first, plan)
            ticket = run(model, plan=plan)
            control = task.model()  # new values from the generator
            rows.append({"left": 1 - plan.sparsity, "ticket": ticket, "control": run(control, plan=plan)})
    return rows


def table(jobs: dict[str, Any], seeds: Sequence[int]) -> list[dict[str, float]]:
    """Means over seeds, and the smallest difference of a ticket to its control."""
    rows = []
    for row in zip(*(jobs[f"tickets/{NETWORKS[0]}/{seed}"]["value"] for seed in seeds), strict=True):
        means = {key: fmean([one[key] for one in row]) for key in row[0]}
        if "control" in means:
            means["smallest"] = min(one["ticket"] - one["control"] for one in row)
        rows.append(means)
    return rows


def claims(rows: list[dict[str, float]]) -> list[Claim]:
    """What must come out."""
    dense, small = rows[0]["ticket"], [row for row in rows if row["left"] < SMALL]
    gains = [row["ticket"] - row["control"] for row in small]
    whole = [row["left"] for row in rows[1:] if row["ticket"] - dense >= NO_LOSS]
    sizes = f"{small[0]['left']:.1%} to {small[-1]['left']:.1%}"
    return [
        Claim(
            f"rewound tickets beat the same connections with new values at {sizes} of the weights",
            "at every size, mean over seeds",
            ", ".join(f"{row['left']:.1%}: {gain * 100:+.2f}" for row, gain in zip(small, gains, strict=True)),
            min(gains) > 0,
        ),
        Claim(
            "a ticket of at most 20 % of the weights is as good as the dense network",
            "at least -0.10 points",
            f"down to {min(whole, default=1):.1%} of the weights; dense {dense:.2%}",
            min(whole, default=1) <= 0.2,
        ),
        Claim(
            "the gain over new values grows as the tickets get smaller",
            "more at the smallest than at the largest",
            f"{gains[-1] * 100:+.2f} points against {(rows[1]['ticket'] - rows[1]['control']) * 100:+.2f}",
            gains[-1] > rows[1]["ticket"] - rows[1]["control"],
        ),
    ]


def main() -> None:
    """Measure what is missing, print the rows, write the result if it is whole."""
    arguments = options(__doc__, NETWORKS, SEEDS).parse_args()
    networks, seeds, _ = chosen(arguments)
    jobs = [
        Job(f"tickets/{network}/{seed}", tickets, (network, seed, arguments), MINUTES)
        for network in networks
        for seed in seeds
    ]
    measured = measure("frankle2019lottery", jobs, arguments)
    rows = table(measured, seeds)
    committed = load_result("frankle2019lottery")
    for number, row in enumerate(rows):
        beside = f"   committed, all seeds: {committed['table'][number]['ticket']:.2%}" if committed else ""
        sys.stdout.write("  ".join(f"{key} {value:.2%}" for key, value in row.items()) + beside + "\n")
    finish("frankle2019lottery", PAPER, claims(rows), measured, arguments, table=rows)


if __name__ == "__main__":
    main()
