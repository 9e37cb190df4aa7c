"""Groups of batches, devices, how a model is called, and modes."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from secateur.batches import call, device_of, grouped, mode, samples_in, to_device

META = torch.device("meta")


class Sample(NamedTuple):
    image: Tensor
    name: str


class Named(nn.Module):
    """Takes its inputs by name, and says which came."""

    def forward(self, *args: Any, **named: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, named


@given(items=st.lists(st.integers(), max_size=30), size=st.integers(1, 7))
def test_groups_hold_everything_in_order_and_only_the_last_is_short(items: list[int], size: int) -> None:
    groups = list(grouped(iter(items), size))
    assert [item for group in groups for item in group] == items
    assert all(len(group) == size for group in groups[:-1])
    assert all(1 <= len(group) <= size for group in groups)


def test_a_group_is_made_when_it_is_asked_for() -> None:
    drawn = []

    def source() -> Iterator[int]:
        for number in range(10):
            drawn.append(number)
            yield number

    assert next(grouped(source(), 3)) == [0, 1, 2]
    assert drawn == [0, 1, 2]


def test_the_device_is_that_of_the_first_parameter() -> None:
    assert device_of(nn.Linear(2, 2, device="meta")) == META
    assert device_of(nn.Linear(2, 2)) == torch.device("cpu")
    assert device_of(nn.ReLU()) == torch.device("cpu")


def test_tensors_move_wherever_they_are() -> None:
    tensor, other = torch.ones(2), object()
    value = {"a": [tensor, (tensor, 3)], "b": Sample(tensor, "cat"), 7: other, "none": None}
    moved = to_device(value, META)
    assert [moved["a"][0].device, moved["a"][1][0].device, moved["b"].image.device] == [META] * 3
    assert type(moved["a"]) is list
    assert type(moved["a"][1]) is tuple
    assert type(moved["b"]) is Sample
    assert moved["b"].name == "cat"
    assert moved["a"][1][1] == 3
    assert moved[7] is other
    assert moved["none"] is None
    assert tensor.device == torch.device("cpu")


def test_a_tensor_that_is_there_already_is_not_copied() -> None:
    tensor = torch.ones(2)
    assert to_device([tensor], torch.device("cpu"))[0] is tensor


def test_a_packed_sequence_stays_one() -> None:
    packed = pack_sequence([torch.ones(3, 2), torch.ones(1, 2)])
    moved = to_device(packed, META)
    assert isinstance(moved, PackedSequence)
    assert moved.data.device == META
    assert moved.batch_sizes.device == torch.device("cpu")  # torch wants it there


@pytest.mark.parametrize(
    ("inputs", "args", "named"),
    [
        (3, (3,), {}),
        ((3, 4), (3, 4), {}),
        ([3, 4], (3, 4), {}),
        ({"x": 3, "y": 4}, (), {"x": 3, "y": 4}),
    ],
)
def test_a_model_is_called_as_its_inputs_say(inputs: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    assert call(Named(), inputs) == (args, named)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x, 1), lambda x: [x], lambda x: {"a": (x,), "b": 2}])
def test_samples_are_counted_in_the_first_tensor(wrap: Any) -> None:
    assert samples_in(wrap(torch.ones(5, 2))) == 5


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_every_module_gets_its_own_mode_back(training: bool, error: type[BaseException] | None) -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.Dropout(), nn.Linear(2, 2)))
    model[0].eval()
    model[1][0].eval()
    before = [module.training for module in model.modules()]
    assert len(set(before)) == 2

    def inside() -> None:
        with mode(model, training=training):
            assert [module.training for module in model.modules()] == [training] * 5
            if error is not None:
                raise error

    if error is None:
        inside()
    else:
        with pytest.raises(error):
            inside()
    assert [module.training for module in model.modules()] == before
