"""Zeros batch after batch: later ones are counted like the first, and nothing stays on after an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateur.errors import DataError
from secateur.statistics import zeros as counting
from tests.statistics.test_zeros import RECTIFIERS, found, plain, random


class Wayward(nn.Module):
    """Takes another way where a batch has three samples or more."""

    def __init__(self, way: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.fc, self.other, self.out, self.way = nn.Linear(2, 4), nn.Linear(2, 3), nn.Linear(4, 2), way

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.out(self.fc(x).relu()) if len(x) < 3 else self.way(self, x))


@pytest.mark.parametrize(
    ("way", "how"),
    [
        (lambda net, x: net.out(net.fc(x).relu()).relu(), r"its rectifier number 2 is relu of \(3, 2\)"),
        (lambda net, x: net.out(net.fc(x)), "it ends after 0 rectifiers"),
        (lambda net, x: net.out(F.hardswish(net.fc(x))), r"its rectifier number 1 is hardswish of \(3, 4\)"),
        (lambda net, x: net.other(x).relu(), "rectifier number 1 gets 3 channels, not 4"),
        (lambda net, x: net.fc(x)[None].relu(), r"its rectifier number 1 is relu of \(1, 3, 4\)"),
    ],
)
def test_a_batch_that_goes_another_way_is_refused(way: Any, how: str) -> None:
    model = Wayward(way)
    found(model, random(2, 2), random(1, 2))
    with pytest.raises(DataError, match=f"Wayward takes another way for this batch than for the first: {how}"):
        found(model, random(2, 2), random(3, 2))
    assert_nothing_counts(model)


MORE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "torch.relu": torch.relu,
    "method": Tensor.relu,
    "inplace": lambda x: F.relu(x, inplace=True),
    "relu_": lambda x: x.clone().relu_(),
    "hardtanh module": nn.Hardtanh(0, 1),
    "clamped twice": lambda x: torch.clamp(x, -1, 1).clamp(min=0),  # the same function, once to no effect
}
CALLS: dict[str, Any] = {**RECTIFIERS, **MORE}


@pytest.mark.parametrize("name", CALLS)
def test_later_batches_count_like_the_first(name: str) -> None:
    rectify = CALLS[name]
    torch.manual_seed(0)
    net = Wayward(lambda net, x: net.out(rectify(net.fc(x))))
    whole = random(12, 2)
    shares = [found(net, *batches)["fc.weight"] for batches in ((whole,), (whole[:3], whole[3:8], whole[8:]))]
    assert torch.equal(*shares)
    wanted = (rectify(net.fc(whole)) == 0).float().mean(0)
    assert torch.allclose(shares[0].flatten(), wanted)


def test_a_rectifier_within_a_whole_function_is_counted_batch_by_batch() -> None:
    """A layer of attention calls its rectifier itself, so that no call returns what it puts out."""
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
    whole = random(6, 3, 4)
    shares = [found(layer, *batches)["linear1.weight"] for batches in ((whole,), (whole[:2], whole[2:]))]
    assert torch.equal(*shares)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_counts_after_an_error(error: type[BaseException]) -> None:
    def fails(net: Any, x: Tensor) -> Tensor:
        raise error

    model = Wayward(fails)
    with pytest.raises(error):
        found(model, random(2, 2), random(3, 2))
    assert_nothing_counts(model)


def assert_nothing_counts(model: nn.Module) -> None:
    assert torch._C._len_torch_dispatch_stack() == 0
    assert torch._C._len_torch_function_stack() == 0
    assert torch.backends.mha.get_fastpath_enabled()
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_data_is_counted_only_after_the_rectifiers_were_found() -> None:
    with pytest.raises(DataError, match="call it first"):
        counting.Zeros().watch(plain(), {})
