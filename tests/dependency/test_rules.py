"""Rules on their own: operations of which the zoo has no network, and rules that users add."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secateur.dependency import coupled, record, register_rule, solve, stays
from secateur.dependency.facets import Facet, Labelled, axis_core, reshaped, segments
from secateur.dependency.meeting import together
from secateur.dependency.partition import Partition, Reason
from secateur.dependency.rules import _TABLE, rule_for
from secateur.dependency.rules.opaque import opaque
from secateur.dependency.zeros import every
from secateur.workload import workload


def groups_of(model: nn.Module, example: Any) -> list[set[str]]:
    found = coupled(solve(record(model, example)))
    return [{f"{slot.name}:{slot.dim}" for slot in group.index} for group in found]


def reasons(model: nn.Module, example: Any) -> dict[str, str]:
    found = stays(solve(record(model, example)))
    return {f"{slot.name}:{slot.dim}": str(reason) for slot, reason in found}


class Experts(nn.Module):
    """Three experts, rows sorted by expert; each has a matrix of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(3, 8, 16))
        self.down = nn.Parameter(torch.randn(3, 16, 8))

    def forward(self, x: Tensor) -> Tensor:
        ends = torch.tensor([8, 16, 24], dtype=torch.int32)
        inside = torch._grouped_mm(x, self.up, offs=ends).relu()
        return torch._grouped_mm(inside, self.down, offs=ends)


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="this torch has no grouped product")
def test_fused_experts_lose_width_and_no_expert() -> None:
    model, example = Experts().bfloat16(), torch.randn(24, 8).bfloat16()
    assert groups_of(model, example) == [{"up:2", "down:1"}]
    assert {"up:0", "down:0"} <= reasons(model, example).keys()
    assert workload(model, example).macs == 2 * 24 * 8 * 16  # each of 24 rows meets the matrices of one expert


class Through(nn.Module):
    """A sigmoid written through a view: at removed channels the sum would hold 0.5 each."""

    def __init__(self, *, spoil: bool) -> None:
        super().__init__()
        self.one, self.two, self.spoil = nn.Linear(4, 6), nn.Linear(1, 2), spoil

    def forward(self, x: Tensor) -> Any:
        x = self.one(x)
        if self.spoil:
            x.view(-1, 6).sigmoid_()
        return self.two(x.sum(-1, keepdim=True))


def test_what_is_written_through_a_view_counts() -> None:
    assert groups_of(Through(spoil=False), torch.randn(3, 4)) == [{"one.weight:0", "one.bias:0"}]
    assert groups_of(Through(spoil=True), torch.randn(3, 4)) == []


@torch.library.custom_op("secateur_test::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return x * 2


@twice.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Any:
        return self.two(torch.ops.secateur_test.twice(self.one(x)))


def test_a_rule_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model, example = Twice(), torch.randn(3, 4)
    assert groups_of(model, example) == []
    assert "no rule for this operation" in reasons(model, example)["one.weight:0"]
    monkeypatch.setitem(_TABLE, "secateur_test::twice", opaque)  # so that it is taken back afterwards

    @register_rule("secateur_test::twice")
    def rule(step: Any) -> Labelled:
        return step.together([step["x"]], step.shape, every)  # type: ignore[no-any-return]

    assert groups_of(model, example) == [{"one.weight:0", "one.bias:0", "two.weight:1"}]


def test_pointwise_operations_need_no_entry() -> None:
    assert "xlogy" not in _TABLE
    assert rule_for(torch.ops.aten.xlogy.Tensor) is rule_for(torch.ops.aten.add.Tensor)
    assert rule_for(torch.ops.aten.relu_.default) is rule_for(torch.ops.aten.relu.default)
    assert rule_for(torch.ops.aten._fft_r2c.default) is opaque


def test_segments_of_shapes() -> None:
    assert segments((2, 3, 4), (6, 4)) == [(range(2), range(1)), (range(2, 3), range(1, 2))]
    assert segments((6, 4), (4, 6)) == [(range(2), range(2))]
    assert segments((), (1,)) == [(range(0), range(1))]


def test_reshaping_there_and_back_changes_nothing() -> None:
    partition = Partition()
    given = partition.fresh((2, 3, 4))
    back = partition.normal(reshaped(reshaped(given, (6, 4)), (2, 3, 4)))
    assert [facet.core.shape for facet in back.facets] == [facet.core.shape for facet in given.facets]
    for one, other in zip(back.facets, given.facets, strict=True):
        np.testing.assert_array_equal(partition.seen(one.core), partition.seen(other.core))


def test_a_split_is_united_along_what_is_needed() -> None:
    """Six labels as 2 x 3: fixed along the 3, two units are left; along both, none."""
    partition, reason = Partition(), Reason("it is needed")
    partition.looking = False
    six = partition.fresh((6,))
    table = reshaped(six, (2, 3))
    left = partition.fix(table, [1], reason)
    assert [facet.core.shape for facet in left.facets] == [(2, 1)]
    assert len(np.unique(partition.seen(six.facets[0].core))) == 2
    partition.fix(table, [0, 1], reason)
    assert partition.reason(int(six.facets[0].core[0])) is reason


def test_what_meets_something_without_labels_stays() -> None:
    partition = Partition()
    partition.looking = False
    given = partition.fresh((4,))
    found = together(partition, [given, Labelled((4,))], (4,), Reason("meets"), every)
    assert found.facets == ()
    assert str(partition.reason(int(given.facets[0].core[0]))) == "meets"
    scalar = together(partition, [partition.fresh((4,)), Labelled((1,))], (4,), Reason("meets"), every)
    assert isinstance(scalar.facets[0], Facet)
    assert axis_core(np.arange(3), 1, 3).shape == (1, 3, 1)
