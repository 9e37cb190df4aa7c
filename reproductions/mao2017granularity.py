"""Mao et al. (2017), Exploring the Regularity of Sparse Structure in Convolutional Neural Networks.

What the paper reports: the coarser the grain, the fewer weights can go at no loss of accuracy, though vectors lose
little against single weights; and because a coarse grain needs fewer indices, it may need fewer bytes at the same
accuracy. (In the later version: Exploring the Granularity of Sparsity in Convolutional Neural Networks.)

Here, on Fashion-MNIST: the convolutions of LeNet-5 and of a small VGG, but not the first, whose single input channel
N:M does not fit. Each grain is pruned by the L2 norm, as much in every layer, ratio after ratio, each from the network
of the ratio before, trained on for 3 epochs at a third of the rate (in validation, on one seed, better than a tenth or
the full rate on VGG, and as good as a tenth on LeNet-5), until half a point is lost. The largest ratio at no loss is
where the mean over seeds of the difference to dense falls through -0.1 points, on a straight line between the two
ratios around it over the logarithm of the ratio; beyond the last ratio it is that one. 2:4 has one ratio, 2. On LeNet-5
a tenth of a point tells nothing: single weights lose 0.13 points at 1.3x and at 6x alike. So the order is also given at
a loss of 0.3 points, which was chosen after that was seen, with the bytes of each grain there. Bytes: 4
for each weight left, and 4 bits of relative index for each grain left, an entry of zeros where a gap is longer than 15
(Han et al. 2016); 2 bits for each weight of 2:4. The baseline: LeNet-5 with the connections of each grain at ratio 2,
trained from new weights.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

import torch
from _reproduction import CHECKPOINTS, Claim, Job, chosen, finish, load_result, measure, options, shortened
from torch import nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.granularity import Granularity
from secateur.tasks import Task, dense_rate, evaluate, fashion, loader, seeded
from secateur.training import finetune, rates
from secateur.weights import load_weights

PAPER = "Mao et al. 2017, Exploring the Regularity of Sparse Structure"
NETWORKS = ("lenet-5", "vgg-small")
SEEDS = (0, 1, 2)
GRAINS: dict[str, Granularity] = {
    "weight": granularity.weight(),
    "vector": granularity.vector("row"),
    "kernel": granularity.kernel(),
    "filter": granularity.filter(),
    "2:4": granularity.pattern(2, 4),
    "block 4x1": granularity.block(4, 1),
}
ORDER = ("weight", "vector", "kernel", "filter")  # from fine to coarse
RATIOS = {"lenet-5": (1.33, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0), "vgg-small": (2.0, 4.0, 8.0, 16.0)}
EPOCHS = 3
SLOWER = 3.0  # the rate of training on is that of the dense network divided by this
NO_LOSS = -0.001
CLEAR = -0.003  # a loss that three seeds can tell from none
GIVEN_UP = -0.005  # coarser than this, the next ratio is not tried
SCRATCH = 2.0
MINUTES = {"lenet-5": 2.5, "vgg-small": 9.0}


def pruner(grain: str, model: nn.Module) -> sc.Pruner:
    """Prunes the convolutions but the first."""
    first = next(layer.name for layer in granularity.weight_layers(model) if layer.kernel)
    return sc.Pruner(criteria.magnitude(), GRAINS[grain], allocation.uniform(), exclude=(nn.Linear, first))


def plan_at(grain: str, model: nn.Module, ratio: float, start: sc.Plan | None = None) -> sc.Plan:
    """The plan that leaves one of `ratio` weights."""
    budget = None if grain == "2:4" else sc.Budget(weights_removed=1 - 1 / ratio)
    return pruner(grain, model).plan(model, budget, start=start)


def trained(model: nn.Module, task: Task, plan: sc.Plan, seed: int, **how: Any) -> float:
    """Train a model in place with a plan held; the test accuracy."""
    with seeded(seed):
        finetune(
            model,
            loader(task, seed=seed),
            task.loss,
            plan=plan,
            learning_rate=task.learning_rate,
            validate=lambda candidate: evaluate(candidate, task, "validation"),
            autocast=torch.bfloat16,
            progress=False,
            **how,
        )
    return evaluate(model, task)


def chain(network: str, grain: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Ratio after ratio: accuracy, weights and bytes, until the loss is clear."""
    task, model = start_of(network, seed, arguments)
    dense, epochs = evaluate(model, task), 1 if arguments.short else EPOCHS
    rows, plan = [], None
    ratios = (2.0,) if grain == "2:4" else RATIOS[network][: 2 if arguments.short else None]
    for ratio in ratios:
        plan = plan_at(grain, model, ratio, plan)
        accuracy = trained(model, task, plan, seed, epochs=epochs, rate=rates.cosine(epochs), divide_by=SLOWER)
        rows.append({"ratio": ratio_of(plan), "accuracy": accuracy, "bytes": bytes_of(plan, grain)})
        if accuracy - dense < GIVEN_UP and ratio >= SCRATCH:
            break
    return {"dense": dense, "rows": rows}


