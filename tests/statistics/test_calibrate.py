"""`calibrate` leaves the model as it was, whatever happens, and says what is wrong with the data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import secateur as sc
from secateur import granularity
from secateur.errors import DataError, UnknownNameError
from secateur.statistics import COLLECTORS, Batch

NEEDS = ["gradient", "input_norm", "zeros"]
OF_UNITS = {"taylor_groups", "taylor_gates"}


class Fragile(nn.Module):
    """Batch norm, a rectifier, dropout, and a wish to fail at a given run, of which the first is for the record."""

    def __init__(self, fails_at: int = -1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.drop, self.fc = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Linear(4, 3)
        self.fails_at, self.calls = fails_at, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.fails_at:
            raise RuntimeError("out of memory")
        return torch.as_tensor(self.fc(self.drop(self.norm(self.conv(x)).relu().mean((2, 3)))))


def batches(count: int = 3) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        yield torch.randn(4, 1, 5, 5, generator=generator), torch.randint(3, (4,), generator=generator)


def look(model: nn.Module) -> dict[str, Any]:
    """Everything of a model that a calibration could leave changed."""
    return {
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "grads": {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()},
        "requires": {name: p.requires_grad for name, p in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "hooks": {
            f"{name}.{kind}": len(found)
            for name, module in model.named_modules()
            for kind, found in vars(module).items()
            if kind.endswith(("hooks", "hooks_with_kwargs")) and found is not None
        },
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else bool(one == other)


def prepared(fails_at: int = -1) -> Fragile:
    """A model in the midst of training: gradients accumulated, one module in another mode, one parameter fixed."""
    model = Fragile(fails_at)
    model.train()
    model.drop.eval()
    model.fc.bias.requires_grad_(False)
    model.norm.running_mean.fill_(0.5)  # type: ignore[union-attr]
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    return model


def test_the_model_is_left_as_it_was() -> None:
    model = prepared()
    before, random = look(model), torch.get_rng_state()
    assert sc.calibrate(model, batches(), NEEDS, loss=F.cross_entropy).samples == 12
    assert same(before, look(model))
    assert torch.equal(random, torch.get_rng_state())


def _loss_fails(outputs: Tensor, labels: Tensor) -> Tensor:
    raise ValueError("no loss")


def _data_fails() -> Iterator[tuple[Tensor, Tensor]]:
    yield from batches(1)
    raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("fails_at", "data", "loss", "error"),
    [
        (3, batches, F.cross_entropy, RuntimeError),
        (-1, batches, _loss_fails, ValueError),
        (-1, _data_fails, F.cross_entropy, OSError),
        (-1, lambda: iter(()), F.cross_entropy, DataError),
        (-1, lambda: iter([torch.ones(2, 1, 5, 5)]), F.cross_entropy, DataError),
    ],
)
def test_the_model_is_left_as_it_was_also_after_an_error(
    fails_at: int, data: Callable[[], Any], loss: Any, error: type[Exception]
) -> None:
    model = prepared(fails_at)
    before = look(model)
    with pytest.raises(error):
        sc.calibrate(model, data(), NEEDS, loss=loss)
    assert same(before, look(model))


def test_it_runs_in_evaluation_mode() -> None:
    model = Fragile()
    found = sc.calibrate(model, batches(), NEEDS, loss=F.cross_entropy)
    again = sc.calibrate(copy.deepcopy(model).eval(), batches(), NEEDS, loss=F.cross_entropy)
    assert all(torch.equal(value, again.of("gradient", name)) for name, value in found.values["gradient"].items())


@pytest.mark.parametrize("container", [tuple, list])
def test_inputs_that_are_several_are_unpacked(container: Callable[[Any], Any]) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 1)

        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return torch.as_tensor(self.fc(x * scale))

    x, scale = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 2.0]])
    found = sc.calibrate(Two(), [(container((x, scale)), None)], ["input_norm"])
    assert found.of("input_norm", "fc.weight").tolist() == [[3, 4]]
    named = sc.calibrate(Two(), [({"scale": scale, "x": x}, None)], ["input_norm"])
    assert named.of("input_norm", "fc.weight").tolist() == [[3, 4]]


@pytest.mark.parametrize(
    ("batch", "given"),
    [(torch.ones(2, 2), "Tensor"), ((torch.ones(1, 2),), "tuple"), ([1, 2, 3], "list"), ("ab", "str")],
)
def test_batches_are_pairs(batch: Any, given: str) -> None:
    with pytest.raises(DataError, match=rf"a batch is a {given}.* expected a pair"):
        sc.calibrate(nn.Linear(2, 2), [batch], ["input_norm"])


@pytest.mark.parametrize("data", [[], [(torch.ones(0, 2), None)]])
def test_no_data(data: list[Any]) -> None:
    with pytest.raises(DataError, match="held no batch"):
        sc.calibrate(nn.Linear(2, 2), data, ["input_norm"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_data_that_is_not_finite_is_told_with_the_parameter(value: float) -> None:
    bad = torch.tensor([[1.0, value]])
    with pytest.raises(DataError, match="'input_norm' of 'weight' is not finite"):
        sc.calibrate(nn.Linear(2, 2), [(bad, None)], ["input_norm"])
    with pytest.raises(DataError, match="'gradient' of 'weight' is not finite"):
        sc.calibrate(nn.Linear(2, 2), [(bad, None)], ["gradient"], loss=lambda outputs, _: outputs.sum())


def test_a_missing_loss_and_an_unknown_statistic() -> None:
    with pytest.raises(DataError, match=r"\['gradient'\] need a loss"):
        sc.calibrate(nn.Linear(2, 2), [(torch.ones(1, 2), None)], ["gradient"])
    with pytest.raises(UnknownNameError, match="no statistic is named 'gradients'; nearest: gradient"):
        sc.calibrate(nn.Linear(2, 2), [], ["gradients"])


@pytest.mark.parametrize("kind", sorted(set(COLLECTORS) - OF_UNITS))
def test_every_statistic_broadcasts_to_its_parameter(kind: str) -> None:
    model = nn.Sequential(Fragile(), nn.ReLU())
    found = sc.calibrate(model, batches(), [kind], loss=F.cross_entropy).values[kind]
    assert {"0.conv.weight", "0.fc.weight"} <= set(found)
    for name, value in found.items():
        parameter = model.get_parameter(name)
        assert torch.broadcast_shapes(value.shape, parameter.shape) == parameter.shape


def test_a_pass_reads_its_data_once_and_needs_are_taken_once() -> None:
    read: list[int] = []

    def counted() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches():
            read.append(1)
            yield batch

    sc.calibrate(Fragile(), counted(), [*NEEDS, *NEEDS], loss=F.cross_entropy)
    assert len(read) == 3


@pytest.mark.parametrize("kind", sorted(OF_UNITS))
def test_every_statistic_of_units_has_one_number_for_each(kind: str) -> None:
    model = Fragile()
    groups = granularity.channel(torch.zeros(1, 1, 5, 5))(model)
    found = sc.calibrate(model, batches(), [kind], loss=F.cross_entropy, units=groups)
    assert found.of_units(kind, "conv").shape == (4,)
    with pytest.raises(DataError, match=r"not seen for the units of 'other'; it was for \['conv', 'fc'\]"):
        found.of_units(kind, "other")


@pytest.mark.parametrize("kind", COLLECTORS)
def test_the_model_is_left_as_it_was_by_every_statistic(kind: str) -> None:
    model = prepared()
    before, random = look(model), torch.get_rng_state()
    sc.calibrate(model, batches(), [kind], loss=F.cross_entropy)
    assert same(before, look(model))
    assert torch.equal(random, torch.get_rng_state())


def test_statistics_taken_together_are_those_taken_alone() -> None:
    """Some run the model once more, and the hooks of others do not count that."""
    together = sc.calibrate(Fragile(), batches(), COLLECTORS, loss=F.cross_entropy)
    for kind in sorted(set(COLLECTORS) - OF_UNITS):
        alone = sc.calibrate(Fragile(), batches(), [kind], loss=F.cross_entropy)
        assert same(dict(alone.values[kind]), dict(together.values[kind]))


def test_a_collector_of_ones_own() -> None:
    class Largest:
        """The largest output."""

        needs_loss = False

        def watch(self, model: nn.Module, groups: Any) -> Any:
            self.found = torch.tensor(-torch.inf)
            return ()

        def batch(self, batch: Batch) -> None:
            self.found = torch.maximum(self.found, batch.outputs.max())

        def result(self) -> sc.Statistics:
            return sc.Statistics({"largest": {"weight": self.found}})

    line = nn.Linear(1, 1, bias=False)
    line.weight.data.fill_(2)
    data = [(torch.tensor([[1.0], [3.0]]), None), (torch.tensor([[2.0]]), None)]
    assert sc.calibrate(line, data, ["largest"], collectors={"largest": Largest}).of("largest", "weight") == 6
