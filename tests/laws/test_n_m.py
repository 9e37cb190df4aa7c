"""The law of N:M: n of every m consecutive input channels stay, at every output channel and kernel position."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from secateur.granularity import pattern
from secateur.units import Units, select
from tests.nets import LAYERS, layer, numbers


def runs(kind: str, mask: Tensor, m: int) -> Tensor:
    """The mask as `(runs, m)`: m consecutive input channels of one output channel and kernel position.

    Cut out one position at a time, from what a layer's weight means to torch, independently of the index maps.
    """
    module = layer(kind)
    groups = getattr(module, "groups", 1)
    transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    found = []
    for part in mask.chunk(groups, 0):  # groups are cut along the first axis, transposed or not
        channels_last = part.movedim(0 if transposed else 1, -1)
        found.append(channels_last.reshape(-1, m))
    return torch.cat(found)


def inputs_per_group(kind: str) -> int:
    module = layer(kind)
    if isinstance(module, nn.Linear):
        return module.in_features
    return int(module.in_channels // module.groups)


def units_of(kind: str, n: int, m: int) -> Units:
    (units,) = pattern(n, m)(layer(kind)).values()
    return units


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(("n", "m"), [(1, 2), (1, 4), (2, 4), (3, 4), (4, 4), (1, 1)])
def test_exactly_n_of_every_m_stay(kind: str, n: int, m: int) -> None:
    assert inputs_per_group(kind) % m == 0
    units = units_of(kind, n, m)
    scores = torch.randn(units.n_units, generator=torch.Generator().manual_seed(n * 10 + m))
    (mask,) = units.expand(select(units, scores, units.full_sparsity or 0.0)).values()
    counted = runs(kind, mask, m).sum(1)
    assert torch.equal(counted, torch.full_like(counted, n))
    assert int(mask.sum()) * m == mask.numel() * n


@pytest.mark.parametrize("kind", LAYERS)
def test_the_largest_of_every_run_stay(kind: str) -> None:
    units = units_of(kind, 2, 4)
    weight = layer(kind).weight.detach().abs()
    (axis,) = units.index
    (mask,) = units.expand(select(units, units.reduce({axis: weight}), 0.5)).values()
    stay, values = runs(kind, mask, 4), runs(kind, weight, 4)
    smallest_kept = values.masked_fill(~stay, torch.inf).amin(1)
    largest_removed = values.masked_fill(stay, -torch.inf).amax(1)
    assert bool((smallest_kept > largest_removed).all())


@pytest.mark.parametrize("kind", LAYERS)
def test_scopes_are_runs_of_consecutive_input_channels(kind: str) -> None:
    units = units_of(kind, 1, 4)
    scope_of_weight = units.scope.numbers()[numbers(units)]
    in_runs = runs(kind, scope_of_weight, 4)
    assert torch.equal(in_runs, in_runs[:, :1].expand(-1, 4))
    assert sorted(in_runs[:, 0].tolist()) == list(range(units.scope.n_units))


@given(st.sampled_from(sorted(LAYERS)), st.sampled_from([(1, 2), (1, 4), (2, 4), (3, 4)]), st.floats(0, 1))
def test_part_of_the_budget_follows_in_so_many_scopes(kind: str, n_m: tuple[int, int], fraction: float) -> None:
    n, m = n_m
    units = units_of(kind, n, m)
    scores = torch.rand(units.n_units, generator=torch.Generator().manual_seed(1))
    (mask,) = units.expand(select(units, scores, fraction * (1 - n / m))).values()
    counted = runs(kind, mask, m).sum(1)
    following = int((counted == n).sum())
    assert following + int((counted == m).sum()) == len(counted)
    assert following == round(fraction * len(counted))
