"""Mishra, Latorre, Pool, Stosic, Stosic, Venkatesh, Yu, Micikevicius (2021), Accelerating Sparse Deep Neural Networks.

What the paper reports: a recipe for 2:4 that needs no tuning. Train the dense network; keep the two largest of every
four consecutive weights along the inputs of a layer, once; then repeat the training as it was, the same rates, epochs
and optimizer, from the weights that are left and with the mask held. Accuracy stays that of the dense network: 76.1 and
76.2 % for ResNet-50, 79.3 and 79.3 % for ResNeXt-101, 91.9 and 91.9 F1 for BERT-Large on SQuAD. Pool and Yu (2021)
permute input channels first, so that 2:4 keeps more of the magnitude.

Here, on Fashion-MNIST: ResNet-20 and the small VGG from the dense networks that the others start from, three seeds; all
layers whose inputs 2:4 divides, so not the first convolution, whose single input channel it does not fit. The training
that is repeated is that of `secateur.tasks.fashion`, warm-up included.

Efficacy says how much of the magnitude that 2:4 loses against the best half of every row an order of channels brings
back: (M - M of the order as it is) / (M of the best half of every row - M of the order as it is), M the sum of kept
magnitudes. It is 0 for the network as it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import torch
from _reproduction import CHECKPOINTS, Claim, Job, chosen, finish, load_result, measure, options, shortened
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, criteria, granularity, reconstruction
from secateur.tasks import Task, dense_rate, evaluate, fashion, loader, seeded
from secateur.training import finetune
from secateur.weights import load_weights

PAPER = "Mishra et al. 2021, Accelerating Sparse Deep Neural Networks"
NETWORKS = ("resnet-20", "vgg-small")
SEEDS = (0, 1, 2)
WITHIN = -0.002
PRUNER = sc.Pruner(criteria.magnitude(), granularity.pattern(2, 4), allocation.uniform())
SHORT = 128  # images of each split in the short mode
MINUTES = {"resnet-20": 25.0, "vgg-small": 20.0}


def as_it_is(model: nn.Module, example: Tensor) -> nn.Module:
    """The channels in their own order."""
    del example
    return model


def permuted(model: nn.Module, example: Tensor) -> nn.Module:
    """A network that computes the same, its channels in an order in which 2:4 keeps more magnitude."""
    return reconstruction.permuted(model, example, granularity.pattern(2, 4)).model


# From a network and an example to an equal network with its channels in another order.
ORDERS: dict[str, Callable[[nn.Module, Tensor], nn.Module]] = {"as it is": as_it_is, "permuted": permuted}


def start_of(network: str, seed: int, arguments: argparse.Namespace) -> tuple[Task, nn.Module]:
    """The task and the dense network."""
    task = fashion(network, data_dir=arguments.data_dir)
    model = task.model()
    load_weights(model, CHECKPOINTS / f"fashion-{network}-{seed}.safetensors")
    return (shortened(task, SHORT) if arguments.short else task), model


def repeated(model: nn.Module, task: Task, plan: sc.Plan, seed: int, arguments: argparse.Namespace) -> float:
    """Repeat the dense training in place with the mask held; the test accuracy."""
    epochs = 1 if arguments.short else task.epochs
    with seeded(seed):
        finetune(
            model,
            loader(task, seed=seed),
            task.loss,
            plan=plan,
            learning_rate=task.learning_rate,
            divide_by=1,
            rate=dense_rate(task, epochs),
            epochs=epochs,
            optimizer=task.optimizer,
            validate=lambda candidate: evaluate(candidate, task, "validation"),
            autocast=torch.bfloat16,
            progress=False,
        )
    return evaluate(model, task)


def kept(model: nn.Module, plan: sc.Plan) -> float:
    """Sum of the magnitudes that a plan leaves in the layers that it prunes."""
    sums = [model.get_parameter(name).detach().abs()[mask].sum().item() for name, mask in plan.masks().items()]
    return sum(sums)


def best_half(model: nn.Module, plan: sc.Plan) -> float:
    """Sum of the magnitudes of the larger half of every row of these layers, whatever the order: a bound."""
    rows = [model.get_parameter(name).detach().abs().flatten(1) for name in plan.masks()]
    return sum(row.topk(row.shape[1] // 2).values.sum().item() for row in rows)


def sparse(network: str, order: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Accuracy dense, right after pruning, and after the training was repeated; magnitudes and weights left."""
    task, dense = start_of(network, seed, arguments)
    model = ORDERS[order](dense, task.example)
    plan, plain = PRUNER.plan(model), PRUNER.plan(dense)
    return {
        "dense": evaluate(dense, task),
        "cut": evaluate(sc.mask(model, plan), task),
        "magnitude": {"as it is": kept(dense, plain), "order": kept(model, plan), "bound": best_half(dense, plain)},
        "weights": [plan.weights, plan.weights_removed],
        "whole": {part.name: part.reason for part in plan.parts if bool(part.keep.all())},
        "accuracy": repeated(model, task, plan, seed, arguments),
    }


