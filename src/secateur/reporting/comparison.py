"""A smaller model beside the whole one: layers, parameters, multiply-accumulates, and the time that both take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from secateur import timing
from secateur.batches import call, device_of, mode, to_device
from secateur.masking import check_fits
from secateur.plan import Plan
from secateur.reporting import smaller
from secateur.surgery.proof import fresh
from secateur.text import as_text, table
from secateur.workload import Layer, Workload, workload

CHANNEL = {"conv": 1, "transposed": 1, "linear": -1, "recurrent": -1}
"""Where the shapes of kinds of layers have their channels."""


class Change(NamedTuple):
    """A number of the whole model, and of the smaller one."""

    before: int
    after: int


@dataclass(frozen=True)
class LayerChange:
    """A layer in both models.

    Args:
        name: Of the module; empty for the model itself.
        kind: What it is, as in `Layer`.
        inputs: Channels it reads; None where it has no weight, such as products of attention.
        outputs: Channels it makes.
        parameters: Of the module.
        macs: Multiply-accumulates, of the example's batch.
        remark: Why its outputs stay.
    """

    name: str
    kind: str
    inputs: Change | None
    outputs: Change | None
    parameters: Change
    macs: Change
    remark: str = ""


@dataclass(frozen=True)
class Latency:
    """The time of a forward pass, measured in pairs.

    Args:
        batch: Samples in the batch.
        before: Median of the whole model, seconds; None: it did not run.
        after: Median of the smaller one, seconds.
        ratio: Median over the pairs of the one over the other.
        pairs: How many were measured.
        remark: Why it did not run.
    """

    batch: int
    before: float | None = None
    after: float | None = None
    ratio: float | None = None
    pairs: int = 0
    remark: str = ""


@dataclass(frozen=True)
class Report:
    """What a smaller model is beside the whole one. It prints as tables.

    Args:
        layers: Those that multiply and accumulate, in the order in which they run.
        parameters: Of the models.
        macs: Multiply-accumulates of the models, of the example's batch. They are no promise of speed.
        batch: Samples in the example's batch.
        latency: Times, where they were measured.
        device: What they were measured on.
    """

    layers: tuple[LayerChange, ...]
    parameters: Change
    macs: Change
    batch: int
    latency: tuple[Latency, ...] = ()
    device: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON.

        Returns:
            Numbers and words; a `Change` is a list of two.
        """
        found: dict[str, Any] = _plain(asdict(self))
        return found

    def __str__(self) -> str:
        """The report as text.

        Returns:
            Tables.
        """
        drawn = smaller.tables({"report": self.as_dict()})
        texts = (as_text(table(*found, title=title), width=160) for title, found in drawn if found.rows)
        return "\n\n".join("\n".join(filter(None, text.splitlines())) for text in texts)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def report(
    model: nn.Module,
    small: nn.Module,
    plan: Plan,
    example: Any,
    *,
    batches: Sequence[int] = (1, 64),
    seconds: float = 2.0,
) -> Report:
    """Lay a smaller model beside the one it was made from, and measure the time that both take.

    Parameters and multiply-accumulates are counted. Times are measured: both models run in turn, in eval mode, on the
    device they are on, with as many threads as torch uses; what is reported is the median.

    Args:
        model: The whole model.
        small: What `shrink` made of it.
        plan: What leaves; it says why the rest stays.
        example: Inputs of a batch, as the model takes them.
        batches: Sizes of the batches to time; none: no times.
        seconds: About how long each is timed.

    Returns:
        The report: `print` it, or take its `as_dict`.

    Raises:
        PlanError: The plan is of another model.

    Example:
        >>> from secateur import allocation, criteria, granularity
        >>> from secateur.pruner import Budget, Pruner
        >>> from secateur.surgery import shrink
        >>> model, x = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)), torch.zeros(1, 2)
        >>> plan = Pruner(criteria.magnitude(), granularity.channel(x), allocation.uniform()).plan(
        ...     model, Budget(macs=0.5)
        ... )
        >>> print(report(model, shrink(model, plan), plan, x, batches=()))
        parameters and multiply-accumulates
                                         whole   smaller     left
         ────────────────────────────────────────────────────────
         parameters                         17         9   52.9 %
         multiply-accumulates, batch 1      12         6   50.0 %
        <BLANKLINE>
        layers, whole → smaller
         layer   inputs   outputs   parameters    MACs   remark
         ─────────────────────────────────────────────────────────────────
         0            2     4 → 2       12 → 6   8 → 4
         2        4 → 2         1        5 → 3   4 → 2   there is only one
    """
    check_fits(model, plan)
    whole, less = workload(model, example), workload(small, example)
    return Report(
        tuple(_layers(whole, less, plan)),
        Change(whole.parameter_count, less.parameter_count),
        Change(int(whole.macs), int(less.macs)),
        _samples(example),
        tuple(latency(model, small, example, size, seconds=seconds) for size in batches),
        timing.machine(device_of(model)) if batches else "",
    )


