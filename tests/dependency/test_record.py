"""A record holds all that a forward pass does: run again, it gives the same bits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import secateur as sc
from secateur.dependency import Record, record, references, replay
from secateur.tasks.networks import lenet_5, mobilenet_v1, resnet_20
from tests.nets import Tied
from tests.runs import bits


@dataclass
class Answer:
    """What a model of language may return."""

    logits: Tensor
    extra: dict[str, Any]


class Everything(nn.Module):
    """In-place changes, constants, a counted buffer, positions, a mask, a dataclass."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 10)
        self.scale = torch.tensor(0.5)  # held, and no buffer
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, tokens: Tensor) -> Answer:
        self.calls.add_(1)
        length = tokens.shape[1]
        x = self.embedding(tokens)
        x[:, :1] = x[:, -1:] * self.scale
        x += torch.arange(length, device=x.device).float()[:, None] / 10
        mask = torch.full((length, length), float("-inf"), device=x.device).triu(1)
        y, _ = self.attention(x, x, x, attn_mask=mask, need_weights=False)
        x = self.norm(x + functional.gelu(y))
        return Answer(self.head(x), {"hidden": (x,)})


class Looks(nn.Module):
    """Looks at what it computed, so that it cannot be recorded without values."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return torch.relu(y) if float(y.sum()) > -1e9 else torch.tanh(y)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lenet": (lenet_5, (2, 1, 28, 28)),
    "resnet": (resnet_20, (2, 1, 28, 28)),
    "mobilenet": (mobilenet_v1, (2, 1, 28, 28)),
    "tied": (Tied, (2, 4)),
    "everything": (Everything, (2, 5)),
    "transformer layer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8)),
    "looks": (Looks, (2, 3)),
}


ATTENTION = ("everything", "transformer layer")


def made(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A model with random weights and statistics, in eval mode, and inputs."""
    network, shape = MODELS[name]
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network().eval()
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    if name == "everything":
        return model, torch.randint(10, shape, generator=generator)
    return model, torch.randn(shape, generator=generator)


def doubled(model: nn.Module, inputs: Tensor) -> tuple[nn.Module, Tensor]:
    return model.double(), inputs.double() if inputs.is_floating_point() else inputs


