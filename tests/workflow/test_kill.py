"""A run survives `kill -9` at any moment, and goes on to the same bits."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import secateur as sc
from secateur import allocation, criteria, files, granularity
from secateur.workflow import PruneJob, Recovery, open_run, prune_task
from tests.tiny import tiny
from tests.workflow.killing import die, killed

pytestmark = [
    pytest.mark.skipif(not hasattr(sys, "addaudithook") or sys.platform == "win32", reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),  # one thread computes; the child only works on
]
LEFT = ("dense.safetensors", "plan.safetensors", "weights.safetensors")


def work(path: Path, recovery: Recovery) -> dict[str, Any]:
    pruner = sc.Pruner(criteria.magnitude(), granularity.weight(), allocation.global_())
    job = PruneJob(pruner, sc.Budget(sparsity=0.8), recovery)
    folder = open_run(path, {"a": 1}, resume=True)
    results = prune_task(tiny(), job, folder, say=lambda _: None, progress=False)
    kept = {key: value for key, value in results.items() if key not in ("seconds", "created")}
    folder.write_json("results.json", kept)
    return kept


def outcome(path: Path, results: dict[str, Any]) -> tuple[Any, ...]:
    return (results, *((path / name).read_bytes() for name in LEFT))


RECOVERIES = {
    "one shot": Recovery(epochs=2),
    "cubic": Recovery("cubic", epochs=2),
    "iterative": Recovery("iterative", (0.5, 0.8), epochs=1),
    "rounds with rewound weights": Recovery("iterative", (0.5, 0.8), epochs=1, rewind="weights"),
    "distilled": Recovery(epochs=1, distill=0.5),
}


@pytest.mark.parametrize("name", ["one shot", "rounds with rewound weights"])
def test_killed_before_any_change_of_a_file_it_goes_on_to_the_same_bits(tmp_path: Path, name: str) -> None:
    whole = outcome(tmp_path / "whole", work(tmp_path / "whole", RECOVERIES[name]))
    point, path = 0, tmp_path / "run"
    while killed(partial(work, path, RECOVERIES[name]), path, point := point + 1):
        assert outcome(path, work(path, RECOVERIES[name])) == whole, f"killed before change {point}"
        shutil.rmtree(path, ignore_errors=True)
    # two folders and run.json; two states an epoch and one at the start of each training; what is left; the journal
    assert point > 50


@pytest.mark.parametrize("name", RECOVERIES)
@pytest.mark.parametrize("seed", range(2))
def test_killed_again_and_again_it_ends_in_the_same_bits(tmp_path: Path, name: str, seed: int) -> None:
    whole = outcome(tmp_path / "whole", work(tmp_path / "whole", RECOVERIES[name]))
    path, draw, kills = tmp_path / "run", random.Random(seed), 0
    while killed(partial(work, path, RECOVERIES[name]), path, draw.randint(1, 40)):
        kills += 1
        assert kills < 200, "it makes no progress"
    assert kills > 1
    assert outcome(path, work(path, RECOVERIES[name])) == whole


def torn(count: int) -> Callable[..., None]:
    """`_write_through`, but the process dies when half of the bytes of the `count`-th file are written."""
    original, calls = files._write_through, [count]

    def write(path: Path, content: bytes) -> None:
        calls[0] -= 1
        if calls[0] == 0:
            path.write_bytes(content[: len(content) // 2])
            die()
        original(path, content)

    return write


def test_files_that_are_half_written_when_it_dies_do_no_harm(tmp_path: Path) -> None:
    recovery, path = RECOVERIES["cubic"], tmp_path / "run"
    whole = outcome(tmp_path / "whole", work(tmp_path / "whole", recovery))

    def tearing(count: int) -> None:
        files._write_through = torn(count)  # in the child only
        work(path, recovery)

    count, never = 0, 10**9
    while killed(partial(tearing, count := count + 1), path, never):
        assert any(path.rglob(".secateur-*.tmp")), "nothing was torn"
        assert outcome(path, work(path, recovery)) == whole, f"file {count} was torn"
        assert not any(path.rglob(".secateur-*.tmp"))
        shutil.rmtree(path)
    assert count > 10


def ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait so long at most."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.poll() is not None


def test_the_command_survives_kills_at_random_times(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "secateur", "prune", "--task", "tests.tiny:tiny", "--sparsity", "0.8"]
    command += ["--schedule", "iterative:0.5,0.8", "--epochs", "40", "--resume", "--json", "--out"]
    run = partial(subprocess.run, cwd=root, capture_output=True, check=False)
    assert run([*command, str(tmp_path / "whole")]).returncode == 0
    draw, path = random.Random(0), tmp_path / "run"
    for _ in range(3):
        begun = subprocess.Popen([*command, str(path)], cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # the moment is drawn once the run is at work, because starting takes as long as it takes
        while not (path / "run.json").exists() and not ended(begun, 0.01):
            pass
        ended(begun, draw.uniform(0, 1.5))
        begun.kill()
        begun.wait()
    assert run([*command, str(path)]).returncode == 0
    for name in LEFT:
        assert (path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
