"""Sums over all dimensions but one against plain sums, for every layout in memory."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur.statistics.channel_sums import ChannelSums


@st.composite
def laid_out(draw: st.DrawFn) -> tuple[Tensor, int]:
    """Whole numbers, some of them zero, in any order of memory, whole, a slice or expanded; and a dimension."""
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 5, 8, 16]), min_size=1, max_size=4))
    seed = draw(st.integers(0, 99))
    values = torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed)).to(
        draw(st.sampled_from([torch.float32, torch.float64]))
    )
    values = values.permute(draw(st.permutations(range(len(shape)))))
    kind = draw(st.sampled_from(["whole", "slice", "expanded"]))
    if kind == "slice":
        values = values[..., ::2]
    if kind == "expanded":
        values = values[..., :1].expand(*values.shape[:-1], 3) if values.shape[-1] else values
    return values, draw(st.integers(0, values.ndim - 1))


@given(st.lists(laid_out(), min_size=1, max_size=4))
def test_sums_are_those_of_torch(found: list[tuple[Tensor, int]]) -> None:
    sums = ChannelSums()  # one buffer for all of them
    for values, dim in found:
        kept, before = values.shape[dim], values.clone()
        lines = values.double().movedim(dim, 0).reshape(kept, -1 if values.numel() else 0)
        squares, nonzeros = sums.squares(values, dim), sums.nonzeros(values, dim)
        assert torch.allclose(squares.double(), lines.square().sum(1), rtol=1e-6)
        assert torch.equal(nonzeros.double(), lines.ne(0).sum(1).double())
        assert torch.equal(values, before)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_counts_are_exact_up_to_the_bound(layout: torch.memory_format) -> None:
    values = torch.ones(2, 2, 2900, 2890).contiguous(memory_format=layout)
    values[0, 1, :7, 3] = 0
    positions = 2 * 2900 * 2890
    assert positions < 2**24
    assert ChannelSums().nonzeros(values, 1).tolist() == [positions, positions - 7]
