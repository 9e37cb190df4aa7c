"""He, Zhang, Sun (2017), Channel Pruning for Accelerating Very Deep Neural Networks.

What the paper reports: channels chosen by LASSO regression on the responses of the next layer lose less than those with
the largest weights ("max response"), and these less than the first ones ("first k"), all three mended by least squares;
so without any training. In ResNet the error falls further if the last layer of a branch makes up for its shortcut. The
authors' repository prints 88.1 % (top 5) for VGG-16 with 5 times fewer operations, and 90.8 % for ResNet-50 with 2
times fewer, both trained on.

Here, on Fashion-MNIST, a small VGG and ResNet-20, three seeds, at 2, 4 and 5 times fewer multiply-accumulates: as many
channels in each group, 10 points of each of 1,000 training images. The residual streams keep their channels, as in the
paper. Errors of layers are measured on other images. What lasso chose is also trained on, for four epochs.
"""

from __future__ import annotations

import argparse
from typing import Any

from _reconstruction import cut, first_units, increase, jobs_of, layer_error, show, weight_sum
from _reproduction import Claim, chosen, finish, measure, options

from secateur.reconstruction import lasso, least_squares

PAPER = "He, Zhang, Sun 2017, Channel Pruning for Accelerating Very Deep Neural Networks"
NETWORKS = ("vgg-small", "resnet-20")
SEEDS = (0, 1, 2)
RATIOS = (2, 4, 5)
METHODS = ("lasso", "max response", "first k")
ALONE = "lasso, branches alone"
ALLOWED = {2: 0.5, 4: 1.5, 5: 2.0}  # points of test error after training on
MINUTES = {"vgg-small": 2.0, "resnet-20": 4.0}


def pruned(network: str, name: str, ratio: int, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One network cut by one method."""
    method, refit = {
        "lasso": (lasso(seed=seed), None),
        ALONE: (lasso(seed=seed, branches=False), None),
        "max response": (weight_sum("in"), least_squares(seed=seed, everywhere=False)),
        "first k": (first_units(), least_squares(seed=seed, everywhere=False)),
    }[name]
    return cut(network, seed, ratio, method, refit, name == "lasso", arguments)


def claims(
    jobs: dict[str, Any], networks: tuple[str, ...], seeds: tuple[int, ...], ratios: tuple[int, ...]
) -> list[Claim]:
    """What must come out."""
    found = []
    for network in networks:
        for ratio in ratios:
            rows = {
                name: [jobs[f"{network}/{name}/{ratio}/{seed}"]["value"] for seed in seeds] for name in names(network)
            }
            lost = {name: increase(rows[name]) for name in METHODS}
            where = f"{network}, {ratio}x"
            found.append(
                Claim(
                    f"{where}: points of test error added, not trained on",
                    "lasso < max response < first k",
                    ", ".join(f"{name} {value:.2f}" for name, value in lost.items()),
                    lost["lasso"] < lost["max response"] < lost["first k"],
                )
            )
            after = increase(rows["lasso"], "tuned")
            target = f"at most {ALLOWED[ratio]:g}"
            found.append(
                Claim(
                    f"{where}: points of test error added by lasso, trained on",
                    target,
                    f"{after:.2f}",
                    after <= ALLOWED[ratio],
                )
            )
            if ALONE in rows:
                errors = [layer_error(rows[name]) for name in ("lasso", ALONE)]
                points = [lost["lasso"], increase(rows[ALONE])]
                found.append(
                    Claim(
                        f"{where}: points added where branches make up for their shortcuts, and where not",
                        "fewer",
                        f"{points[0]:.2f} against {points[1]:.2f} (layers: {errors[0]:.3f}, {errors[1]:.3f})",
                        points[0] < points[1],
                    )
                )
    return found


def names(network: str) -> tuple[str, ...]:
    """Methods that a network is cut by."""
    return (*METHODS, ALONE) if network == "resnet-20" else METHODS


def main() -> None:
    """Measure what is missing, print the rows, write the result if it is whole."""
    arguments = options(__doc__, NETWORKS, SEEDS).parse_args()
    networks, seeds, _ = chosen(arguments)
    ratios = RATIOS[:1] if arguments.short else RATIOS
    jobs = jobs_of(pruned, networks, seeds, ratios, names, MINUTES, arguments, longest="lasso")
    measured = measure("he2017lasso", jobs, arguments)
    show(measured)
    finish("he2017lasso", PAPER, claims(measured, networks, seeds, ratios), measured, arguments)


if __name__ == "__main__":
    main()
