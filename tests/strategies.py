"""What hypothesis draws: index maps, models, budgets and pruners of every kind."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.index_maps import Arange, Cover, Embedded, IndexMap, Sizes, Stored

sizes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@st.composite
def factors(draw: st.DrawFn, number: int) -> Sizes:
    """A number as one factor or a product of two."""
    first = draw(st.sampled_from([size for size in range(1, number + 1) if number % size == 0]))
    return draw(st.sampled_from([(number,), (first, number // first)]))


@st.composite
def aranges(draw: st.DrawFn) -> Arange:
    """Any cut, order, join and tiles."""
    shape: Sizes = draw(sizes)
    split = tuple(size for whole in shape for size in draw(factors(whole)))
    permute = tuple(draw(st.permutations(range(len(split)))))
    join = _joined([split[dim] for dim in permute], draw(st.sets(st.integers(1, 8))))
    repeat = tuple(draw(st.integers(1, size + 1)) for size in join)
    return Arange(shape, split, permute, join, repeat)


def _joined(sizes_in_order: Sequence[int], cuts: set[int]) -> Sizes:
    """Neighbouring sizes multiplied, except across a cut."""
    found = [1]
    for place, size in enumerate(sizes_in_order):
        if place in cuts:
            found.append(1)
        found[-1] *= size
    return tuple(found)


@st.composite
def covers(draw: st.DrawFn) -> Cover:
    """Patterns that together reach every position of a kernel."""
    kernel: Sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2).map(tuple))
    cells = range(math.prod(kernel))
    some = st.sets(st.sampled_from(cells), min_size=1).map(lambda cells: tuple(sorted(cells)))
    patterns = draw(st.lists(some, max_size=4))
    left = tuple(sorted(set(cells).difference(*patterns)))
    outside: Sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2).map(tuple))
    return Cover((*outside, *kernel), kernel, (*patterns, *([left] if left else [])))


@st.composite
def stored(draw: st.DrawFn) -> Stored:
    """Integers with gaps, weights of no unit, and sizes of 1 that stand for whole dimensions."""
    shape: Sizes = draw(sizes)
    drawn = tuple(draw(st.sampled_from([1, size])) for size in shape)
    n_units = draw(st.integers(1, 6))
    cells = math.prod(drawn)
    units = draw(st.lists(st.integers(-1, n_units - 1), min_size=cells, max_size=cells))
    return Stored(shape, torch.tensor(units).reshape(drawn), n_units)


@st.composite
def embedded(draw: st.DrawFn) -> Embedded:
    """Any of the others, set into a larger shape."""
    inner: IndexMap = draw(st.one_of(aranges(), covers(), stored()))
    kept, shape = [], []
    for size in inner.shape:
        gaps = draw(st.lists(st.integers(1, 2), min_size=size, max_size=size))
        positions = torch.tensor(gaps).cumsum(0) - 1
        kept.append(positions)
        shape.append(int(positions[-1]) + draw(st.integers(1, 2)))
    return Embedded(inner, tuple(shape), tuple(kept))


index_maps = st.one_of(aranges(), covers(), stored(), embedded())

free_granularities = st.sampled_from(
    [
        granularity.weight(),
        granularity.filter(),
        granularity.input_channel(),
        granularity.block(2, 3),
        granularity.block(4, 1),
    ]
)
granularities = st.one_of(
    free_granularities,
    st.sampled_from([granularity.pattern(2, 4), granularity.pattern(1, 2), granularity.pattern(3, 4)]),
)
allocations = st.sampled_from(
    [
        allocation.uniform(),
        allocation.global_(),
        allocation.lamp(),
        allocation.erdos_renyi(),
        allocation.erdos_renyi(kernel=False),
        allocation.fixed({"*": 0.5, "0": 0.3}),
    ]
)
scorers = st.sampled_from([criteria.magnitude(), criteria.magnitude(1), criteria.random(3)])


@st.composite
def models(draw: st.DrawFn, layers: int = 4, least: int = 1) -> nn.Sequential:
    """Linear layers (and now and then a convolution) of any sizes, weights drawn from a seed, with ties."""
    pairs = st.tuples(st.integers(least, 9), st.integers(least, 9))
    shapes = draw(st.lists(pairs, min_size=1, max_size=layers))
    kinds = draw(st.lists(st.booleans(), min_size=len(shapes), max_size=len(shapes)))
    made: list[nn.Module] = [
        nn.Conv2d(ins, outs, (1, 2)) if convolves else nn.Linear(ins, outs)
        for (ins, outs), convolves in zip(shapes, kinds, strict=True)
    ]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    model = nn.Sequential(*made)
    for parameter in model.parameters():
        parameter.data = torch.randint(-20, 21, parameter.shape, generator=generator) / 8
    return model


def shaken(model: nn.Module, seed: int) -> None:
    """Change every weight, as training would."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator))


def removed(plan: sc.Plan) -> dict[str, set[int]]:
    """The units that a plan removes, by group."""
    return {part.name: set((~part.keep).nonzero()[:, 0].tolist()) for part in plan.parts}