def efficacy(row: dict[str, float]) -> float:
    """How much of what 2:4 loses an order brings back."""
    return (row["order"] - row["as it is"]) / (row["bound"] - row["as it is"])


def table(jobs: dict[str, Any], networks: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Means over seeds, by network and order."""
    found = {}
    for network in networks:
        for order in ORDERS:
            rows = [jobs[f"sparse/{network}/{order}/{seed}"]["value"] for seed in seeds]
            means = {name: fmean([row[name] for row in rows]) for name in ("dense", "cut", "accuracy")}
            found[f"{network} {order}"] = {
                **means,
                "difference": fmean([row["accuracy"] - row["dense"] for row in rows]),
                "efficacy": fmean([efficacy(row["magnitude"]) for row in rows]),
                "magnitude": fmean([row["magnitude"]["order"] / row["magnitude"]["bound"] for row in rows]),
            }
    return found


def claims(found: dict[str, Any], networks: Sequence[str]) -> list[Claim]:
    """What must come out."""
    result = []
    for network in networks:
        for order in ORDERS:
            row = found[f"{network} {order}"]
            said = "" if order == "as it is" else f", channels {order}"
            result.append(
                Claim(
                    f"{network}: 2:4{said}, training repeated, against dense",
                    f"at least {WITHIN * 100:.1f} points",
                    f"{row['difference'] * 100:+.2f} points ({row['accuracy']:.2%} of {row['dense']:.2%}; right after "
                    f"pruning {row['cut']:.2%})",
                    row["difference"] >= WITHIN,
                )
            )
            if order != "as it is":
                what = f"{network}: efficacy of channels {order}"
                result.append(Claim(what, "above 0", f"{row['efficacy']:.1%}", row["efficacy"] > 0))
    return result


def main() -> None:
    """Measure what is missing, print the rows, write the result if it is whole."""
    arguments = options(__doc__, NETWORKS, SEEDS).parse_args()
    networks, seeds, _ = chosen(arguments)
    jobs = [
        Job(
            f"sparse/{network}/{order}/{seed}",
            sparse,
            (network, order, seed, arguments),
            0.2 if arguments.short else MINUTES[network],
        )
        for network in networks
        for order in ORDERS
        for seed in seeds
    ]
    measured = measure("mishra2021sparse", jobs, arguments)
    found = table(measured, networks, seeds)
    committed = load_result("mishra2021sparse")
    for key, row in found.items():
        beside = f"   committed, all seeds: {committed['table'][key]['accuracy']:.2%}" if committed else ""
        kept_of = f"2:4 keeps {row['magnitude']:.1%} of the magnitude of the best half of every row"
        values = f"dense {row['dense']:.2%}, cut {row['cut']:.2%}, repeated {row['accuracy']:.2%}"
        sys.stdout.write(f"{key}: {values}; {kept_of}{beside}\n")
    finish("mishra2021sparse", PAPER, claims(found, networks), measured, arguments, table=found)


if __name__ == "__main__":
    main()
