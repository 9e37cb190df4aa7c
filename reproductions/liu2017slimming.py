"""Liu, Li, Shen, Huang, Yan, Zhang (2017), Learning Efficient Convolutional Networks through Network Slimming.

What the paper reports: an L1 penalty on the scales of batch norms while a network is trained, a threshold over the
scales of all layers, and training on what is left. VGG-19 on CIFAR-10 without 70 % of its channels: 6.20 % error
against 6.34 % dense, with 11.5 % of the parameters and 49 % of the operations; in two passes of 50 % each the error is
6.23 and 6.11 % before and after training on, with 15 % of the parameters. The authors' later code: 93.77 % accuracy
dense, 93.30 % with the penalty, 32.54 % right after pruning, 93.78 % trained on. Smooth L1 is named as an option. Liu
et al. 2019 (Rethinking the Value of Network Pruning) reach as much from new weights.

Here, on Fashion-MNIST: the small VGG, whose six convolutions have 448 channels; three seeds. Scales start at 0.5, as in
the paper. The strength is 1e-3, of its grid of 1e-3, 1e-4 and 1e-5: how far a penalty moves a scale goes by strength
times the sum of rates over all steps, and that sum is 340 here and 6,600 in the paper's training, which has 1e-4 for a
VGG. Weight decay 5e-4 stays on, of the scales too. 70 % of the channels go by one threshold, the smaller network is cut
out and trained on without the penalty as long as the dense one was, at the same rates. Dense is the network without
penalty, which is pruned the same way as the first baseline; the second has the widths of the slimmed network and new
weights, trained as long. Two passes take 45 % of the channels each, which leaves the same 30 %, with the penalty on in
the training between them.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
from _reproduction import Claim, Job, chosen, finish, load_result, measure, options, shortened
from _training import trained
from torch import nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.tasks import Task, dense_rate, evaluate, fashion, seeded, train
from secateur.training import Regularizer, bn_l1, smooth_l1
from secateur.weights import load_weights, save_weights
from secateur.workload import workload

PAPER = "Liu et al. 2017, Learning Efficient Convolutional Networks through Network Slimming"
NETWORK = "vgg-small"
SEEDS = (0, 1, 2)
STRENGTH = 1e-3
BETA = 0.01  # of smooth L1
FIRST_SCALE = 0.5
PENALTIES: dict[str, Regularizer | None] = {
    "none": None,
    "L1": bn_l1(STRENGTH),
    "smooth L1": smooth_l1(STRENGTH, BETA),
}
SPARSITY = 0.7
PASSES = 2
PER_PASS = 1 - (1 - SPARSITY) ** (1 / PASSES)  # of what is left
WITHIN = -0.003
SMALL = 0.01  # scales below this are as good as zero
BINS, LAST = 25, 1.0  # of the histogram of scales
SHORT = 128  # images of each split in the short mode
MINUTES = {"none": 24.0, "L1": 24.0, "smooth L1": 24.0, "passes": 16.0, "scratch": 6.0}

SCALE = criteria.bn_scale()


def task_of(arguments: argparse.Namespace) -> Task:
    """The task, its network with the paper's first scales."""
    task = fashion(NETWORK, data_dir=arguments.data_dir)
    make = task.model
    task = replace(task, model=lambda: rescaled(make()))
    return shortened(task, SHORT) if arguments.short else task


