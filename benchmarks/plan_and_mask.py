"""How long it takes to plan and mask 100 million weights, and how much memory, against torch.nn.utils.prune.

Four 5000 x 5000 linear layers, 90 % of all weights removed by one global threshold on magnitudes. Each measurement is
a process of its own, ours and torch's in turn; the time is that of planning and masking alone, the memory is the peak
above what the process held with the model and the library loaded, in copies of all weights.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from _harness import keep, row
from torch import nn

LAYERS, WIDTH, SPARSITY, PAIRS = 4, 5000, 0.9, 5
NAME = "plan_and_mask"


def ours(model: nn.Module) -> Callable[[], object]:
    """Plan and mask with secateur."""
    import secateur as sc
    from secateur import allocation, criteria, granularity

    pruner = sc.Pruner(criteria.magnitude(), granularity.weight(), allocation.global_())
    return lambda: sc.mask(model, pruner.plan(model, sc.Budget(sparsity=SPARSITY)), inplace=True)


def torchs(model: nn.Module) -> Callable[[], object]:
    """Mask with torch's own utility."""
    from torch.nn.utils import prune

    pairs = [(layer, "weight") for layer in model.children()]
    return lambda: prune.global_unstructured(pairs, prune.L1Unstructured, amount=SPARSITY)


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(which: str) -> dict[str, float]:
    """One measurement, in this process."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)))
    copy_bytes = 4 * LAYERS * WIDTH * WIDTH
    job = {"ours": ours, "torch": torchs}[which](model)
    before = peak_bytes()
    start = time.perf_counter()
    job()
    seconds = time.perf_counter() - start
    left = sum(int(torch.count_nonzero(weight)) for weight in model.state_dict().values())
    return {"seconds": seconds, "copies": (peak_bytes() - before) / copy_bytes, "left": left}


def in_process(which: str) -> dict[str, float]:
    """One measurement, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, which], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    """Measure pairs, and keep the rows."""
    pairs = [(in_process("ours"), in_process("torch")) for _ in range(PAIRS)]
    for mine, _ in pairs:
        assert mine["left"] == round((1 - SPARSITY) * LAYERS * WIDTH * WIDTH)
    ours_runs, torch_runs = [mine for mine, _ in pairs], [other for _, other in pairs]
    ratios = [a["seconds"] / b["seconds"] for a, b in pairs]
    keep(
        NAME,
        [
            row(NAME, "secateur: plan + mask, 100 M weights", "s", [run["seconds"] for run in ours_runs]),
            row(NAME, "torch.nn.utils.prune.global_unstructured", "s", [run["seconds"] for run in torch_runs]),
            row(NAME, "time, secateur / torch", "ratio", ratios, at_most=0.5),
            row(NAME, "secateur: extra memory", "copies", [run["copies"] for run in ours_runs], at_most=1.5),
            row(NAME, "torch: extra memory", "copies", [run["copies"] for run in torch_runs]),
        ],
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
