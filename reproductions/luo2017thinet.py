"""Luo, Wu, Lin (2017), ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression.

What the paper reports: channels chosen greedily by what the next layer's outputs lose, and scaled by least squares,
keep more accuracy than those chosen at random or by the sum of their filters' weights; VGG-16 loses 0.52 points (top 5)
with 3.31 times fewer operations (abstract).

Here, on Fashion-MNIST, a small VGG and ResNet-20, three seeds, at 2, 4 and 5 times fewer multiply-accumulates: as many
channels in each group, 10 points of each of 1,000 training images, and of ResNet only those within the blocks, as in
the paper. All layers are pruned in turn and only then is there training, four epochs of it; the paper trains after each
layer. Least squares finds all weights, or as in the paper one factor for each channel; the baselines are mended by it
too. Errors of layers are measured on other images.
"""

from __future__ import annotations

import argparse
from typing import Any

from _reconstruction import cut, increase, jobs_of, layer_error, show, weight_sum
from _reproduction import Claim, chosen, finish, measure, options

from secateur import criteria
from secateur.reconstruction import least_squares, thinet

PAPER = "Luo, Wu, Lin 2017, ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression"
NETWORKS = ("vgg-small", "resnet-20")
SEEDS = (0, 1, 2)
RATIOS = (2, 4, 5)
METHODS = ("thinet", "weight sum", "random")
SCALES, BARE = "thinet, scales", "weight sum, not mended"
ALLOWED = {2: 0.5, 4: 1.5, 5: 2.0}  # points of test error after training on
MINUTES = {"vgg-small": 2.0, "resnet-20": 4.0}


def pruned(network: str, name: str, ratio: int, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One network cut by one method."""
    method, refit = {
        "thinet": (thinet(seed=seed), None),
        SCALES: (thinet(seed=seed, fit="scales"), None),
        "weight sum": (weight_sum("out"), least_squares(seed=seed, everywhere=False)),
        BARE: (weight_sum("out"), None),
        "random": (criteria.random(seed), least_squares(seed=seed, everywhere=False)),
    }[name]
    return cut(network, seed, ratio, method, refit, name == "thinet", arguments)


def claims(
    jobs: dict[str, Any], networks: tuple[str, ...], seeds: tuple[int, ...], ratios: tuple[int, ...]
) -> list[Claim]:
    """What must come out."""
    found = []
    for network in networks:
        for ratio in ratios:
            rows = {
                name: [jobs[f"{network}/{name}/{ratio}/{seed}"]["value"] for seed in seeds]
                for name in (*METHODS, SCALES, BARE)
            }
            where = f"{network}, {ratio}x"
            off = {name: layer_error(rows[name]) for name in METHODS}
            lost = {name: increase(rows[name]) for name in rows}
            after = increase(rows["thinet"], "tuned")
            found += [
                Claim(
                    f"{where}: error of the layers' outputs, all mended by least squares",
                    "thinet at most that of the others",
                    ", ".join(f"{name} {value:.3f}" for name, value in off.items()),
                    off["thinet"] <= min(off["weight sum"], off["random"]),
                ),
                Claim(
                    f"{where}: points of test error added, not trained on",
                    "thinet with scales less than weight sum that is not mended",
                    ", ".join(f"{name} {value:.2f}" for name, value in lost.items()),
                    lost[SCALES] < lost[BARE],
                ),
                Claim(
                    f"{where}: points of test error added by thinet, trained on",
                    f"at most {ALLOWED[ratio]:g}",
                    f"{after:.2f}",
                    after <= ALLOWED[ratio],
                ),
            ]
    return found


def main() -> None:
    """Measure what is missing, print the rows, write the result if it is whole."""
    arguments = options(__doc__, NETWORKS, SEEDS).parse_args()
    networks, seeds, _ = chosen(arguments)
    ratios = RATIOS[:1] if arguments.short else RATIOS
    names = (*METHODS, SCALES, BARE)
    jobs = jobs_of(pruned, networks, seeds, ratios, lambda _: names, MINUTES, arguments, longest="thinet")
    measured = measure("luo2017thinet", jobs, arguments)
    show(measured)
    finish("luo2017thinet", PAPER, claims(measured, networks, seeds, ratios), measured, arguments)


if __name__ == "__main__":
    main()