def rescaled(model: nn.Module) -> nn.Module:
    """A new network whose scales start at 0.5."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, FIRST_SCALE)
    return model


def sparse(task: Task, penalty: str, seed: int, arguments: argparse.Namespace) -> nn.Module:
    """The network trained with a penalty; left in a file, and taken from it if it is there."""
    mode = "-short" if arguments.short else ""
    file = arguments.work / f"liu2017-{penalty.replace(' ', '-')}-{seed}{mode}.safetensors"
    if file.exists():
        model = task.model()
        load_weights(model, file)
        return model
    how: dict[str, Any] = {"regularizer": PENALTIES[penalty], "autocast": torch.bfloat16, "progress": False}
    model, _ = train(task, seed=seed, epochs=1 if arguments.short else None, **how)
    save_weights(model, file)
    return model


def slim(model: nn.Module, task: Task, sparsity: float = SPARSITY) -> tuple[nn.Module, sc.Plan]:
    """The network without the channels of the smallest scales, and the plan."""
    pruner = sc.Pruner(SCALE, granularity.channel(task.example), allocation.global_())
    plan = pruner.plan(model, sc.Budget(sparsity=sparsity))
    return sc.shrink(model, plan), plan


def as_at_first(
    model: nn.Module, task: Task, seed: int, arguments: argparse.Namespace, penalty: Regularizer | None = None
) -> float:
    """Train a network in place, as long as the dense one was and at the same rates; the test accuracy."""
    epochs = 1 if arguments.short else task.epochs
    how = {"epochs": epochs, "rate": dense_rate(task, epochs), "divide_by": 1, "autocast": torch.bfloat16}
    return trained(model, task, seed, regularizer=penalty, **how)


def scales(model: nn.Module) -> torch.Tensor:
    """The sizes of all scales of batch norms."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    return torch.cat([norm.weight.detach() for norm in norms]).abs()


