import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

import secateur as sc
from secateur import schedules
from secateur.training import History, KeepZeros, finetune, group_lasso, l1, l2, sgd
from tests.small import data, network, pruner, zeros_kept

LOSS = nn.functional.cross_entropy
OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], float], Optimizer]] = {
    "sgd": sgd,
    "adamw": lambda parameters, rate: torch.optim.AdamW(parameters, lr=rate),
}


def batches(seed: int | None = 0) -> DataLoader[Any]:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return DataLoader(TensorDataset(*data()), batch_size=8, shuffle=True, generator=generator)


def with_dropout(seed: int = 0) -> nn.Sequential:
    model = network(seed)
    return nn.Sequential(*list(model)[:-1], nn.Dropout(0.3), model[-1])


class Line(nn.Module):
    """y = w x, w = 0 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.w * x


ONE = [(torch.ones(1), torch.ones(1))]


@pytest.mark.parametrize(("divide_by", "rate"), [(10, 0.05), (100, 0.005), (1, 0.5)])
def test_the_rate_is_the_original_over_divide_by(divide_by: float, rate: float) -> None:
    model = Line()
    finetune(
        model, ONE, lambda y, _: -y.sum(), learning_rate=0.5, divide_by=divide_by, epochs=1, optimizer=torch.optim.SGD
    )
    assert model.w.item() == pytest.approx(rate, rel=1e-6)


def test_the_rate_follows_half_a_cosine() -> None:
    weights = []
    model = Line()
    finetune(
        model,
        ONE,
        lambda y, _: -y.sum(),
        learning_rate=1,
        divide_by=1,
        anneal=True,
        epochs=4,
        optimizer=torch.optim.SGD,
        on_epoch=lambda _: weights.append(model.w.item()),
    )
    rates = [b - a for a, b in zip([0.0, *weights], weights, strict=False)]
    assert rates == pytest.approx([(1 + math.cos(math.pi * e / 4)) / 2 for e in range(4)], rel=1e-5)


class Settles:
    """A hook that settles after so many steps and does nothing."""

    plan = None

    def __init__(self, after: int) -> None:
        self.after, self.count = after, 0

    @property
    def settled(self) -> bool:
        return self.count >= self.after

    def observe(self) -> None:
        """Nothing."""

    def step(self) -> None:
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


@pytest.mark.parametrize(("after", "best"), [(0, 0), (2, 2), (9, None)])
def test_only_epochs_at_the_final_sparsity_can_be_the_best(after: int, best: int | None) -> None:
    results = iter([0.9, 0.1, 0.5, 0.4])
    weights = []
    model = Line()
    history = finetune(
        model,
        ONE,
        lambda y, _: -y.sum(),
        learning_rate=1,
        epochs=4,
        hook=Settles(after),
        validate=lambda _: next(results),
        on_epoch=lambda _: weights.append(model.w.item()),
    )
    assert history.best_epoch == best
    assert history.validation == (0.9, 0.1, 0.5, 0.4)
    assert model.w.item() == weights[-1 if best is None else best]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_a_plan_is_held(name: str, autocast: torch.dtype | None) -> None:
    model = network()
    plan = pruner().plan(model, sc.Budget(sparsity=0.7))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    history = finetune(
        model, batches(), LOSS, learning_rate=0.5, epochs=3, plan=plan, optimizer=OPTIMIZERS[name], autocast=autocast
    )
    assert zeros_kept(model, plan)
    assert len(history.losses) == 3
    kept = plan.masks()["6.weight"]
    assert not torch.equal(model.get_parameter("6.weight")[kept], before["6.weight"][kept])


def test_a_held_plan_is_keep_zeros_by_hand() -> None:
    plan = pruner().plan(network(), sc.Budget(sparsity=0.7))
    one, two = network(), network()
    finetune(one, batches(), LOSS, learning_rate=0.1, epochs=2, plan=plan)
    held, optimizer = KeepZeros(two, plan), sgd(list(two.parameters()), 0.01)
    loader = batches()
    for _ in range(2):
        for inputs, labels in loader:
            optimizer.zero_grad()
            LOSS(two(inputs), labels).backward()
            held.observe()
            optimizer.step()
            held.step()
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


class Stop(Exception):  # noqa: N818
    """Raised by a test to end a run early."""


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("after", [1, 2, 4])
def test_going_on_is_never_having_stopped(
    tmp_path: Path, name: str, hooked: bool, seed: int | None, after: int
) -> None:
    def run(model: nn.Module, stop: int | None, *, checkpoint: Path | None, resume: bool = False) -> History:
        hook = None
        if hooked:
            hook = sc.GradualPruning(model, pruner(), sc.Budget(sparsity=0.6), schedules.cubic(1, 10, 2))

        def on_epoch(history: History) -> None:
            if stop is not None and len(history.losses) == stop + 1:
                raise Stop

        return finetune(
            model,
            batches(seed),
            LOSS,
            learning_rate=0.5,
            anneal=True,
            epochs=5,
            optimizer=OPTIMIZERS[name],
            hook=hook,
            validate=lambda trained: -float(LOSS(trained(data()[0]), data()[1])),
            checkpoint=checkpoint,
            resume=resume,
            on_epoch=on_epoch,
        )

    torch.manual_seed(5)
    whole = with_dropout()
    torch.manual_seed(6)
    history = run(whole, None, checkpoint=None)
    path = tmp_path / "run.safetensors"
    first = with_dropout()
    torch.manual_seed(6)
    with pytest.raises(Stop):
        run(first, after, checkpoint=path)
    again = with_dropout(seed=8)
    torch.manual_seed(7)
    assert run(again, None, checkpoint=path, resume=True) == history
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


def test_ctrl_c_passes_through_and_leaves_the_last_full_epoch(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    calls = []

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 8:  # the second batch of the third epoch of three batches each
            raise KeyboardInterrupt
        return LOSS(outputs, labels)

    with pytest.raises(KeyboardInterrupt):
        finetune(network(), batches(), loss, learning_rate=0.1, epochs=5, checkpoint=path)
    history = finetune(network(), batches(), LOSS, learning_rate=0.1, epochs=2, checkpoint=path, resume=True)
    assert len(history.losses) == 2


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    finetune(network(), batches(), LOSS, learning_rate=0.1, epochs=1, checkpoint=path)
    with pytest.raises(sc.RunError, match="does not fit this run"):
        finetune(Line(), ONE, lambda y, _: y.sum(), learning_rate=0.1, epochs=2, checkpoint=path, resume=True)


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(sc.RunError, match=r"the loss is nan in epoch 1 of 1, step 1"):
        finetune(Line(), ONE, lambda y, _: y.sum() * math.nan, learning_rate=0.1, epochs=1)
    with pytest.raises(sc.DataError, match="there were no batches"):
        finetune(Line(), [], lambda y, _: y.sum(), learning_rate=0.1, epochs=1)

    def once() -> Iterator[Any]:
        yield from ONE

    with pytest.raises(sc.DataError, match="a generator, which can be used only once"):
        finetune(Line(), once(), lambda y, _: y.sum(), learning_rate=0.1, epochs=2)
    with pytest.raises(sc.ModelError, match="no parameter that requires a gradient"):
        finetune(nn.ReLU(), ONE, lambda y, _: y.sum(), learning_rate=0.1, epochs=1)
    with pytest.raises(sc.RunError, match="learning_rate"):
        finetune(Line(), ONE, lambda y, _: y.sum(), learning_rate=0, epochs=1)
    plan = pruner().plan(network(), sc.Budget(sparsity=0.5))
    with pytest.raises(sc.RunError, match="plan and hook were both given"):
        finetune(network(), batches(), LOSS, learning_rate=0.1, epochs=1, plan=plan, hook=Settles(0))
    with pytest.raises(sc.RunError, match="there is no checkpoint"):
        finetune(Line(), ONE, lambda y, _: y.sum(), learning_rate=0.1, epochs=1, resume=True)


def test_accumulated_batches_are_one_large_batch() -> None:
    inputs, labels = data()
    one, two = network().double(), network().double()
    inputs = inputs.double()
    parts = [(inputs[at : at + 6], labels[at : at + 6]) for at in range(0, 24, 6)]
    finetune(one, [(inputs, labels)], LOSS, learning_rate=0.1, epochs=1)
    finetune(two, parts, LOSS, learning_rate=0.1, epochs=1, accumulate=4)
    for name, value in one.state_dict().items():
        # Sums of 24 terms of at most 1 in another order: 24 roundings of 2^-53 each, times a rate of 0.01.
        assert float((value - two.state_dict()[name]).abs().max()) < 24 * 2**-53


def test_batches_left_over_still_make_a_step() -> None:
    model = Line()
    three = [(torch.ones(1), torch.ones(1))] * 3
    finetune(
        model,
        three,
        lambda y, _: -y.sum(),
        learning_rate=1,
        divide_by=1,
        epochs=1,
        accumulate=2,
        optimizer=torch.optim.SGD,
    )
    assert model.w.item() == 2.0


def test_every_module_is_in_its_own_mode_afterwards() -> None:
    model = with_dropout()
    model.train()
    model[0].eval()
    finetune(model, batches(), LOSS, learning_rate=0.1, epochs=1)
    assert model.training
    assert not model[0].training


@pytest.mark.parametrize("make", [l1, l2])
def test_penalties_count_every_weight_once(make: Callable[[float], Callable[[nn.Module], Tensor]]) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    model[2].weight = model[0].weight
    weights = model[0].weight
    expected = weights.abs().sum() if make is l1 else weights.square().sum()
    assert torch.allclose(make(0.3)(model), 0.3 * expected)


def test_group_lasso_has_the_right_slope_and_none_at_zero() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(3, 3)).double()
    penalty = group_lasso(0.5, sc.granularity.filter()(model))
    value = penalty(model)
    rows = [model[0].weight.flatten(1), model[2].weight]
    expected = sum(0.5 * math.sqrt(row.shape[1]) * row.norm(dim=1).sum() for row in rows)
    assert torch.allclose(value, torch.as_tensor(expected))
    model[0].weight.data[1] = 0
    penalty(model).backward()
    gradient = model[0].weight.grad
    assert gradient is not None
    assert bool(torch.isfinite(gradient).all())
    assert not bool(gradient[1].any())
    slope = 0.5 * math.sqrt(8) * model[0].weight[0] / model[0].weight[0].norm()
    assert torch.allclose(gradient[0], slope)


def test_penalties_refuse_what_makes_no_sense() -> None:
    with pytest.raises(sc.RunError, match="strength"):
        l1(-1)
    with pytest.raises(sc.ModelError, match="no linear or convolution layer"):
        l2(1)(nn.ReLU())
    units = sc.granularity.filter()(nn.Linear(2, 2))
    with pytest.raises(sc.PlanError, match="has no parameter"):
        group_lasso(1, units)(network())
