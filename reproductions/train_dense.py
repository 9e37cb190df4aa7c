"""The dense networks that every other reproduction prunes, trained once on Fashion-MNIST.

Each network is trained from nothing by the recipe of `secateur.tasks.fashion`: Nesterov momentum 0.9, weight decay
5e-4, batches of 128, one epoch of warm-up, then half a cosine; the convolutional ones on images mirrored and moved by
up to two pixels. The best epoch by the 5,000 validation images is kept, and measured on the 10,000 test images in
single precision.

The fastest honest way on two cores, measured for ResNet-20 in seconds per epoch and network: one thread in single
precision 167, with channels last in memory 140, and bfloat16 for the forward and backward pass 82; two networks side by
side on a thread each take as long as one alone, which makes 41; one network on two threads takes 52. torch.compile
takes 92 (a thread, bfloat16), and batches of 256 take 76 for half the steps.

Checkpoints: `checkpoints/fashion-NETWORK-SEED.safetensors`, the plain state_dict. One that is there is not trained
again: remove it to do so. All fourteen take about three and a half hours of core time; the time beside the result is
that of the last run, which trained the bottleneck ResNet and MobileNetV1.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from _reproduction import CHECKPOINTS, Claim, Job, chosen, finish, measure, options, shortened, tell

from secateur.tasks import evaluate, train
from secateur.tasks.fashion import NETWORKS, fashion
from secateur.training import History
from secateur.weights import load_weights, save_weights

SEEDS = {"lenet-300-100": 3, "lenet-5": 3, "vgg-small": 3, "resnet-20": 3, "resnet-20-bottleneck": 1, "mobilenet-v1": 1}
MINUTES = {
    "lenet-300-100": 0.7,
    "lenet-5": 3,
    "vgg-small": 19,
    "resnet-20": 24,
    "resnet-20-bottleneck": 36,
    "mobilenet-v1": 34,
}
FLOORS = {
    "lenet-300-100": 0.895,
    "lenet-5": 0.908,
    "vgg-small": 0.925,
    "resnet-20": 0.925,
    "resnet-20-bottleneck": 0.925,
    "mobilenet-v1": 0.925,
}
# Depthwise convolutions and small matrices gain nothing from bfloat16.
SINGLE = {"lenet-300-100", "mobilenet-v1"}


def dense(network: str, seed: int, work: Path, short: bool, data_dir: Path | None) -> dict[str, Any]:
    """Train one network.

    Args:
        network: Its name.
        seed: Of weights and order.
        work: Where its state is kept while it trains, and its weights in the short mode.
        short: Little data, one epoch.
        data_dir: Where the data lie.

    Returns:
        Accuracies and epochs, as they are kept with the weights.
    """
    task = fashion(network, data_dir=data_dir)
    if short:
        task = shortened(task)
    place = (work if short else CHECKPOINTS) / f"fashion-{network}-{seed}.safetensors"
    state = work / f"state-{network}-{seed}.safetensors"
    if place.exists() and not short:
        return load_weights(task.model(), place)

    def on_epoch(history: History) -> None:
        count, result = len(history.validation), history.validation[-1]
        tell(f"  {network} {seed}: epoch {count}, loss {history.losses[-1]:.4f}, validation {result:.4f}")

    model, history = train(
        task,
        seed=seed,
        epochs=1 if short else None,
        autocast=None if network in SINGLE else torch.bfloat16,
        checkpoint=state,
        resume=True,
        progress=False,
        on_epoch=on_epoch,
    )
    about = {
        "network": network,
        "seed": seed,
        "test": evaluate(model, task),
        "validation": evaluate(model, task, "validation"),
        "train_loss": history.losses[-1],
        "best_epoch": history.best_epoch,
        "epochs": len(history.losses),
        "learning_rate": task.learning_rate,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "torch": torch.__version__,
    }
    save_weights(model, place, about)
    state.unlink()
    return about


def claims(jobs: dict[str, Any]) -> list[Claim]:
    """Whether the networks are good enough to be pruned.

    Args:
        jobs: What was measured.

    Returns:
        A claim for each network that has a floor.
    """
    found = []
    for network, floor in FLOORS.items():
        values = [job["value"]["test"] for job in jobs.values() if job["value"]["network"] == network]
        if values:
            each = ", ".join(f"{value:.2%}" for value in values)
            shown = f"{fmean(values):.2%} ({each})"
            holds = fmean(values) >= floor
            found.append(Claim(f"{network}: mean test accuracy", f"at least {floor:.1%}", shown, holds))
    return found


def main() -> None:
    """Train what is missing, then write the table."""
    arguments = options(__doc__, tuple(NETWORKS), range(3)).parse_args()
    networks, seeds, _ = chosen(arguments)
    jobs = [
        Job(
            f"{network}/{seed}",
            dense,
            (network, seed, arguments.work, arguments.short, arguments.data_dir),
            0.2 if arguments.short else MINUTES[network],
        )
        for network in networks
        for seed in seeds
        if seed < SEEDS[network]
    ]
    # the short ones first, so that others can start from them; then the longest, so that none is left alone at the end
    jobs.sort(key=lambda job: (job.minutes > 5, -job.minutes))
    measured = measure("train_dense", jobs, arguments)
    for key, job in measured.items():
        sys.stdout.write(f"{key:24} test {job['value']['test']:.2%}  {job['seconds']:.0f} s\n")
    finish("train_dense", "none: the networks that the others start from", claims(measured), measured, arguments)


if __name__ == "__main__":
    main()