def outputs_of(model: nn.Module, inputs: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        found = model(inputs)
    return (found.logits, *found.extra["hidden"]) if isinstance(found, Answer) else (found,)


def without_looking(names: Any) -> list[tuple[str, bool]]:
    return [(name, compute) for name in names for compute in (False, True) if compute or name != "looks"]


@pytest.mark.parametrize(("name", "compute"), without_looking(MODELS))
def test_a_record_run_again_gives_the_same(name: str, compute: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded with some weights and inputs, replayed with others.

    The same bits, but where attention is recorded without computing: torch then takes its parts and not one operation.
    """
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)
    (model, example), (other, inputs) = (doubled(*made(name, seed)) for seed in (0, 1))
    found = record(model, example, compute=compute)
    state = {**dict(other.named_parameters()), **dict(other.named_buffers())}
    before = bits(state)
    again = replay(found, state, (inputs,))
    assert bits(state) == before
    expected = outputs_of(other, inputs)
    assert len(again) == len(expected)
    for one, two in zip(again, expected, strict=True):
        if compute or name not in ATTENTION:
            assert torch.equal(one, two)
        # numbers below 100 after some hundred roundings each, in double precision
        torch.testing.assert_close(one, two, rtol=0, atol=100 * 1000 * 2**-53)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in (*ATTENTION, "looks")])
def test_with_and_without_computing_the_same_is_recorded(name: str) -> None:
    """But for the statistics that batch norm returns beside its output, which nothing reads in eval mode."""
    one, two = (record(*made(name), compute=compute) for compute in (False, True))
    assert one.outputs == two.outputs
    for first, second in zip(one.calls, two.calls, strict=True):
        assert (first.op, first.module, first.line, first.results) == (
            second.op,
            second.module,
            second.line,
            second.results,
        )
        for number in first.results[:1]:
            assert number is not None
            assert one.values[number] == two.values[number]


@pytest.mark.parametrize("name", MODELS)
def test_values_are_made_once_and_before_they_are_used(name: str) -> None:
    found = record(*made(name))
    known = set(found.numbers("parameter", "buffer", "input", "constant"))
    for call in found.calls:
        assert set(references(call)) <= known
        for number in call.results:
            if number is not None:
                assert number not in known
                known.add(number)
    assert known == set(range(len(found.values)))
    assert set(found.outputs) <= known


def described(module: nn.Module) -> list[tuple[str, Any]]:
    """Attributes with their types, and those of what a tuple or list holds."""
    return sorted(
        (name, [type(value), *(map(type, value) if isinstance(value, tuple | list) else ())])
        for name, value in vars(module).items()
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("compute", [None, True])
def test_nothing_is_left_behind(name: str, compute: bool | None) -> None:
    model, example = made(name)
    model.train()
    next(model.children(), model).eval()
    given = copy.deepcopy(example)
    before = bits(model.state_dict())
    modes = [module.training for module in model.modules()]
    attributes = [described(module) for module in model.modules()]
    draws, fast = torch.get_rng_state(), torch.backends.mha.get_fastpath_enabled()
    record(model, example, compute=compute)
    assert bits(model.state_dict()) == before
    assert [module.training for module in model.modules()] == modes
    assert [described(module) for module in model.modules()] == attributes
    assert torch.equal(torch.get_rng_state(), draws)
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert torch.equal(example, given)
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_a_tied_weight_is_one_value_with_both_names() -> None:
    found = record(*made("tied"))
    names = [found.values[number].names for number in found.numbers("parameter")]
    assert names == [("first.weight", "second.weight"), ("first.bias",), ("second.bias",)]


def test_calls_say_where_they_come_from() -> None:
    found = record(*made("everything"))
    modules = {str(call.op): call.module for call in found.calls}
    assert modules["aten.embedding.default"] == "embedding"
    assert modules["aten.native_layer_norm.default"] == "norm"
    assert modules["aten.arange.default"] == ""
    counted = next(call for call in found.calls if str(call.op).startswith("aten.add_"))
    file, _, line = counted.line.rpartition(":")
    assert file == __file__
    assert Path(__file__).read_text().splitlines()[int(line) - 1].strip() == "self.calls.add_(1)"


def test_without_user_code_a_call_has_no_line() -> None:
    found = record(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.zeros(1, 3))
    assert {call.line for call in found.calls} == {""}


def test_attention_comes_as_its_parts() -> None:
    found = record(*made("transformer layer"))
    assert "aten._transformer_encoder_layer_fwd.default" not in {str(call.op) for call in found.calls}
    assert sum(str(call.op) == "aten.native_layer_norm.default" for call in found.calls) == 2


def test_without_computing_a_large_layer_costs_nothing() -> None:
    """2^40 weights, which no machine computes with."""
    model = nn.Linear(2**20, 2**20, device="meta")
    found = record(model, torch.zeros(1, 2**20), compute=False)
    assert found.values[found.outputs[0]].shape == (1, 2**20)


def test_a_failing_model_is_named_with_the_place() -> None:
    with pytest.raises(sc.ModelError, match=r"Sequential failed on the example, in 1: RuntimeError: .*Give inputs"):
        record(nn.Sequential(nn.Linear(3, 2), nn.Linear(3, 2)), torch.zeros(1, 3))


def test_a_model_without_tensors_in_its_output_is_refused() -> None:
    class Silent(nn.Module):
        def forward(self, x: Tensor) -> str:
            return f"{tuple(x.shape)}"

    with pytest.raises(sc.ModelError, match="returned a str without tensors that can be found"):
        record(Silent(), torch.zeros(1, 3))


class Replaces(nn.Module):
    """Puts what it computes in the place of a buffer, and returns a tensor that no operation touches."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("last", torch.zeros(1, 2))
        self.answer = torch.tensor([42.0])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.last = self.linear(x)
        return self.last, self.answer


@pytest.mark.parametrize("compute", [False, True])
def test_a_replaced_buffer_is_put_back_and_no_output_is_lost(compute: bool) -> None:
    model = Replaces()
    last = model.last
    found = record(model, torch.ones(1, 3), compute=compute)
    assert model.last is last
    assert not last.any()
    assert [found.values[number].source for number in found.outputs] == ["computed", "constant"]
    state = {**dict(model.named_parameters()), "last": last}
    first, second = replay(found, state, (torch.ones(1, 3),))
    assert torch.equal(first, model.linear(torch.ones(1, 3)))
    assert second.item() == 42


def test_a_model_without_values_has_its_buffers_recorded_too() -> None:
    found = record(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).to("meta"), torch.zeros(1, 3), compute=False)
    assert found.values[found.outputs[0]].shape == (1, 2)


def test_replay_refuses_what_does_not_fit() -> None:
    model, example = made("lenet")
    found: Record = record(model, example)
    state = dict(model.named_parameters())
    with pytest.raises(sc.ModelError, match="the record has 1 inputs; given: 2"):
        replay(found, state, (example, example))
    del state["conv1.weight"]
    with pytest.raises(sc.ModelError, match=r"lacks conv1\.weight; expected all parameters and buffers"):
        replay(found, state, (example,))
