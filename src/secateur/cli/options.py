"""Options that commands share or that need some words, and the completion of their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

SCHEDULES = ("one_shot", "linear", "cubic", "iterative:")


def complete(kind: str) -> Callable[[str], list[str]]:
    """Completion of an option's values.

    Args:
        kind: `granularity`, `criterion`, `allocation`, `schedule` or `source` of data.

    Returns:
        From what has been typed to the names that begin so.
    """

    def names(incomplete: str) -> list[str]:
        return [name for name in _names(kind) if name.startswith(incomplete)]

    return names


def _names(kind: str) -> Iterable[str]:
    if kind == "schedule":
        return SCHEDULES
    if kind == "source":
        from secateur.tasks.data import SOURCES

        return SOURCES
    from secateur.cli.names import factories

    return factories(kind)


Out = Annotated[Path | None, typer.Option("--out", help="Folder of the run.", show_default="a new one in runs/")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that stopped.")]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON, for machines; nothing else on stdout.")]
Open = Annotated[bool, typer.Option("--open", help="Open the page in a browser.")]


Network = Annotated[
    str | None,
    typer.Option("--network", help="One of the task's networks, e.g. resnet-20 of fashion.", show_default="its first"),
]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder with the task's data.", show_default="cache")]
DivideBy = Annotated[float, typer.Option(help="Recover at the task's learning rate divided by this.")]
Rewind = Annotated[
    str | None,
    typer.Option(
        help="rate: train with the learning rates of the last epochs of dense training instead; weights: and from the "
        "weights of that time.",
        show_default="no",
    ),
]
Distill = Annotated[float, typer.Option(min=0, max=1, help="Weight of the dense network's outputs in the loss.")]
Temperature = Annotated[float, typer.Option(help="Of distillation.")]
AdjustDropout = Annotated[
    bool, typer.Option("--adjust-dropout", help="Lower the rates of dropout to fit the connections that are left.")
]
Autocast = Annotated[bool, typer.Option("--autocast", help="Train in mixed precision, bfloat16.")]
Accumulate = Annotated[int, typer.Option(min=1, help="Batches for a step of the optimizer.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU if there is one.")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]

Granularity = Annotated[
    str, typer.Option("--granularity", "-g", help="What leaves together.", autocompletion=complete("granularity"))
]
Criterion = Annotated[
    str,
    typer.Option(
        "--criterion",
        "-c",
        help="How much it matters, or what chooses and mends: lasso, thinet, sparsegpt.",
        autocompletion=complete("criterion"),
    ),
]
Allocation = Annotated[
    str | None,
    typer.Option(
        "--allocation",
        "-a",
        help="How it is shared out; without scores, uniform.",
        show_default="global",
        autocompletion=complete("allocation"),
    ),
]
Macs = Annotated[
    float | None, typer.Option(help="Fraction of the multiply-accumulates that may stay; of channel and head.")
]
Parameters = Annotated[
    float | None, typer.Option(help="Fraction of the parameters that may stay; of channel and head.")
]
Schedule = Annotated[
    str,
    typer.Option(
        help="one_shot, linear, cubic, or iterative:S1,S2,... with what is gone after each round: the fraction of the "
        "units, or of what the budget measures.",
        autocompletion=complete("schedule"),
    ),
]
RoundTo = Annotated[
    list[str] | None,
    typer.Option(help="Channels stay in multiples of this: a number, or NAME=NUMBER, repeatable; of channel."),
]
MinChannels = Annotated[
    list[str] | None,
    typer.Option(help="So many channels or heads of a group stay: a number, or NAME=NUMBER; of channel and head."),
]
CrossNorms = Annotated[
    bool, typer.Option("--cross-norms", help="Channels over which layer norms go may leave, too; of channel.")
]
Reestimate = Annotated[
    bool, typer.Option(help="Measure the statistics of batch norms again after pruning, where there are some.")
]