def scratch(network: str, grain: str, seed: int, arguments: argparse.Namespace) -> float:
    """The baseline: the connections of a grain, new weights, trained as long as the dense network."""
    task, model = start_of(network, seed, arguments)
    plan = plan_at(grain, model, SCRATCH)
    with seeded(seed + 1000):
        fresh = task.model()
    epochs = 1 if arguments.short else task.epochs
    return trained(fresh, task, plan, seed, epochs=epochs, rate=dense_rate(task, epochs), divide_by=1)


def start_of(network: str, seed: int, arguments: argparse.Namespace) -> tuple[Task, nn.Module]:
    """The task and the dense network."""
    task = fashion(network, data_dir=arguments.data_dir)
    model = task.model()
    load_weights(model, CHECKPOINTS / f"fashion-{network}-{seed}.safetensors")
    return (shortened(task) if arguments.short else task), model


def free(plan: sc.Plan) -> list[sc.Part]:
    """The parts of the layers that are pruned."""
    return [part for part in plan.parts if not part.units.frozen]


def ratio_of(plan: sc.Plan) -> float:
    """Weights over weights left, in the layers that are pruned."""
    total, gone = (sum(getattr(part, name) for part in free(plan)) for name in ("weights", "weights_removed"))
    return float(total / (total - gone))


def bytes_of(plan: sc.Plan, grain: str) -> int:
    """Bytes of the weights that are left and of what says where they are."""
    weights: int = sum(part.weights - part.weights_removed for part in free(plan))
    if grain == "2:4":
        return 4 * weights + math.ceil(2 * weights / 8)
    bits = 0
    for part in free(plan):
        per_grain = (part.weights - part.weights_removed) / max(1, int(part.keep.sum()))
        entries = relative_entries(part.keep)
        bits += 4 * entries + round(32 * (entries - int(part.keep.sum())) * per_grain)
    return 4 * weights + math.ceil(bits / 8)