def sizes(model: nn.Module, task: Task) -> dict[str, int]:
    """Multiply-accumulates and parameters."""
    return {
        "macs": workload(model, task.example).macs,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def slimmed(penalty: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Trained with a penalty, cut, trained on: accuracies, sizes, and how the scales lie."""
    task = task_of(arguments)
    model = sparse(task, penalty, seed, arguments)
    small, plan = slim(model, task)
    found = scales(model)
    row = {
        "trained": evaluate(model, task),
        "cut": evaluate(small, task),
        "before": sizes(model, task),
        "after": sizes(small, task),
        "kept": {part.name: [part.kept, len(part.keep)] for part in plan.parts if not part.units.frozen},
        "histogram": torch.histc(found.clamp(max=LAST), BINS, 0, LAST).int().tolist(),
        "near_zero": float((found < SMALL).float().mean()),
    }
    return {**row, "accuracy": as_at_first(small, task, seed, arguments)}


def passes(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """L1, then a part of the channels and training on with L1, twice, the last time without the penalty."""
    task = task_of(arguments)
    model = sparse(task, "L1", seed, arguments)
    rows = []
    for number in range(1, PASSES + 1):
        model, _ = slim(model, task, PER_PASS)
        cut = evaluate(model, task)
        penalty = PENALTIES["L1"] if number < PASSES else None
        rows.append({"cut": cut, "accuracy": as_at_first(model, task, seed, arguments, penalty), **sizes(model, task)})
    return {"rows": rows, "channels": len(scales(model))}


def scratch(seed: int, arguments: argparse.Namespace) -> float:
    """The baseline: the widths of the slimmed network, new weights, trained as the dense network was."""
    task = task_of(arguments)
    _, plan = slim(sparse(task, "L1", seed, arguments), task)
    with seeded(seed + 1000):
        fresh = sc.shrink(task.model(), plan)
    return as_at_first(fresh, task, seed, arguments)


def table(jobs: dict[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """Means over seeds, by penalty; sums of histograms."""
    found: dict[str, Any] = {}
    for penalty in PENALTIES:
        rows = [jobs[f"slimmed/{penalty}/{seed}"]["value"] for seed in seeds]
        means = {name: fmean([row[name] for row in rows]) for name in ("trained", "cut", "accuracy", "near_zero")}
        left = {name: fmean([row["after"][name] / row["before"][name] for row in rows]) for name in rows[0]["after"]}
        histogram = [sum(bins) for bins in zip(*(row["histogram"] for row in rows), strict=True)]
        found[penalty] = {**means, **left, "histogram": histogram}
    twice = [jobs[f"passes/{seed}"]["value"]["rows"] for seed in seeds]
    found["passes"] = [
        {name: fmean([row[name] for row in level]) for name in ("cut", "accuracy")}
        for level in zip(*twice, strict=True)
    ]
    found["scratch"] = fmean([jobs[f"scratch/{seed}"]["value"] for seed in seeds])
    return found


def claims(found: dict[str, Any]) -> list[Claim]:
    """What must come out."""
    dense, l1 = found["none"]["trained"], found["L1"]
    result = []
    for penalty in ("L1", "smooth L1"):
        difference = found[penalty]["accuracy"] - dense
        what = f"{penalty}: without {SPARSITY:.0%} of the channels, trained on, against dense"
        shown = f"{difference * 100:+.2f} points ({found[penalty]['accuracy']:.2%} of {dense:.2%})"
        result.append(Claim(what, f"at least {WITHIN * 100:.1f} points", shown, difference >= WITHIN))
    cut = {penalty: found[penalty]["cut"] for penalty in PENALTIES}
    result.append(
        Claim(
            "accuracy right after pruning, with L1 against without a penalty",
            "better",
            ", ".join(f"{penalty} {value:.2%}" for penalty, value in cut.items()),
            cut["L1"] > cut["none"],
        )
    )
    near = {penalty: found[penalty]["near_zero"] for penalty in PENALTIES}
    result.append(
        Claim(
            f"scales below {SMALL:g}",
            "more with either penalty than without",
            ", ".join(f"{penalty} {value:.1%}" for penalty, value in near.items()),
            min(near["L1"], near["smooth L1"]) > near["none"],
        )
    )
    twice = found["passes"][-1]["accuracy"]
    shown = f"{twice:.2%} against {l1['accuracy']:.2%}; right after the last cut {found['passes'][-1]['cut']:.2%}"
    result.append(
        Claim("two passes against one, as many channels left", "at least as good", shown, twice >= l1["accuracy"])
    )
    new = found["scratch"]
    shown = f"{l1['accuracy']:.2%} against {new:.2%}"
    result.append(Claim("slimmed against trained from new weights", "better", shown, l1["accuracy"] > new))
    return result


def drawn(histogram: Sequence[int]) -> str:
    """A histogram as a line of characters, by the logarithm of the counts."""
    marks, top = " .:-=+*#%@", math.log1p(max(histogram))
    return "".join(marks[round(math.log1p(count) / top * (len(marks) - 1))] for count in histogram)


def main() -> None:
    """Measure what is missing, print the rows, write the result if it is whole."""
    arguments = options(__doc__, (NETWORK,), SEEDS).parse_args()
    _, seeds, _ = chosen(arguments)
    first = [
        Job(
            f"slimmed/{penalty}/{seed}",
            slimmed,
            (penalty, seed, arguments),
            0.2 if arguments.short else MINUTES[penalty],
        )
        for seed in seeds
        for penalty in PENALTIES
    ]
    measured = measure("liu2017slimming", first, arguments)
    then = [
        Job(
            f"{function.__name__}/{seed}",
            function,
            (seed, arguments),
            0.2 if arguments.short else MINUTES[function.__name__],
        )
        for function in (passes, scratch)
        for seed in seeds
    ]
    measured |= measure("liu2017slimming", then, arguments)
    found = table(measured, seeds)
    committed = load_result("liu2017slimming")
    for penalty in PENALTIES:
        row = found[penalty]
        beside = f"   committed, all seeds: {committed['table'][penalty]['accuracy']:.2%}" if committed else ""
        values = f"trained {row['trained']:.2%}, cut {row['cut']:.2%}, trained on {row['accuracy']:.2%}"
        left = f"{row['macs']:.1%} of the multiply-accumulates, {row['parameters']:.1%} of the parameters"
        sys.stdout.write(f"{penalty}: {values}; {left}{beside}\n  scales 0 |{drawn(row['histogram'])}| {LAST:g}\n")
    finish("liu2017slimming", PAPER, claims(found), measured, arguments, table=found)


if __name__ == "__main__":
    main()
