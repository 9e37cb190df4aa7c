"""What the commands do once torch may be imported."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import webbrowser
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console

from secateur import ranks, schedules
from secateur.budget import Budget
from secateur.cli.names import RETURNS, factories, numbers, pairs, resolve, summary, usage
from secateur.criteria import Criterion, normalized
from secateur.errors import RunError, SecateurError, UnknownNameError
from secateur.plan import Plan
from secateur.pruner import Pruner
from secateur.reporting import print_summary, write_page
from secateur.tasks import Task, load_task, loader
from secateur.tasks.load import BUILT_IN
from secateur.text import table
from secateur.training import Regularizer, bn_l1, l1, l2, polarization, smooth_l1
from secateur.workflow import (
    Demo,
    Dense,
    FinetuneJob,
    Numerics,
    PruneJob,
    Recovery,
    RunFolder,
    check_job,
    earlier_run,
    finetune_task,
    open_run,
    prune_task,
    read_results,
    read_run,
    run_demo,
)
from secateur.workflow.recovery import SCHEDULES, along
from secateur.workflow.smaller import check_crossing


def demonstrate(out: Path, settings: Mapping[str, Any], *, resume: bool, as_json: bool, show: bool) -> None:
    """Run the demonstration and show what came out.

    Args:
        out: Folder of the run.
        settings: What the user asked for.
        resume: Go on with a run.
        as_json: For machines.
        show: Open the page.
    """
    task = _task(settings)
    asked = Demo(task, seeds=tuple(range(settings["seeds"])), epochs=settings["epochs"])
    folder = open_run(out, {"command": "demo", **settings}, resume=resume)
    results = _results(folder, lambda: run_demo(asked, folder, say=_say, progress=not as_json))
    present(results, folder.path, folder.file("report.html"), as_json=as_json, show=show)


def prune(out: Path, settings: Mapping[str, Any], *, resume: bool, as_json: bool, show: bool) -> None:
    """Run the main job and show what came out.

    Args:
        out: Folder of the run.
        settings: What the user asked for.
        resume: Go on with a run.
        as_json: For machines.
        show: Open the page.
    """
    with together():
        task = _task(settings)
        job = job_of(settings, task)
        _try_out(task, job)
        folder = open_run(out, {"command": "prune", **settings}, resume=resume)
        results = _results(folder, lambda: prune_task(task, job, folder, say=_say, progress=not as_json))
        present(results, folder.path, folder.file("report.html"), as_json=as_json, show=show)


def finetune(out: Path, settings: Mapping[str, Any], *, resume: bool, as_json: bool, show: bool) -> None:
    """Train the network of a finished run on and show what came out.

    Args:
        out: Folder of the new run.
        settings: What the user asked for.
        resume: Go on with a run.
        as_json: For machines.
        show: Open the page.
    """
    with together():
        told = _task_of(settings, read_run(Path(settings["run"]))["settings"])
        job = FinetuneJob(Path(settings["run"]), _recovery(settings), _numerics(settings), settings["seed"])
        task = _task(told)
        earlier_run(task, job)
        folder = open_run(out, {"command": "finetune", **settings, **told}, resume=resume)
        results = _results(folder, lambda: finetune_task(task, job, folder, say=_say, progress=not as_json))
        present(results, folder.path, folder.file("report.html"), as_json=as_json, show=show)


TASK = ("task", "network", "data_dir")


def _task_of(settings: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The options that make a task: what is not given is as it was, unless it was of another task."""
    told = {key: settings[key] for key in TASK}
    if told["task"] in (None, before.get("task")):
        told = {key: before.get(key) if value is None else value for key, value in told.items()}
    if told["task"] is None:
        raise RunError(f"the run in {settings['run']} does not say of which task it is: name it by --task")
    return told


def _task(settings: Mapping[str, Any]) -> Task:
    return load_task(settings["task"], network=settings.get("network"), data_dir=settings.get("data_dir"))