def relative_entries(keep: torch.Tensor) -> int:
    """Entries of a list of relative indices of 4 bits: one for each grain left, one more for each 16 zeros of a gap."""
    places = keep.nonzero().flatten()
    gaps = torch.diff(places, prepend=torch.tensor([-1])) - 1
    return int(len(places) + (gaps // 16).sum())


def largest(rows: Sequence[dict[str, float]], limit: float = NO_LOSS) -> tuple[float, float]:
    """Ratio and bytes where the difference falls through the limit, on a line between two ratios over logarithms."""
    last = {"ratio": 1.0, "difference": 0.0, "bytes": rows[0]["ratio"] * rows[0]["bytes"]}
    for row in rows:
        if row["difference"] < limit:
            part = (last["difference"] - limit) / (last["difference"] - row["difference"])
            ratio, size = (
                math.exp(math.log(last[name]) * (1 - part) + math.log(row[name]) * part) for name in ("ratio", "bytes")
            )
            return ratio, size
        last = dict(row)
    return last["ratio"], last["bytes"]


def table(jobs: dict[str, Any], networks: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Means over seeds, as far as all seeds went, and the largest ratio at no loss."""
    found: dict[str, Any] = {}
    for network in networks:
        for grain in GRAINS:
            chains = [jobs[f"chain/{network}/{grain}/{seed}"]["value"] for seed in seeds]
            dense = [one["dense"] for one in chains]
            rows = [
                {
                    "ratio": fmean([row["ratio"] for row in level]),
                    "difference": fmean([row["accuracy"] - one for row, one in zip(level, dense, strict=True)]),
                    "bytes": fmean([row["bytes"] for row in level]),
                }
                for level in zip(*(one["rows"] for one in chains), strict=False)
            ]
            (ratio, _), (clear, size) = largest(rows), largest(rows, CLEAR)
            found[f"{network} {grain}"] = {"rows": rows, "largest": ratio, "clear": clear, "bytes_at_clear": size}
    return found


def claims(found: dict[str, Any], jobs: dict[str, Any], networks: Sequence[str], seeds: Sequence[int]) -> list[Claim]:
    """What must come out."""
    result = []
    for network in networks:
        ratio = {grain: found[f"{network} {grain}"]["largest"] for grain in GRAINS}
        ordered = all(ratio[fine] >= ratio[coarse] for fine, coarse in pairwise(ORDER))
        shown = ", ".join(f"{grain} {ratio[grain]:.1f}x" for grain in ORDER)
        result.append(
            Claim(
                f"{network}: largest ratio at no loss, {' >= '.join(ORDER)}",
                "in this order, weights more than filters",
                shown,
                ordered and ratio["weight"] > ratio["filter"],
            )
        )
        result.append(
            Claim(
                f"{network}: blocks of 4x1 lie between weights and filters",
                "in this order",
                f"{ratio['weight']:.1f}x, {ratio['block 4x1']:.1f}x, {ratio['filter']:.1f}x",
                ratio["weight"] >= ratio["block 4x1"] >= ratio["filter"],
            )
        )
        clear = {grain: found[f"{network} {grain}"] for grain in ORDER}
        result.append(
            Claim(
                f"{network}: the ratio at a loss of {-CLEAR * 100:.1f} points",
                "in this order",
                ", ".join(
                    f"{grain} {row['clear']:.1f}x, {row['bytes_at_clear'] / 1e3:.0f} kB" for grain, row in clear.items()
                ),
                all(clear[fine]["clear"] > clear[coarse]["clear"] for fine, coarse in pairwise(ORDER)),
            )
        )
        at_two = found[f"{network} 2:4"]["rows"][0]["difference"]
        result.append(
            Claim(
                f"{network}: 2:4 at no loss", "at least -0.10 points", f"{at_two * 100:+.2f} points", at_two >= NO_LOSS
            )
        )
    if "lenet-5" in networks:
        for grain in ("weight", "filter"):
            new = fmean([jobs[f"scratch/lenet-5/{grain}/{seed}"]["value"] for seed in seeds])
            kept = fmean([jobs[f"chain/lenet-5/{grain}/{seed}"]["value"]["rows"][1]["accuracy"] for seed in seeds])
            what = f"lenet-5, {grain}, at 2x: pruned against trained from new weights"
            result.append(Claim(what, "better", f"{kept:.2%} against {new:.2%}", kept > new))
    return result


def main() -> None:
    """Measure what is missing, print the rows, write the result if it is whole."""
    arguments = options(__doc__, NETWORKS, SEEDS).parse_args()
    networks, seeds, _ = chosen(arguments)
    jobs = [
        Job(f"chain/{network}/{grain}/{seed}", chain, (network, grain, seed, arguments), MINUTES[network])
        for network in networks
        for seed in seeds
        for grain in GRAINS
    ]
    if "lenet-5" in networks:
        jobs += [
            Job(f"scratch/lenet-5/{grain}/{seed}", scratch, ("lenet-5", grain, seed, arguments), 3.0)
            for seed in seeds
            for grain in ("weight", "filter")
        ]
    measured = measure("mao2017granularity", jobs, arguments)
    found = table(measured, networks, seeds)
    committed = load_result("mao2017granularity")
    for key, row in found.items():
        points = "  ".join(f"{one['ratio']:.1f}x {one['difference'] * 100:+.2f}" for one in row["rows"])
        beside = f"   committed, all seeds: {committed['table'][key]['largest']:.1f}x" if committed else ""
        sys.stdout.write(f"{key}: largest {row['largest']:.1f}x  (points: {points}){beside}\n")
    results = claims(found, measured, networks, seeds)
    finish("mao2017granularity", PAPER, results, measured, arguments, table=found)


if __name__ == "__main__":
    main()
