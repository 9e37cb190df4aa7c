"""Every way to recover does what it says: rates, first weights, zeros, teachers, precision."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import secateur as sc
from secateur.tasks import Task, loader, seeded, train
from secateur.training import adjusted_dropout, bn_l1, distill, finetune, l1, l2, sgd, undecayed
from secateur.weights import save_weights
from secateur.workflow import Dense, Numerics, Recovery, open_run, prune_task
from tests.runs import bits
from tests.small import pruner, same_masks
from tests.tiny import augmented, normed, tiny
from tests.workflow.spying import LEFT, STEPS, Spy, job, masked, measured, run


def dense_states(task: Task, epochs: int) -> list[dict[str, Tensor]]:
    """Weights before the first epoch of dense training and after each."""
    with seeded(0):
        states = [copy.deepcopy(task.model().state_dict())]

    def validate(model: nn.Module) -> float:
        states.append(copy.deepcopy(model.state_dict()))
        return 0.0

    train(task, seed=0, epochs=epochs, validate=validate, progress=False)
    return states


# --------------------------------------------------------------------------------------- rates


@pytest.mark.parametrize("schedule", ["one_shot", "cubic", "linear"])
def test_recovery_is_at_a_constant_fraction_of_the_rate(tmp_path: Path, schedule: str) -> None:
    spy = Spy(tiny())
    run(tmp_path / "run", job(Recovery(schedule, epochs=2, divide_by=4)), spy.spied())
    assert spy.rates[1] == [0.1 / 4] * (2 * STEPS)


@pytest.mark.parametrize("schedule", ["one_shot", "cubic", "linear"])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_rewound_rate_is_that_of_the_last_epochs_of_dense_training(
    tmp_path: Path, schedule: str, epochs: int
) -> None:
    """Times are quarters of an epoch, so sums of them are exact, and so are equal rates."""
    spy = Spy(replace(tiny(), warm_up=1))
    run(tmp_path / "run", job(Recovery(schedule, epochs=epochs, rewind="rate")), spy.spied())
    dense, recovery = spy.rates
    assert len(set(dense)) == len(dense) == 3 * STEPS
    assert recovery == dense[-epochs * STEPS :]


def test_rounds_are_each_trained_at_the_rewound_rate(tmp_path: Path) -> None:
    spy = Spy(tiny())
    run(tmp_path / "run", job(Recovery("iterative", (0.4, 0.8), epochs=2, rewind="rate")), spy.spied())
    dense, *rounds = spy.rates
    assert rounds == [dense[-2 * STEPS :]] * 2


# ----------------------------------------------------------------------------------- first weights


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_rewound_weights_are_those_of_dense_training_so_many_epochs_before_its_end(tmp_path: Path, epochs: int) -> None:
    spy, states = Spy(tiny()), dense_states(tiny(), 3)
    assert len({str(bits(state)) for state in states}) == 4
    run(tmp_path / "run", job(Recovery(epochs=epochs, rewind="weights")), spy.spied())
    early = load_file(tmp_path / "run" / "early.safetensors")
    assert bits(early) == bits(states[3 - epochs])
    plan = sc.Plan.load(tmp_path / "run" / "plan.safetensors")
    assert bits(spy.first[1]) == masked(early, plan)
    assert spy.rates[1] == spy.rates[0][-epochs * STEPS :]


@pytest.mark.parametrize("rewind", ["", "rate"])
def test_without_rewound_weights_recovery_begins_with_the_dense_ones(tmp_path: Path, rewind: Any) -> None:
    spy = Spy(tiny())
    run(tmp_path / "run", job(Recovery(epochs=1, rewind=rewind)), spy.spied())
    dense = load_file(tmp_path / "run" / "dense.safetensors")
    assert bits(spy.first[1]) == masked(dense, sc.Plan.load(tmp_path / "run" / "plan.safetensors"))
    assert not (tmp_path / "run" / "early.safetensors").exists()


def test_values_that_a_plan_mended_begin_recovery_unless_weights_are_rewound(tmp_path: Path) -> None:
    def refit(model: nn.Module, _plan: sc.Plan, _data: Any) -> dict[str, Tensor]:
        return {"5.bias": torch.full((2,), 3.0)}

    first = {}
    for name, rewind in (("rate", "rate"), ("weights", "weights")):
        spy = Spy(tiny())
        asked = job(Recovery(epochs=1, rewind=rewind))  # type: ignore[arg-type]
        run(tmp_path / name, replace(asked, pruner=replace(asked.pruner, refit=refit)), spy.spied())
        first[name] = spy.first[1]["5.bias"]
    assert first["rate"].tolist() == [3, 3]
    assert torch.equal(first["weights"], load_file(tmp_path / "weights" / "early.safetensors")["5.bias"])


# -------------------------------------------------------------------------------------- rounds


def most_negative_first() -> sc.Criterion:
    """Weights that were removed, now zero, would be among the last to go if a plan began anew."""
    return sc.criteria.elementwise(lambda w: -w.abs(), name="largest first", needs=())


@pytest.mark.parametrize("rewind", ["rate", "weights"])
def test_rounds_remove_more_and_more_and_give_nothing_back(tmp_path: Path, rewind: Any) -> None:
    spy, levels = Spy(tiny()), (0.3, 0.5, 0.8)
    recovery = Recovery("iterative", levels, epochs=1, rewind=rewind)
    results = run(tmp_path / "run", job(recovery, most_negative_first()), spy.spied())
    plan = sc.Plan.load(tmp_path / "run" / "plan.safetensors")
    _, *rounds = ({name: w != 0 for name, w in first.items() if name in plan.masks()} for first in spy.first)
    total = sum(mask.numel() for mask in rounds[0].values())
    for level, masks in zip(levels, rounds, strict=True):
        assert sum(int((~mask).sum()) for mask in masks.values()) == round(level * total)
    for before, after in [*pairwise(rounds), (rounds[-1], plan.masks())]:
        assert not any(bool((after[name] & ~before[name]).any()) for name in after)
    assert bits(rounds[-1]) == bits(plan.masks())
    left = load_file(tmp_path / "run" / "weights.safetensors")
    assert not any(bool(left[name][~mask].any()) for name, mask in plan.masks().items())
    assert len(results["history"]["losses"]) == 3
    assert results["history"]["sparsity"] == pytest.approx(levels, abs=0.5 / total)
    assert results["history"]["sparsity"][-1] == plan.sparsity


def test_every_round_of_rewound_weights_begins_with_the_early_ones(tmp_path: Path) -> None:
    spy = Spy(tiny())
    run(tmp_path / "run", job(Recovery("iterative", (0.4, 0.8), epochs=1, rewind="weights")), spy.spied())
    early = load_file(tmp_path / "run" / "early.safetensors")
    for first in spy.first[1:]:
        for name, w in first.items():
            assert torch.equal(w, torch.where(w == 0, 0, early[name]))
    assert bits(spy.first[2]) == masked(early, sc.Plan.load(tmp_path / "run" / "plan.safetensors"))


def test_a_round_of_rewound_rates_begins_with_the_weights_that_the_round_before_left(tmp_path: Path) -> None:
    spy = Spy(tiny())
    run(tmp_path / "two", job(Recovery("iterative", (0.4, 0.8), epochs=1, rewind="rate")), spy.spied())
    run(tmp_path / "one", job(Recovery("iterative", (0.4,), epochs=1, rewind="rate")))
    left = load_file(tmp_path / "one" / "weights.safetensors")
    assert bits(spy.first[2]) == masked(left, sc.Plan.load(tmp_path / "two" / "plan.safetensors"))


@pytest.mark.parametrize("rewind", ["rate", "weights"])
def test_a_round_ranks_the_weights_that_the_round_before_trained(tmp_path: Path, rewind: Any) -> None:
    """Pruned half of the way and trained again, the network ranks its weights in another order than the dense one."""
    for name, levels in (("one", (0.4,)), ("two", (0.4, 0.8))):
        run(tmp_path / name, job(Recovery("iterative", levels, epochs=2, rewind=rewind)))
    first, second = (sc.Plan.load(tmp_path / name / "plan.safetensors") for name in ("one", "two"))
    plans = []
    for file in ("weights.safetensors", "dense.safetensors"):
        model = tiny().model()
        model.load_state_dict(load_file(tmp_path / "one" / file))
        plans.append(pruner().plan(model, sc.Budget(sparsity=0.8), start=first))
    assert same_masks(second, plans[0])
    assert not same_masks(second, plans[1])


# ----------------------------------------------------------------------------------- distillation


def test_distillation_is_that_of_the_dense_network_on_the_augmented_images(tmp_path: Path) -> None:
    task = augmented()
    asked = job(Recovery(epochs=2, distill=0.5, temperature=2))
    run(tmp_path / "run", asked, task)
    teacher = task.model()
    teacher.load_state_dict(load_file(tmp_path / "run" / "dense.safetensors"))
    model = copy.deepcopy(teacher)
    taught, loss = distill(teacher, loader(task, seed=0), task.loss, weight=0.5, temperature=2)
    plan = sc.Plan.load(tmp_path / "run" / "plan.safetensors")
    states: list[Any] = []

    def validate(trained: nn.Module) -> float:
        states.append(bits(trained.state_dict()))
        return 0.0

    finetune(model, taught, loss, learning_rate=task.learning_rate, epochs=2, plan=plan, validate=validate)
    assert bits(load_file(tmp_path / "run" / "weights.safetensors")) in states


def test_distillation_changes_what_comes_out_and_gives_the_same_again(tmp_path: Path) -> None:
    asked = {
        "plain": Recovery(epochs=1),
        "taught": Recovery(epochs=1, distill=0.5),
        "taught more": Recovery(epochs=1, distill=1),
        "taught softly": Recovery(epochs=1, distill=0.5, temperature=8),
    }
    losses = {}
    for name, recovery in asked.items():
        results = run(tmp_path / name, job(recovery))
        assert measured(run(tmp_path / f"{name} again", job(recovery))) == measured(results)
        for file in LEFT:
            assert (tmp_path / name / file).read_bytes() == (tmp_path / f"{name} again" / file).read_bytes()
        losses[name] = tuple(results["history"]["losses"])
    assert len(set(losses.values())) == len(asked)


# ---------------------------------------------------------------------------------------- dropout


def with_dropout() -> Task:
    def network() -> nn.Module:
        layers = list(tiny().model().children())
        return nn.Sequential(*layers[:-1], nn.Dropout(0.5), layers[-1])

    return replace(tiny(), model=network)


def test_dropout_is_that_of_the_connections_left(tmp_path: Path) -> None:
    task, found = with_dropout(), {}
    for name, adjust in (("as it was", False), ("adjusted", True)):
        results = run(tmp_path / name, job(Recovery(epochs=1, adjust_dropout=adjust)), task)
        found[name] = results["history"]["losses"]
    model = task.model()
    model.load_state_dict(load_file(tmp_path / "adjusted" / "dense.safetensors"))
    plan = sc.Plan.load(tmp_path / "adjusted" / "plan.safetensors")
    with seeded(0), adjusted_dropout(model, plan, task.example) as rates:
        history = finetune(
            model, loader(task, seed=0), task.loss, learning_rate=task.learning_rate, epochs=1, plan=plan
        )
    assert all(rate < 0.5 for rate in rates.values())
    assert list(history.losses) == found["adjusted"] != found["as it was"]


# ------------------------------------------------------------------------------- the dense network


def test_weights_of_a_file_are_taken_and_nothing_trained(tmp_path: Path) -> None:
    model, _ = train(tiny(), seed=5, epochs=1, progress=False)
    save_weights(model, tmp_path / "given.safetensors")
    spy = Spy(tiny())
    said: list[str] = []
    asked = job(Recovery(epochs=1), dense=Dense(weights=tmp_path / "given.safetensors"))
    folder = open_run(tmp_path / "run", {}, resume=False)
    prune_task(spy.spied(), asked, folder, say=said.append, progress=False)
    assert bits(load_file(tmp_path / "run" / "dense.safetensors")) == bits(dict(model.state_dict()))
    assert len(spy.first) == 1
    assert bits(spy.first[0]) == masked(dict(model.state_dict()), sc.Plan.load(tmp_path / "run" / "plan.safetensors"))
    assert not (tmp_path / "run" / "states" / "dense.safetensors").exists()
    assert said[0] == f"dense weights from {tmp_path}/given.safetensors"


def test_weights_of_a_file_can_be_trained_at_rewound_rates(tmp_path: Path) -> None:
    save_weights(tiny().model(), tmp_path / "given.safetensors")
    spy, trained = Spy(tiny()), Spy(tiny())
    recovery = Recovery(epochs=2, rewind="rate")
    run(tmp_path / "a", job(recovery, dense=Dense(4, tmp_path / "given.safetensors")), spy.spied())
    run(tmp_path / "b", job(recovery, dense=Dense(4)), trained.spied())
    assert spy.rates == [trained.rates[1]]


@pytest.mark.parametrize("penalty", [l1(1e-3), l2(1e-3)])
def test_a_penalty_takes_the_place_of_weight_decay_in_dense_training_alone(tmp_path: Path, penalty: Any) -> None:
    spy = Spy(tiny())
    run(tmp_path / "run", job(Recovery(epochs=1), dense=Dense(2, regularizer=penalty)), spy.spied())
    assert spy.decays == [0, 5e-4]
    model, _ = train(tiny(), seed=0, epochs=2, progress=False, regularizer=penalty, optimizer=undecayed(sgd))
    assert bits(load_file(tmp_path / "run" / "dense.safetensors")) == bits(dict(model.state_dict()))
    plain, _ = train(tiny(), seed=0, epochs=2, progress=False)
    assert bits(dict(plain.state_dict())) != bits(dict(model.state_dict()))


def test_a_penalty_of_the_scales_of_norms_may_stand_beside_weight_decay(tmp_path: Path) -> None:
    spy, penalty = Spy(normed()), bn_l1(1e-2)
    asked = job(Recovery(epochs=1), dense=Dense(2, regularizer=penalty, decay=True))
    run(tmp_path / "run", asked, spy.spied())
    assert spy.decays == [5e-4, 5e-4]
    model, _ = train(normed(), seed=0, epochs=2, progress=False, regularizer=penalty)
    assert bits(load_file(tmp_path / "run" / "dense.safetensors")) == bits(dict(model.state_dict()))


def test_weights_and_a_penalty_of_their_training_exclude_one_another() -> None:
    with pytest.raises(sc.RunError, match=r"l1\(0\.1\) penalises .* weights of w\.st replace: leave out --reg"):
        Dense(weights=Path("w.st"), regularizer=l1(0.1))


# -------------------------------------------------------------------------------------- numerics


@pytest.mark.parametrize("recovery", [Recovery(epochs=1), Recovery("cubic", epochs=2), Recovery(epochs=1, distill=0.5)])
def test_batches_are_accumulated_in_dense_training_and_in_recovery(tmp_path: Path, recovery: Recovery) -> None:
    spy = Spy(tiny())
    asked = job(recovery, numerics=Numerics(accumulate=3))
    results = run(tmp_path / "run", asked, spy.spied())
    per_epoch = 2  # three batches, and the one left over
    assert [len(rates) for rates in spy.rates] == [3 * per_epoch, recovery.epochs * per_epoch]
    assert results["sparsity"] == pytest.approx(0.8, abs=1 / results["weights_total"])


@pytest.mark.parametrize("schedule", ["one_shot", "cubic"])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_the_precision_is_passed_on_to_training(tmp_path: Path, schedule: str, autocast: torch.dtype | None) -> None:
    spy = Spy(tiny())
    run(tmp_path / "run", job(Recovery(schedule, epochs=1), numerics=Numerics(autocast=autocast)), spy.spied())
    assert spy.kinds == [{autocast or torch.float32}] * 2
    assert load_file(tmp_path / "run" / "weights.safetensors")["0.weight"].dtype is torch.float32


def test_the_precision_is_passed_on_to_the_teacher(tmp_path: Path) -> None:
    kinds: list[tuple[bool, torch.dtype]] = []

    def model() -> nn.Module:
        made = tiny().model()
        made.register_forward_hook(lambda module, _, out: kinds.append((torch.is_grad_enabled(), out.dtype)))
        return made

    asked = job(Recovery(epochs=1, distill=0.5), dense=Dense(1), numerics=Numerics(autocast=torch.bfloat16))
    run(tmp_path / "run", asked, replace(tiny(), model=model))
    # in recovery, a forward pass of the teacher before each of the network's; what is measured is in full precision
    pairs = list(pairwise(kinds))
    assert pairs.count(((False, torch.bfloat16), (True, torch.bfloat16))) == STEPS
    assert (False, torch.float32) in kinds
    assert (True, torch.float32) not in kinds


def test_device_is_passed_on(tmp_path: Path) -> None:
    """To every `to` of a model: there is but one device that a test can count on."""
    asked: list[Any] = []

    class Noted(nn.Linear):
        def to(self, *where: Any, **_: Any) -> Noted:
            asked.extend(where)
            return self

    def model() -> nn.Module:
        return Noted(36, 2)

    task = replace(tiny(), model=model)
    flat = {name: _flat(getattr(task, name)) for name in ("train", "validation", "test")}
    recovery = Recovery(epochs=1, rewind="weights")
    run(tmp_path / "run", job(recovery, numerics=Numerics(device="cpu:0")), replace(task, **flat))
    save_weights(model(), tmp_path / "given.safetensors")
    given = Dense(weights=tmp_path / "given.safetensors")
    run(tmp_path / "two", job(Recovery(epochs=1), dense=given, numerics=Numerics("cpu:0")), replace(task, **flat))
    assert asked == ["cpu:0"] * 3  # the dense network, the early one, the one of the file


def _flat(data: Any) -> Any:
    images, labels = data.tensors
    return torch.utils.data.TensorDataset(images.flatten(1), labels)
