"""Runs in which channels leave: the smaller network is trained, killed at any moment, gone on with."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.reconstruction import reestimate
from secateur.tasks import Task, evaluate, loader, seeded
from secateur.training import finetune
from secateur.workflow import Dense, PruneJob, Recovery, open_run, prune_task, smaller
from tests.tiny import attentive, data, normed, tiny
from tests.workflow.killing import killed
from tests.workflow.spying import Spy

LEFT = ("dense.safetensors", "plan.safetensors", "weights.safetensors", "small.safetensors")


def job(recovery: Recovery, task: Task, budget: sc.Budget | None = None, **more: Any) -> PruneJob:
    pruner = sc.Pruner(criteria.magnitude(), granularity.channel(task.example), allocation.uniform())
    return PruneJob(pruner, budget or sc.Budget(macs=0.5), recovery, Dense(epochs=2), **more)


def work(path: Path, recovery: Recovery, task: Task, **more: Any) -> dict[str, Any]:
    """A run, begun or gone on with; what is left of its results does not depend on the clock."""
    folder = open_run(path, {"a": 1}, resume=True)
    results = prune_task(task, job(recovery, task, **more), folder, say=lambda _: None, progress=False)
    assert results["report"].pop("latency")
    return {key: value for key, value in results.items() if key not in ("seconds", "created")}


def outcome(path: Path, results: dict[str, Any]) -> tuple[Any, ...]:
    return (results, *((path / name).read_bytes() for name in LEFT))


@pytest.mark.skipif(not hasattr(sys, "addaudithook") or sys.platform == "win32", reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(
    "recovery",
    [
        Recovery(epochs=1),
        Recovery("cubic", epochs=1),
        Recovery("iterative", (0.3, 0.5), epochs=1),
        Recovery("iterative", (0.3, 0.5), epochs=1, rewind="weights"),
    ],
    ids=["one shot", "cubic", "iterative", "rounds"],
)
def test_killed_before_any_change_of_a_file_it_goes_on_to_the_same_bits(
    tmp_path: Path, recovery: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smaller, "report", partial(sc.report, seconds=0.0))
    whole = outcome(tmp_path / "whole", work(tmp_path / "whole", recovery, normed()))
    point, path = 0, tmp_path / "run"
    while killed(partial(work, path, recovery, normed()), path, point := point + 3):
        assert outcome(path, work(path, recovery, normed())) == whole, f"killed before change {point}"
        shutil.rmtree(path, ignore_errors=True)
    assert point > 40


def test_recovery_trains_the_smaller_network(tmp_path: Path) -> None:
    """By hand: plan, cut, train, the best epoch kept."""
    task, spy = tiny(), Spy(tiny())
    results = work(tmp_path / "run", Recovery(epochs=2), spy.spied())
    dense = task.model()
    dense.load_state_dict(load_file(tmp_path / "run" / "dense.safetensors"))
    plan = sc.Plan.load(tmp_path / "run" / "plan.safetensors")
    small = sc.shrink(dense, plan, example=task.example)
    trained = [tuple(value.shape) for value in spy.first[1].values()]
    # the spy names the shapes of what its optimizer was given: those of the smaller network
    assert trained == [tuple(value.shape) for value in small.parameters()]

    def validate(model: nn.Module) -> float:
        return evaluate(model, task, "validation")

    with seeded(0):
        finetune(small, loader(task, seed=0), task.loss, learning_rate=task.learning_rate, epochs=2, validate=validate)
    again = sc.restore(tmp_path / "run" / "small.safetensors", task.model()).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in small.state_dict().items())
    assert results["accuracy"]["fine_tuned"] == evaluate(small, task)


def test_a_group_that_the_code_cannot_follow_stays_in_plan_and_model(tmp_path: Path) -> None:
    task = replace(tiny(), model=Stubborn)
    with pytest.warns(UserWarning, match="put back"):
        results = work(tmp_path / "run", Recovery(epochs=1), task, budget=sc.Budget(sparsity=0.5))
    plan = sc.Plan.load(tmp_path / "run" / "plan.safetensors")
    assert plan["first"].kept == 6
    assert plan["second"].kept == 2
    small = sc.restore(tmp_path / "run" / "small.safetensors", task.model())
    assert (small.first.out_features, small.second.out_features) == (6, 2)
    remarks = {row["name"]: row["remark"] for row in results["report"]["layers"]}
    assert remarks["first"] == "put back: the code cannot follow it"


class Stubborn(nn.Module):
    """Insists on the width of its first layer, once there are numbers in it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.fc = nn.Linear(36, 6), nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1))
        if len(self.first.bias) != 6:
            raise ValueError("six channels, please")
        logits: Tensor = self.fc(self.second(x.relu()).relu())
        return logits


# ---------------------------------------------------------------------------- batch norms


def test_a_smaller_last_batch_does_not_count() -> None:
    """Each batch counts alike, so that a last one of one sample would count as much as 16."""
    task = replace(normed(), train=data(33, 0))
    again = smaller.measured_again(task.model(), task, seed=3)
    assert again is not None
    batches: list[Any] = list(loader(task, seed=3))
    assert [len(batch[1]) for batch in batches] == [16, 16, 1]


def test_statistics_are_those_of_the_training_data_in_the_order_of_the_seed() -> None:
    task = normed()
    torch.manual_seed(0)
    model = task.model()
    again = smaller.measured_again(model, task, seed=3)
    assert again is not None
    by_hand = reestimate(model, loader(task, seed=3))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in by_hand.state_dict().items())
    assert not torch.equal(model[1].running_mean, again[1].running_mean)


def test_there_is_nothing_to_measure_without_batch_norms() -> None:
    assert smaller.measured_again(attentive().model(), attentive(), seed=0) is None


def test_some_batches_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smaller, "BATCHES", 2)
    seen: list[int] = []

    def noted(network: nn.Module, batches: Iterable[Any]) -> nn.Module:
        seen.extend(len(targets) for _, targets in batches)
        return network

    monkeypatch.setattr(smaller, "reestimate", noted)
    smaller.measured_again(normed().model(), normed(), seed=0)
    assert seen == [16, 16]
    assert isinstance(normed().train, TensorDataset)


def test_along_a_schedule_recovery_begins_with_the_dense_network(tmp_path: Path) -> None:
    """Its statistics are those of training, and follow the channels that leave."""
    task, spy = normed(), Spy(normed())
    results = work(tmp_path / "run", Recovery("cubic", epochs=1), spy.spied())
    dense = load_file(tmp_path / "run" / "dense.safetensors")
    assert all(torch.equal(value, dense[name]) for name, value in spy.first[1].items())
    assert set(results["accuracy"]) == {"dense", "pruned_only", "reestimated", "fine_tuned"}
    small = sc.restore(tmp_path / "run" / "small.safetensors", task.model())
    assert evaluate(small, task) == results["accuracy"]["fine_tuned"]
