"""Order statistics in pieces; their laws over random data are in laws/test_selection.py."""

from __future__ import annotations

import pytest
import torch

from secateur import ranking
from secateur.ranking import chunks, count, keep_best, kth_smallest


def test_pieces_are_views_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "CHUNK", 4)
    values = torch.arange(10.0).reshape(2, 5)
    pieces = list(chunks(values))
    assert [piece.tolist() for piece in pieces] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    pieces[0].zero_()
    assert values[0].tolist() == [0, 0, 0, 0, 4]


def test_count_over_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "CHUNK", 3)
    assert count(torch.arange(10), lambda x: x % 3 == 0) == 4
    assert count(torch.zeros(0), lambda x: x == 0) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_million_values_are_ranked_exactly(dtype: torch.dtype) -> None:
    """Larger than four samples, so that the bracket is used at its real size; half precision is full of ties."""
    values = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0)).to(dtype)
    ordered = values.sort().values
    assert len(values) > 4 * ranking.SAMPLE
    for k in (1, 2, 123_456, 500_000, 999_999, 1_000_000):
        assert kth_smallest([values[:300_000], values[300_000:]], k) == ordered[k - 1].item()


def test_exactly_so_many_of_a_million_stay_whatever_the_ties() -> None:
    values = torch.randint(0, 5, (1_000_000,), generator=torch.Generator().manual_seed(1)).float()
    for kept in (1, 333_333, 999_999):
        keep = keep_best(values, kept)
        assert int(keep.sum()) == kept
        assert float(values[keep].min()) >= float(values[~keep].max())
        tied = (values == values[keep].min()).nonzero()[:, 0]
        stays = keep[tied]
        assert bool((stays.long().diff() <= 0).all())  # of equal ones the first


@pytest.mark.parametrize("kept", [0, 3])
def test_all_or_none(kept: int) -> None:
    assert keep_best(torch.tensor([1.0, 1.0, 2.0]), kept).tolist() == [kept == 3] * 3