@contextmanager
def together() -> Iterator[None]:
    """Join the other processes that `torchrun` started, if it did; leave them at the end.

    Yields:
        Nothing.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def job_of(settings: Mapping[str, Any], task: Task) -> PruneJob:
    """The job that options describe.

    Args:
        settings: Options by name.
        task: The task, whose example shows how its model runs.

    Returns:
        The job.

    Raises:
        SecateurError: Options that do not go together; what to change is said.
    """
    criterion = resolve("criterion", settings["criterion"])
    if settings["normalize"]:
        if not isinstance(criterion, Criterion):
            raise SecateurError(f"--normalize divides scores, and {settings['criterion']} gives none. Leave it out")
        criterion = normalized(criterion, settings["normalize"])
    pruner = Pruner(
        criterion,
        resolve("granularity", settings["granularity"], task.example, _of_channels(settings)),
        resolve("allocation", settings["allocation"] or ("global" if isinstance(criterion, Criterion) else "uniform")),
        exclude=tuple(settings["exclude"] or ()),
        minimum=pairs("--minimum", settings["minimum"] or []),
        maximum=pairs("--maximum", settings["maximum"] or []),
    )
    name, levels = _schedule(settings["schedule"])
    return PruneJob(
        pruner,
        _budget(settings, levels),
        recovery=dataclasses.replace(_recovery(settings), schedule=name, levels=levels),
        dense=Dense(
            settings["dense_epochs"],
            Path(settings["weights"]) if settings["weights"] else None,
            _penalty(settings["regularize"], task),
            decay=(settings["regularize"] or "").partition(":")[0] in OF_SCALES,
        ),
        numerics=_numerics(settings),
        seed=settings["seed"],
        reestimate=settings["reestimate"],
    )


def _of_channels(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Options of granularities that couple channels, those that are given."""
    given: dict[str, Any] = {
        f"--{name.replace('_', '-')}": numbers(f"--{name.replace('_', '-')}", settings[name])
        for name in ("round_to", "min_channels")
        if settings[name]
    }
    return given | ({"--cross-norms": True} if settings["cross_norms"] else {})


def _recovery(settings: Mapping[str, Any]) -> Recovery:
    return Recovery(
        epochs=settings["epochs"],
        divide_by=settings["divide_by"],
        rewind=_one_of("--rewind", settings["rewind"] or "", ("", "rate", "weights")),  # type: ignore[arg-type]
        distill=settings["distill"],
        temperature=settings["temperature"],
        adjust_dropout=settings["adjust_dropout"],
    )


def _numerics(settings: Mapping[str, Any]) -> Numerics:
    return Numerics(
        _device(settings["device"]), torch.bfloat16 if settings["autocast"] else None, settings["accumulate"]
    )


def _device(name: str) -> str:
    if name == "auto":
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    try:
        torch.device(name)
    except RuntimeError as error:
        raise SecateurError(f"--device is {name!r}; expected cpu, cuda, or auto, a GPU if there is one") from error
    try:
        torch.empty(0, device=name).cpu()  # which fails where there is a name and no numbers
    except (RuntimeError, AssertionError) as error:
        raise SecateurError(
            f"--device {name} cannot be used here ({str(error).splitlines()[0]}); expected cpu, cuda, or auto, "
            "a GPU if there is one"
        ) from error
    return name


OF_SCALES: dict[str, Callable[[float], Regularizer]] = {
    "bn_l1": bn_l1,
    "smooth_l1": smooth_l1,
    "polarization": polarization,
}
"""Penalties of the scales of batch norms, beside which the weights keep their decay."""
PENALTIES: dict[str, Callable[[float], Regularizer]] = {"l1": l1, "l2": l2, **OF_SCALES}


def _penalty(text: str | None, task: Task) -> Regularizer | None:
    """The penalty, tried on the untrained model, so that one which does not fit shows at once."""
    if not text:
        return None
    name, _, strength = text.partition(":")
    kind = PENALTIES[_one_of("--regularize", name, tuple(PENALTIES))]
    try:
        penalty = kind(float(strength))
    except ValueError as error:
        raise SecateurError(f"--regularize is written l1:1e-5, l2:1e-4 or bn_l1:1e-4; given: {text!r}") from error
    with torch.random.fork_rng(devices=[]):
        penalty(task.model())
    return penalty


