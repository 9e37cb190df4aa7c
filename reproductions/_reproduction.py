"""What every reproduction shares: options, work that resumes on several processes, and the JSON it leaves.

A reproduction is a list of jobs, each a plain function of plain arguments on one thread, and claims about what they
measured. Jobs run side by side, one process each, which on two cores is faster than one job on two threads. What a job
returns goes into a journal, so that a run that stops goes on with the next job.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import TensorDataset

from secateur.tasks import Task
from secateur.timing import processor
from secateur.workflow import open_run
from secateur.workflow.measure import machine

HERE = Path(__file__).resolve().parent
RESULTS, CHECKPOINTS = HERE / "results", HERE / "checkpoints"
WORK = HERE.parent / "runs" / "reproductions"


@dataclass(frozen=True)
class Claim:
    """Something that must come out.

    Args:
        what: In words.
        target: In words.
        measured: In words.
        holds: Whether it did.
    """

    what: str
    target: str
    measured: str
    holds: bool


@dataclass(frozen=True)
class Job:
    """A piece of work.

    Args:
        key: Names it in the journal.
        function: A function of a module, which another process can find.
        arguments: Plain values.
        minutes: How long it takes on one core of the machine that made the committed results.
    """

    key: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    minutes: float


def options(description: str | None, networks: Sequence[str], seeds: Sequence[int]) -> argparse.ArgumentParser:
    """The options that every reproduction takes.

    Args:
        description: The docstring of the script.
        networks: Those it knows.
        seeds: Those it uses.

    Returns:
        A parser to which a script may add its own.
    """
    summary = (description or "").split("\n\n")[0]
    parser = argparse.ArgumentParser(description=summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--network", choices=networks, action="append", help="only this one; repeatable")
    parser.add_argument("--seed", type=int, action="append", help="only this one; repeatable")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="jobs side by side")
    parser.add_argument("--short", action="store_true", help="little data, few epochs: shows that it runs, no more")
    parser.add_argument("--data-dir", type=Path, help="folder of the data set, if not where secateur data puts it")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for the journal and unfinished states")
    parser.add_argument("--fresh", action="store_true", help="leave out what the journal knows: measure it again")
    parser.set_defaults(networks=tuple(networks), seeds=tuple(seeds))
    return parser


def chosen(arguments: argparse.Namespace) -> tuple[tuple[str, ...], tuple[int, ...], bool]:
    """Networks and seeds of this run.

    Args:
        arguments: What the user wrote.

    Returns:
        Networks, seeds, and whether they are all there are, so that the run may write the committed result.
    """
    networks = tuple(arguments.network or arguments.networks)
    seeds = tuple(arguments.seed if arguments.seed is not None else arguments.seeds)
    whole = (networks, seeds) == (arguments.networks, arguments.seeds) and not arguments.short
    return networks, seeds, whole


def measure(name: str, jobs: Sequence[Job], arguments: argparse.Namespace) -> dict[str, Any]:
    """Do the jobs that the journal does not know yet, side by side.

    Args:
        name: Of the reproduction.
        jobs: What there is to do.
        arguments: What the user wrote.

    Returns:
        Results by key of the job.
    """
    for needed in (arguments.work, RESULTS, CHECKPOINTS):
        needed.mkdir(parents=True, exist_ok=True)
    place = arguments.work / (f"{name}-short" if arguments.short else name)
    folder = open_run(place, {"reproduction": name, "short": arguments.short}, resume=True)
    left = [job for job in jobs if arguments.fresh or job.key not in folder.known]
    workers = max(1, min(arguments.workers, len(left)))
    known = f"{len(jobs) - len(left)} of {len(jobs)} jobs are in {folder.path}. " if len(left) < len(jobs) else ""
    minutes = sum(job.minutes for job in left) / workers
    tell(f"{name}: {known}{len(left)} to do, about {minutes:.0f} minutes, {workers} at a time")
    done = {job.key: folder.known[job.key] for job in jobs if job not in left}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        running: dict[Future[Any], Job] = {pool.submit(_timed, job.function, *job.arguments): job for job in left}
        waiting = set(running)
        try:
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    job = running[future]
                    folder.known.pop(job.key, None)
                    done[job.key] = folder.once(job.key, future.result)
                    tell(f"{name}: {len(done)}/{len(jobs)}  {job.key}  {done[job.key]['seconds']:.0f} s")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what is running may finish, nothing else begins
            raise
    return {job.key: done[job.key] for job in jobs}


def _timed(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Seconds of the processor, so that what else the machine does makes little difference."""
    started = time.process_time()
    value = function(*arguments)
    return {"value": value, "seconds": round(time.process_time() - started, 2)}


def _one_thread() -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would go on with its job, unseen."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def finish(
    name: str,
    paper: str,
    claims: Sequence[Claim],
    measured: Mapping[str, Any],
    arguments: argparse.Namespace,
    **more: Any,
) -> None:
    """Print the claims and write the result: the committed one if this run was whole, else one in the work folder.

    Args:
        name: Of the reproduction.
        paper: Authors, year, title.
        claims: What had to come out.
        measured: Results of the jobs.
        arguments: What the user wrote.
        **more: Anything else, plain JSON.
    """
    networks, seeds, whole = chosen(arguments)
    result = {
        "name": name,
        "paper": paper,
        "networks": list(networks),
        "seeds": list(seeds),
        "claims": [asdict(claim) for claim in claims],
        "core_seconds": round(sum(job["seconds"] for job in measured.values()), 1),
        "processor": processor(),
        **machine(),
        **more,
        "jobs": {key: job["value"] for key, job in measured.items()},
    }
    for claim in claims:
        verdict = "not judged" if arguments.short else "holds" if claim.holds else "FAILS"
        sys.stdout.write(f"{verdict}: {claim.what}: {claim.measured} (target: {claim.target})\n")
    place = RESULTS if whole else arguments.work
    (place / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    tell(f"written: {place / name}.json")


def load_result(name: str) -> dict[str, Any] | None:
    """The committed result of a reproduction.

    Args:
        name: Of the reproduction.

    Returns:
        What `write` wrote; None if there is nothing yet.
    """
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def shortened(task: Task, samples: int = 512) -> Task:
    """A task with little data, for the short mode.

    Args:
        task: The task.
        samples: Of each split.

    Returns:
        The task on the first samples of each split.
    """
    train, validation, test = (
        TensorDataset(*(tensor[:samples] for tensor in data.tensors))  # type: ignore[attr-defined]
        for data in (task.train, task.validation, task.test)
    )
    return replace(task, train=train, validation=validation, test=test)


def tell(words: str) -> None:
    """A line on standard error.

    Args:
        words: The line.
    """
    sys.stderr.write(words + "\n")
    sys.stderr.flush()
