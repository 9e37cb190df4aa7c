"""Every reproduction runs, in its short mode, from an empty folder to claims."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from secateur.errors import DataError
from secateur.tasks.data import SOURCES, locate

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path.stem for path in (ROOT / "reproductions").glob("[a-z]*.py"))
SMALL = {  # instead of every network
    "train_dense": "lenet-300-100",
    "mao2017granularity": "lenet-5",
    "mishra2021sparse": "vgg-small",
    "hu2016apoz": "lenet-300-100",
    "he2017lasso": "vgg-small",
    "luo2017thinet": "vgg-small",
}


WITHOUT_DATA = ("frantar2023sparsegpt", "structured_language", "sun2024wanda")  # their short mode draws its own


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_reproduction_runs_and_goes_on(name: str, tmp_path: Path) -> None:
    if name not in WITHOUT_DATA:
        try:
            locate(SOURCES["fashion-mnist"])
        except DataError as error:
            pytest.skip(str(error))
    command = [sys.executable, f"reproductions/{name}.py", "--short", "--seed", "1", "--workers", "1"]
    command += ["--work", str(tmp_path), *(["--network", SMALL[name]] if name in SMALL else [])]
    first, second = (subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert "about" in first.stderr  # the estimate
    result = json.loads((tmp_path / f"{name}.json").read_text())
    assert result["claims"]
    assert all(set(claim) == {"what", "target", "measured", "holds"} for claim in result["claims"])
    assert result["seeds"] == [1]
    # the second run finds every job in the journal, and says the same
    assert second.returncode == 0, second.stderr
    assert " 0 to do" in second.stderr
    assert second.stdout == first.stdout