def _one_of(option: str, name: str, known: tuple[str, ...]) -> str:
    if name not in known:
        raise UnknownNameError(f"choice of {option}", name, [one for one in known if one])
    return name


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


REMOVED, STAYS = ("sparsity", "weights_removed"), ("macs", "parameters")
"""Measures of a budget that are a fraction: of what goes, and of what may stay."""


def _budget(settings: Mapping[str, Any], levels: tuple[float, ...]) -> Budget | None:
    given = {name: settings[name] for name in (*REMOVED, *STAYS, "nonzeros") if settings[name] is not None}
    if settings["per_group"]:
        given["per_group"] = pairs("--per-group", settings["per_group"])
    if levels and not given:
        given["sparsity"] = levels[-1]
    budget = Budget(**given) if given else None
    if levels:
        _check_rounds(given, levels[-1])
    return budget


def _check_rounds(given: Mapping[str, Any], last: float) -> None:
    """Refuse a budget that says something else than the last round."""
    name, value = next(iter(given.items()))
    if name in STAYS and not math.isclose(value, 1 - last):
        raise SecateurError(
            f"the rounds name what is gone of the {name}, {last:g} at the end, and --{name} {value:g} asks for "
            f"{1 - value:g}: end them with {1 - value:g}"
        )
    if name not in STAYS and not (name in REMOVED and value == last):
        raise SecateurError(
            f"an iterative schedule names the sparsities itself, {last:g} at the end; leave the budget out, or give "
            "--macs, --parameters or --weights-removed, of which the rounds then name the fraction that is gone"
        )


def _try_out(task: Task, job: PruneJob) -> None:
    """Plan on an untrained model first: what is wrong with names or budget shows before any training."""
    check_job(task, job)
    model = task.model()
    groups = job.pruner.groups(model)
    scoreless = dataclasses.replace(job.pruner, method=resolve("criterion", "magnitude"))
    check_crossing(scoreless.plan(model, job.budget, units=groups), trained_along=along(job.recovery))
    if not isinstance(job.pruner.method, Criterion):
        dataclasses.replace(job.pruner, method=_keeps_all).plan(model, job.budget, data=(), units=groups)
        return
    # Whether the criterion has scores for all groups shows on one batch.
    scoring = dataclasses.replace(job.pruner, allocation=resolve("allocation", "uniform"), minimum={}, maximum={})
    scoring.plan(model, Budget(sparsity=0.0), data=islice(loader(task), 1), loss=task.loss, units=groups)


def _keeps_all(model: Any, units: Any, sparsities: Any, batches: Any) -> Plan:  # noqa: ARG001
    """In the place of a method that chooses and mends: it shows whether the budget can be shared out without scores."""
    return Plan(())


def present(results: Mapping[str, Any], run: Path, page: Path, *, as_json: bool, show: bool) -> None:
    """Write the page of a run, and print its tables or its numbers; of several ranks, the first does.

    Args:
        results: Of the run.
        run: Its folder.
        page: Where the page goes.
        as_json: Print numbers.
        show: Open the page.
    """
    if ranks.rank():
        return
    write_page(results, page)
    if as_json:
        sys.stdout.write(json.dumps(results) + "\n")
    else:
        console = Console()
        print_summary(results, console)
        if results.get("report"):
            place = run / "small.safetensors"
            console.print(f"smaller model: {place}, for secateur.restore", highlight=False, soft_wrap=True)
        console.print(f"run: {run}\npage: {page}", highlight=False, soft_wrap=True)
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
    if ranks.by_first(lambda: folder.file("results.json").exists()):
        _say(f"{folder.path} was finished before ({folder.created}) and is shown again; remove it to run it anew")
        return read_results(folder.path)
    results = work()
    folder.write_json("results.json", results)
    return results


def _say(words: str) -> None:
    if ranks.rank():
        return
    Console(stderr=True).print(words, highlight=False, soft_wrap=True)
