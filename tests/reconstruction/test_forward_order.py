"""Layers come in the order in which data reach them, and a pass sees what the changed layers before put out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.errors import DataError, ModelError, UnknownNameError
from secateur.reconstruction.forward_order import forward_order
from tests.nets import Tied
from tests.reconstruction.language import Block, Decoder, Skipping, prunable

DATA = [torch.tensor([[1, 2, 3, 4]]), torch.tensor([[5, 6, 7, 0], [2, 2, 2, 2]])]


def walked(model: nn.Module, inputs: Any, stages: str | None = "auto", weights: Any = None) -> list[tuple[str, ...]]:
    return [names for names, _ in forward_order(model, weights or prunable(model), inputs, stages)]


def counted(model: nn.Module) -> dict[str, int]:
    """Counts the calls of every module from now on."""
    calls: dict[str, int] = {}

    def count(name: str) -> Callable[..., None]:
        def add(*_: Any) -> None:
            calls[name] = calls.get(name, 0) + 1

        return add

    for name, module in model.named_modules():
        module.register_forward_hook(count(name))
    return calls


def test_projections_of_one_tensor_come_together() -> None:
    steps = walked(Decoder(blocks=1), DATA)
    assert steps == [
        ("blocks.0.q.weight", "blocks.0.k.weight", "blocks.0.v.weight"),
        ("blocks.0.out.weight",),
        ("blocks.0.up.weight",),
        ("blocks.0.down.weight",),
        ("head.weight",),
    ]


def test_the_order_is_that_of_the_data_not_of_the_definition() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Any:
            return self.last(self.first(x))

    assert walked(Backwards(), [torch.zeros(1, 2)]) == [("first.weight",), ("last.weight",)]


def test_a_tensor_written_into_is_another_one() -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Any:
            y = self.one(x)
            x += y
            return self.two(x)

    assert walked(Writing(), [torch.zeros(1, 2)]) == [("one.weight",), ("two.weight",)]


def test_a_pass_runs_one_stage() -> None:
    model = Decoder(blocks=3)
    steps = forward_order(model, prunable(model), DATA)
    run = next(run for names, run in steps if "blocks.1.out.weight" in names)
    assert list(run()) == [1, 2]
    calls = counted(model)
    assert list(run()) == [1, 2]
    ran = {name: number for name, number in calls.items() if "blocks." in name and name.count(".") == 1}
    assert ran == {"blocks.0": 2, "blocks.1": 2}  # the first one returns what it did before
    assert calls["blocks.1.q"] == 2
    assert "blocks.0.q" not in calls
    assert "head" not in calls


@pytest.mark.parametrize("stages", ["auto", None, "blocks"])
def test_a_pass_sees_what_changed_before(stages: str | None) -> None:
    torch.manual_seed(1)
    model = Decoder(blocks=3).eval()
    seen: list[Tensor] = []
    model.get_submodule("blocks.2.out").register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    for names, run in forward_order(model, prunable(model), DATA, stages):
        seen.clear()
        for _ in run():
            pass
        if "blocks.2.out.weight" in names:
            break
        for name in names:
            model.get_parameter(name).data *= 1.5
    reached = list(seen)
    seen.clear()
    with torch.no_grad():
        for batch in DATA:
            model(batch)
    assert len(reached) == len(seen) == 2
    assert all(torch.equal(one, two) for one, two in zip(reached, seen, strict=True))


def test_blocks_that_read_earlier_ones_are_no_stages() -> None:
    model = Skipping()
    steps = list(forward_order(model, prunable(model), [torch.randn(2, 4)]))
    assert len(steps) == 4
    calls = counted(model)
    _, run = steps[-1]
    assert list(run()) == [2]
    assert calls == {name: 1 for name, _ in model.named_modules() if name != "layers"}
    with pytest.raises(ModelError, match="'layers' do not run once each"):
        walked(model, [torch.randn(2, 4)], "layers")


def test_a_shared_weight_comes_once() -> None:
    model = Tied()
    steps = list(forward_order(model, prunable(model), [torch.ones(1, 4)]))
    assert [names for names, _ in steps] == [("first.weight",)]
    calls = counted(model)
    assert list(steps[0][1]()) == [1]
    assert (calls["first"], calls["second"]) == (1, 1)


def test_a_layer_reached_by_a_later_batch_comes_too() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Any:
            return self.two(x) if bool(x.sum() > 0) else self.one(x)

    low, high = -torch.ones(1, 2), torch.ones(1, 2)
    assert walked(Gated(), [low, high]) == [("one.weight",), ("two.weight",)]
    with pytest.raises(DataError, match="never reached two"):
        walked(Gated(), [low])


def test_an_unknown_module_is_named() -> None:
    with pytest.raises(UnknownNameError, match="'block'; nearest: blocks"):
        walked(Decoder(blocks=2), DATA, "block")


def test_nothing_is_left_on_the_model_after_an_error() -> None:
    model = Decoder(blocks=3).train()
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    steps = forward_order(model, prunable(model), DATA)
    for names, run in steps:
        if "blocks.1.up.weight" in names:
            next(run())
            break

    def fail(*_: Any) -> None:
        raise RuntimeError("stop here")

    handle = model.get_submodule("blocks.2").register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="stop here"):
        [list(run()) for _, run in steps]
    handle.remove()
    steps.close()
    assert before == {name: set(vars(module)) for name, module in model.named_modules()}
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_block_keeps_its_own_code() -> None:
    """A forward that was set on the module itself is there again afterwards."""
    model = Decoder(blocks=3)
    block = model.blocks[0]
    assert isinstance(block, Block)
    own = block.forward
    vars(block)["forward"] = own
    for _, run in forward_order(model, prunable(model), DATA):
        list(run())
    assert vars(block)["forward"] is own
