"""ResNet-20 at half the multiply-accumulates: channels pruned through the residual streams, against training from new.

What is known: ResNet-56 on CIFAR-10 goes from 92.8 to 91.9 % when half of its operations leave by AMC's channels (He et
al. 2018, as those quote it who replicated it); and a network of the same shape, trained from new weights, often does as
well (Liu et al. 2019, Rethinking the Value of Network Pruning).

Here, on Fashion-MNIST, three seeds: channels leave by the L2 norm of everything that leaves with them, as many in every
group, those of the residual streams too, until half of the multiply-accumulates are left; what stays is a multiple of 8
channels, so the budget is met from below. The smaller network is trained on for as many epochs as the dense one was,
from half its rate down half a cosine. The baseline is a dense network with new weights, cut to the same widths and
trained as the dense one was.

Latency is that of PyTorch without compilation, single precision, channels last in memory, one thread: dense and small
in turn; the median of the ratios. It depends on widths only, so those of other roundings are measured beside it: half
of the multiply-accumulates in unrounded widths make a single image slower than the dense network. A job takes about 15
core minutes; those of the committed result shared their cores with other work, which its time includes.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from statistics import fmean
from typing import Any

import torch
from _reproduction import CHECKPOINTS, Claim, Job, chosen, finish, measure, options, shortened
from _training import trained, trained_on
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.tasks import Task, dense_rate, evaluate, fashion, seeded
from secateur.timing import in_turn
from secateur.weights import load_weights
from secateur.workload import workload

PAPER = "after He et al. 2018, AMC, and Liu et al. 2019, Rethinking the Value of Network Pruning"
NETWORK = "resnet-20"
SEEDS = (0, 1, 2)
MACS = 0.5
ROUND_TO = 8
ROUNDINGS = (1, 8, 16)
SLOWER = 2.0  # the rate of training on is that of the dense network divided by this
ALLOWED = -0.005
BATCHES = (1, 64)
SECONDS = 5.0
MINUTES = 16.0


def start_of(seed: int, arguments: argparse.Namespace) -> tuple[Task, nn.Module]:
    """The task and the dense network."""
    task = fashion(NETWORK, data_dir=arguments.data_dir)
    model = task.model()
    load_weights(model, CHECKPOINTS / f"fashion-{NETWORK}-{seed}.safetensors")
    return (shortened(task) if arguments.short else task), model.eval()


def plan_of(model: nn.Module, example: Tensor, round_to: int = ROUND_TO) -> sc.Plan:
    """What leaves."""
    pruner = sc.Pruner(criteria.magnitude(), granularity.channel(example, round_to=round_to), allocation.uniform())
    return pruner.plan(model, sc.Budget(macs=MACS))


def pruned(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Accuracy dense, right after the cut, and trained on; sizes of both."""
    task, model = start_of(seed, arguments)
    plan = plan_of(model, task.example)
    small = sc.shrink(model, plan)
    before, after = (workload(one, task.example) for one in (model, small))
    epochs = 1 if arguments.short else task.epochs
    return {
        "dense": evaluate(model, task),
        "cut": evaluate(small, task),
        "accuracy": trained_on(small, task, seed, epochs=epochs, slower=SLOWER, autocast=torch.bfloat16),
        "macs": [before.macs, after.macs],
        "parameters": [sum(value.numel() for value in one.parameters()) for one in (model, small)],
        "kept": {part.name: [int(part.keep.sum()), len(part.keep)] for part in plan.parts if not part.units.frozen},
    }


def scratch(seed: int, arguments: argparse.Namespace) -> float:
    """The baseline: the same widths, new weights, trained as the dense network was."""
    task, model = start_of(seed, arguments)
    plan = plan_of(model, task.example)
    with seeded(seed + 1000):
        fresh = sc.shrink(task.model(), plan)
    epochs = 1 if arguments.short else task.epochs
    how = {"epochs": epochs, "rate": dense_rate(task, epochs), "divide_by": 1, "autocast": torch.bfloat16}
    return trained(fresh, task, seed, **how)


def latency(round_to: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of the dense and the small network, and the median of their ratios, by batch size."""
    task, model = start_of(SEEDS[0], arguments)
    small = sc.shrink(model, plan_of(model, task.example, round_to)).eval()
    found: dict[str, Any] = {"macs": workload(small, task.example).macs}
    for batch in BATCHES:
        inputs = torch.randn(batch, *task.example.shape[1:]).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            times = in_turn(partial(model, inputs), partial(small, inputs), seconds=0.1 if arguments.short else SECONDS)
        before, after = (round(one * 1e3, 3) for one in times.medians)
        found[str(batch)] = {"dense": before, "small": after, "ratio": round(1 / times.ratio, 3)}
    return found


def claims(jobs: dict[str, Any], seeds: tuple[int, ...]) -> list[Claim]:
    """What must come out."""
    each = [jobs[f"pruned/{seed}"]["value"] for seed in seeds]
    difference = fmean([one["accuracy"] - one["dense"] for one in each])
    shown = ", ".join(f"{one['accuracy']:.2%} of {one['dense']:.2%}" for one in each)
    left = max(one["macs"][1] / one["macs"][0] for one in each)
    accuracy, new = (
        fmean([one["accuracy"] for one in each]),
        fmean([jobs[f"scratch/{seed}"]["value"] for seed in seeds]),
    )
    found = [
        Claim("multiply-accumulates left", f"at most {MACS:g}", f"{left:.3f}", left <= MACS),
        Claim(
            "test accuracy against dense, trained on",
            f"at least {ALLOWED * 100:.1f} points",
            f"{difference * 100:+.2f} points ({shown})",
            difference >= ALLOWED,
        ),
        Claim("pruned against trained from new weights", "better", f"{accuracy:.2%} against {new:.2%}", accuracy > new),
    ]
    for batch in BATCHES:
        row = jobs[f"latency/{ROUND_TO}"]["value"][str(batch)]
        what = f"milliseconds at batch {batch}, dense and small, and their ratio"
        measured = f"{row['dense']:.2f}, {row['small']:.2f}, {row['ratio']:.2f}"
        found.append(Claim(what, "below 1", measured, row["ratio"] < 1))
    return found


def main() -> None:
    """Measure what is missing, print the rows, write the result if it is whole."""
    arguments = options(__doc__, (NETWORK,), SEEDS).parse_args()
    _, seeds, _ = chosen(arguments)
    jobs = [
        Job(f"{function.__name__}/{seed}", function, (seed, arguments), MINUTES)
        for function in (pruned, scratch)
        for seed in seeds
    ]
    measured = measure("half_the_macs", jobs, arguments)
    arguments.workers = 1  # nothing else runs beside what is timed
    timed = [Job(f"latency/{round_to}", latency, (round_to, arguments), 0.3) for round_to in ROUNDINGS]
    measured |= measure("half_the_macs", timed, arguments)
    for round_to in ROUNDINGS:
        row = measured[f"latency/{round_to}"]["value"]
        ratios = ", ".join(f"batch {batch} {row[str(batch)]['ratio']:.2f}" for batch in BATCHES)
        sys.stdout.write(
            f"rounded to {round_to}: {row['macs'] / 1e6:.1f} million multiply-accumulates; time {ratios}\n"
        )
    finish("half_the_macs", PAPER, claims(measured, seeds), measured, arguments)


if __name__ == "__main__":
    main()
