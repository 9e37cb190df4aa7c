"""What criteria and methods cost, each against what it rides on or replaces.

Statistics: a pass over batches with them against the same pass without: ResNet-20 and the small VGG, 28 x 28 images, 80
batches of 64, and, for Wanda, SmolLM2-135M on 4 windows of 256 tokens. The forward pass of what finds the rectifiers is
in it. Hutchinson: a probe against a gradient of ResNet-20.
LASSO: from 5,000 points of 512 channels and 64 outputs to the coefficients of 256 channels, against dense least squares
of the outputs on the channels (QR, full rank), and against the same of the regression that LASSO is, written out in
320,000 rows (of whose rows a tenth is timed, times ten). All of these in turn, pair by pair. SparseGPT: the 210 linear
layers of SmolLM2-135M at half of the weights, 32 windows of 256 tokens, in a process of its own, once.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from _harness import keep, row
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.reconstruction import sparsegpt
from secateur.reconstruction.lasso import sparse_coefficients
from secateur.reconstruction.moments import measured
from secateur.reconstruction.responses import Responses
from secateur.statistics import Hutchinson
from secateur.tasks import loader, smollm
from secateur.tasks.networks import resnet_20, vgg_small
from secateur.timing import InTurn, in_turn

NAME = "methods"
SECONDS = 20.0
BATCHES = 80
POINTS, CHANNELS, OUTPUTS = 5_000, 512, 64
WINDOWS = 32


def passes(model: nn.Module, batches: Iterable[Any]) -> None:
    """The bare pass that statistics ride on."""
    with torch.no_grad():
        for inputs, _ in batches:
            model(inputs)


def riding(model: nn.Module, batches: list[Any], criterion: sc.Criterion) -> list[float]:
    """A pass with statistics over one without."""
    model.eval()
    with_statistics = partial(sc.calibrate, model, batches, criterion.needs)
    return ratios(in_turn(with_statistics, partial(passes, model, batches), seconds=SECONDS))


def images() -> list[Any]:
    """Batches without labels."""
    return [(torch.randn(64, 1, 28, 28), None) for _ in range(BATCHES)]


def probes() -> list[float]:
    """A probe over a gradient: half of what two probes more take."""
    model, loss = resnet_20().eval(), nn.functional.cross_entropy
    inputs, targets = torch.randn(64, 1, 28, 28), torch.randint(10, (64,))

    def probed(count: int) -> None:
        made = {"curvature_hutchinson": partial(Hutchinson, probes=count)}
        sc.calibrate(model, [(inputs, targets)], made, loss=loss, collectors=made)

    def gradient() -> None:
        torch.autograd.grad(loss(model(inputs), targets), list(model.parameters()))

    three, one = (in_turn(partial(probed, count), gradient, seconds=SECONDS) for count in (3, 1))
    return [(many - few) / 2 for many, few in zip(ratios(three), ratios(one), strict=False)]


def regression() -> tuple[Tensor, Tensor, Tensor]:
    """Channels behind a rectifier, which are correlated, weights, and outputs."""
    draw = torch.Generator().manual_seed(0)
    mixed = torch.randn(POINTS, 64, generator=draw) @ torch.randn(64, CHANNELS, generator=draw) / 8
    channels = torch.relu(mixed + 0.5 * torch.randn(POINTS, CHANNELS, generator=draw))
    weight = torch.randn(CHANNELS, OUTPUTS, generator=draw) / CHANNELS**0.5
    return channels, weight, channels @ weight


def path(channels: Tensor, weight: Tensor, outputs: Tensor) -> Tensor:
    """From points to the coefficients of half of the channels."""
    moments = measured(channels[:, None], outputs[:, None]).centred()
    wide = weight.double()
    energy = float(moments.yy.sum())
    found = Responses(moments.xx[0] * (wide @ wide.T) / energy, (wide * moments.xy[0]).sum(1) / energy)
    return sparse_coefficients(found, CHANNELS // 2, 1e-4)[0]


def dense(channels: Tensor, outputs: Tensor) -> Tensor:
    """Least squares of the outputs on all channels."""
    solution: Tensor = torch.linalg.lstsq(channels, outputs, driver="gels").solution
    return solution


def written_out(channels: Tensor, weight: Tensor, outputs: Tensor) -> Callable[[], Tensor]:
    """Least squares of a tenth of the regression on contributions, a row for each point and output."""
    tenth = POINTS // 10
    rows = (channels[:tenth, None, :] * weight.T[None]).reshape(-1, CHANNELS)
    return partial(dense, rows, outputs[:tenth].reshape(-1, 1))


def one_shot(answer: Any) -> None:
    """Seconds of SparseGPT, and the most memory that the process has held, in GiB."""
    task = smollm()
    model = task.model()
    inputs, targets = task.train.tensors  # type: ignore[attr-defined]
    data = list(loader(task))[: WINDOWS // task.batch_size]
    assert sum(len(batch[0]) for batch in data) == WINDOWS <= len(inputs) == len(targets)
    pruner = sc.Pruner(sparsegpt(), granularity.weight(), allocation.uniform(), exclude=("lm_head",))
    started = time.perf_counter()
    plan = pruner.plan(model, sc.Budget(sparsity=0.5), data=data)
    seconds = time.perf_counter() - started
    assert len(plan.updates) == 210
    answer.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def in_a_process() -> tuple[float, float]:
    """The same in a process that holds nothing else."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=one_shot, args=(theirs,))
    process.start()
    found: tuple[float, float] = ours.recv()
    process.join()
    return found


def ratios(found: InTurn) -> list[float]:
    """Of each pair."""
    return [one / two for one, two in zip(found.first, found.second, strict=True)]


def main() -> None:
    """Measure, and keep the rows."""
    torch.manual_seed(0)
    task = smollm()
    text = list(loader(task))[:1]
    parts = regression()
    lasso = in_turn(partial(path, *parts), partial(dense, parts[0], parts[2]), seconds=SECONDS)
    whole = in_turn(partial(path, *parts), written_out(*parts), seconds=SECONDS)
    seconds, memory = in_a_process()
    found: list[tuple[str, str, list[float], float | None]] = [
        ("APoZ: pass with / without, ResNet-20", "ratio", riding(resnet_20(), images(), criteria.apoz()), 1.1),
        ("APoZ: pass with / without, small VGG", "ratio", riding(vgg_small(), images(), criteria.apoz()), 1.1),
        ("Wanda: pass with / without, ResNet-20", "ratio", riding(resnet_20(), images(), criteria.wanda()), 1.1),
        ("Wanda: pass with / without, small VGG", "ratio", riding(vgg_small(), images(), criteria.wanda()), 1.1),
        ("Wanda: pass with / without, SmolLM2-135M", "ratio", riding(task.model(), text, criteria.wanda()), 1.1),
        ("Hutchinson: probe / gradient, ResNet-20", "ratio", probes(), 3),
        ("LASSO: path to 256 of 512 channels", "s", list(lasso.first), None),
        ("LASSO: path / least squares of the outputs", "ratio", ratios(lasso), 5),
        ("LASSO: path / least squares of the same regression", "ratio", [one / 10 for one in ratios(whole)], 5),
        ("SparseGPT: SmolLM2-135M, 210 layers", "s", [seconds], 600),
        ("SparseGPT: largest memory of the process", "GiB", [memory], 4),
    ]
    keep(NAME, [row(NAME, what, unit, values, at_most=target) for what, unit, values, target in found])


if __name__ == "__main__":
    main()
