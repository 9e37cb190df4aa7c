"""What the commands do once torch may be imported."""

from __future__ import annotations

import dataclasses
import json
import sys
import webbrowser
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from secateur import schedules
from secateur.budget import Budget
from secateur.cli.names import RETURNS, factories, pairs, resolve, summary, usage
from secateur.criteria import normalized
from secateur.errors import SecateurError, UnknownNameError
from secateur.pruner import Pruner
from secateur.reporting import print_summary, write_page
from secateur.tasks import Task, load_task
from secateur.tasks.load import BUILT_IN
from secateur.text import table
from secateur.workflow import Demo, PruneJob, RunFolder, open_run, prune_task, read_results, run_demo

SCHEDULES = ("one_shot", "linear", "cubic", "iterative")


def demonstrate(out: Path, settings: Mapping[str, Any], *, resume: bool, as_json: bool, show: bool) -> None:
    """Run the demonstration and show what came out.

    Args:
        out: Folder of the run.
        settings: What the user asked for.
        resume: Go on with a run.
        as_json: For machines.
        show: Open the page.
    """
    task = load_task(settings["task"])
    asked = Demo(task, seeds=tuple(range(settings["seeds"])), epochs=settings["epochs"])
    folder = open_run(out, {"command": "demo", **settings}, resume=resume)
    results = _results(folder, lambda: run_demo(asked, folder, say=_say, progress=not as_json))
    present(results, folder.file("report.html"), as_json=as_json, show=show)


def prune(out: Path, settings: Mapping[str, Any], *, resume: bool, as_json: bool, show: bool) -> None:
    """Run the main job and show what came out.

    Args:
        out: Folder of the run.
        settings: What the user asked for.
        resume: Go on with a run.
        as_json: For machines.
        show: Open the page.
    """
    task, job = load_task(settings["task"]), job_of(settings)
    _try_out(task, job)
    folder = open_run(out, {"command": "prune", **settings}, resume=resume)
    results = _results(folder, lambda: prune_task(task, job, folder, say=_say, progress=not as_json))
    present(results, folder.file("report.html"), as_json=as_json, show=show)


def job_of(settings: Mapping[str, Any]) -> PruneJob:
    """The job that options describe.

    Args:
        settings: Options by name.

    Returns:
        The job.
    """
    criterion = resolve("criterion", settings["criterion"])
    if settings["normalize"]:
        criterion = normalized(criterion, settings["normalize"])
    pruner = Pruner(
        criterion,
        resolve("granularity", settings["granularity"]),
        resolve("allocation", settings["allocation"]),
        exclude=tuple(settings["exclude"] or ()),
        minimum=pairs("--minimum", settings["minimum"] or []),
        maximum=pairs("--maximum", settings["maximum"] or []),
    )
    name, levels = _schedule(settings["schedule"])
    return PruneJob(
        pruner,
        _budget(settings, levels),
        schedule=name,
        levels=levels,
        epochs=settings["epochs"],
        divide_by=settings["divide_by"],
        seed=settings["seed"],
        dense_epochs=settings["dense_epochs"],
    )


def _schedule(text: str) -> tuple[str, tuple[float, ...]]:
    name, _, rest = text.partition(":")
    if name not in SCHEDULES:
        raise UnknownNameError("schedule", name, SCHEDULES)
    if name != "iterative":
        return name, ()
    try:
        levels = tuple(float(level) for level in rest.split(","))
    except ValueError as error:
        raise SecateurError(f"the schedule is written iterative:0.5,0.8,0.9; given: {text!r}") from error
    schedules.iterative(levels)  # raises unless they rise
    return name, levels


def _budget(settings: Mapping[str, Any], levels: tuple[float, ...]) -> Budget | None:
    given = {name: settings[name] for name in ("sparsity", "weights_removed", "nonzeros") if settings[name] is not None}
    if settings["per_group"]:
        given["per_group"] = pairs("--per-group", settings["per_group"])
    if levels and given and given != {"sparsity": levels[-1]}:
        raise SecateurError(
            f"an iterative schedule names the sparsities itself, {levels[-1]:g} at the end; leave the budget out"
        )
    if levels:
        given["sparsity"] = levels[-1]
    return Budget(**given) if given else None


def _try_out(task: Task, job: PruneJob) -> None:
    """Plan on an untrained model first: what is wrong with names or budget shows before any training."""
    model = task.model()
    scoreless = dataclasses.replace(job.pruner, method=resolve("criterion", "magnitude"))
    scoreless.plan(model, job.budget)


def present(results: Mapping[str, Any], page: Path, *, as_json: bool, show: bool) -> None:
    """Write the page of a run, and print its tables or its numbers.

    Args:
        results: Of the run.
        page: Where the page goes.
        as_json: Print numbers.
        show: Open the page.
    """
    write_page(results, page)
    if as_json:
        sys.stdout.write(json.dumps(results) + "\n")
    else:
        console = Console()
        print_summary(results, console)
        console.print(f"run: {page.parent}\npage: {page}", highlight=False, soft_wrap=True)
    if show:
        webbrowser.open(page.resolve().as_uri())


def print_names(*, as_json: bool) -> None:
    """Print the names that options take.

    Args:
        as_json: For machines.
    """
    found = {kind: {usage(name, value): summary(value) for name, value in factories(kind).items()} for kind in RETURNS}
    found["schedule"] = {name: summary(getattr(schedules, name)) for name in SCHEDULES}
    found["task"] = {name: summary(value) for name, value in BUILT_IN.items()}
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    console = Console()
    for kind, rows in found.items():
        console.print(table([kind, ""], [[name, words] for name, words in rows.items()]))


def _results(folder: RunFolder, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The results of a run: those in the folder if it was finished before, else of the work."""
    if folder.file("results.json").exists():
        _say(f"{folder.path} was finished before ({folder.created}) and is shown again; remove it to run it anew")
        return read_results(folder.path)
    results = work()
    folder.write_json("results.json", results)
    return results


def _say(words: str) -> None:
    Console(stderr=True).print(words, highlight=False, soft_wrap=True)