def latency(
    model: nn.Module,
    small: nn.Module,
    example: Any,
    batch: int,
    *,
    seconds: float = 2.0,
    timed: Callable[..., timing.InTurn] = timing.in_turn,
) -> Latency:
    """Time a forward pass of two models in turn.

    Args:
        model: The whole model.
        small: The smaller one.
        example: Inputs of a batch; what they have for each sample is repeated, floating-point numbers are drawn anew.
        batch: Samples in the batch to time.
        seconds: About how long.
        timed: Times two functions in turn.

    Returns:
        Medians; a remark instead where a model does not run on such a batch.
    """
    device = device_of(model)
    try:
        inputs = to_device(fresh(_of_size(example, batch)), device)

        def run(one: nn.Module) -> Callable[[], None]:
            def forward() -> None:
                call(one, inputs)
                timing.wait(device)

            return forward

        with torch.no_grad(), mode(model, training=False), mode(small, training=False):
            found = timed(run(model), run(small), seconds=seconds)
    except Exception as error:  # whatever a model's code says to a batch of this size
        words = (str(error).splitlines() or [""])[0]
        return Latency(batch, remark=f"does not run on such a batch ({type(error).__name__}: {words})")
    return Latency(batch, *found.medians, found.ratio, len(found.first))


def _samples(example: Any) -> int:
    """Samples in a batch: the length of the first tensor that has one."""
    return next((len(one) for one in tree_leaves(example) if isinstance(one, Tensor) and one.ndim), 1)


def _of_size(example: Any, batch: int) -> Any:
    """A batch of another size, out of the samples of an example."""
    count = _samples(example)

    def repeated(one: Tensor) -> Tensor:
        if one.ndim == 0 or len(one) != count:
            return one
        return one.repeat(-(-batch // max(1, count)), *[1] * (one.ndim - 1))[:batch]

    return tree_map_only(Tensor, repeated, example)


def _layers(whole: Workload, less: Workload, plan: Plan) -> Iterator[LayerChange]:
    names = dict.fromkeys(layer.name for layer in whole.layers if layer.macs)
    counts = [_parameters(one, names) for one in (whole, less)]
    stays, going = _stays(plan), _going(plan)
    for name in names:
        before, after = ([layer for layer in one.layers if layer.name == name and layer.macs] for one in (whole, less))
        inputs, outputs = (_change(*(channels(one, end) for one in (before, after))) for end in ("input", "output"))
        still = outputs is None or outputs.before == outputs.after
        put_back = "put back: the code cannot follow it" if name in going else ""
        yield LayerChange(
            name,
            before[0].kind,
            inputs,
            outputs,
            Change(counts[0].get(name, 0), counts[1].get(name, 0)),
            Change(sum(int(one.macs) for one in before), sum(int(one.macs) for one in after)),
            (put_back or stays.get(name, "")) if still else "",
        )


def channels(layers: Sequence[Layer], end: str) -> int | None:
    """Channels that a module reads or makes.

    Args:
        layers: What it runs, in order.
        end: `input`, of the first with a weight, or `output`, of the last.

    Returns:
        The number; None if none has a weight.

    Example:
        >>> channels([Layer("conv", "conv", "convolution", (1, 4, 8, 8), (6, 2, 3, 3), (1, 6, 8, 8))], "output")
        6
    """
    weighted = [layer for layer in layers if layer.kind in CHANNEL]
    if not weighted:
        return None
    layer = weighted[0 if end == "input" else -1]
    return int(getattr(layer, end)[CHANNEL[layer.kind]])


def _change(before: int | None, after: int | None) -> Change | None:
    return None if before is None or after is None else Change(before, after)


def _parameters(found: Workload, names: Iterable[str]) -> dict[str, int]:
    """Parameters by layer: those of its module, and of modules in it that run no layer of their own."""
    known, counts = set(names), dict[str, int]()
    for parameter, shape in found.parameters.items():
        owner = parameter.rpartition(".")[0]
        while owner and owner not in known:
            owner = owner.rpartition(".")[0]
        counts[owner] = counts.get(owner, 0) + math.prod(shape)
    return counts


def _stays(plan: Plan) -> dict[str, str]:
    """By layer why its outputs stay."""
    found: dict[str, str] = {}
    for part in plan.parts:
        if bool(part.keep.all()):
            reason = part.reason or part.units.frozen
            found |= {layer: reason for layer in _made(part.units.role) if layer not in found}
    return found


def _going(plan: Plan) -> set[str]:
    """Layers of which outputs leave."""
    return {layer for part in plan.parts if not bool(part.keep.all()) for layer in _made(part.units.role)}


def _made(role: Any) -> list[str]:
    return [axis.parameter.rpartition(".")[0] for axis, kind in role.items() if kind == "out"]
