"""A pass that looks at values is one of several, and that is said."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from secateur import granularity
from secateur.dependency import decisions, record


class Deciding(nn.Module):
    """Two layers, and something that a function makes of what is between them."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.two, self.between = nn.Linear(3, 4), nn.Linear(4, 2), between
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.between(self.one(x)))  # type: ignore[no-any-return]


def branched(x: Tensor) -> Tensor:
    return -x if x.sum() > 0 else x


def scaled(x: Tensor) -> Tensor:
    return x / x.abs().max().item()


def compared(x: Tensor) -> Tensor:
    return x if torch.equal(x, x + 1) else x + 1


def found(x: Tensor) -> Tensor:
    return x.index_select(0, x.sum(1).abs().nonzero().flatten())


def plain(x: Tensor) -> Tensor:
    return x.relu() if x.shape[0] > 1 else x


def positioned(x: Tensor) -> Tensor:
    """Decides by what is the same in every pass."""
    return x.relu() if torch.arange(3).sum().item() == 3 else x


@pytest.mark.parametrize("between", [branched, scaled, compared, found])
def test_a_look_at_values_is_found_and_said(between: Callable[[Tensor], Tensor]) -> None:
    model, example = Deciding(between), torch.ones(2, 3)
    lines = [call.line for call in decisions(record(model, example))]
    expected = f"{__file__}:{between.__code__.co_firstlineno + 1}"
    assert lines == [expected]
    with pytest.warns(UserWarning, match=r"looks at values to decide what to run, at .*test_decisions\.py:\d+: what"):
        groups = granularity.channel(example)(model)
    assert set(groups) == {"one", "two"}


@pytest.mark.parametrize("between", [plain, positioned])
def test_shapes_and_positions_are_no_decisions(between: Callable[[Tensor], Tensor]) -> None:
    model, example = Deciding(between), torch.ones(2, 3)
    assert decisions(record(model, example)) == ()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        granularity.channel(example)(model)


def test_many_lines_are_counted() -> None:
    def often(x: Tensor) -> Tensor:
        x = branched(x)
        x = scaled(x)
        x = compared(x)
        return x if x.any() else -x

    with pytest.warns(UserWarning, match=r"at \S+, \S+, \S+ and 1 more: "):
        granularity.channel(torch.ones(2, 3))(Deciding(often))
