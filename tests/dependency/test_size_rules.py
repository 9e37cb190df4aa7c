"""Each function of torch that takes sizes, bounds or groups, in each form that it is called in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.noted import noted, seen

S = "size"
CASES: dict[str, tuple[Callable[[Any, Tensor], Any], list[tuple[str, int, str]]]] = {
    "view": (lambda m, x: x.view(m.a, -1), [(S, 0, "a")]),
    "view of a tuple": (lambda m, x: x.view((-1, m.a)), [(S, 1, "a")]),
    "view by name": (lambda m, x: x.view(size=(m.a, -1)), [(S, 0, "a")]),
    "view as another dtype": (lambda m, x: x.view(torch.int32), []),
    "view of a shape": (lambda m, x: x.flatten().view(x.shape), [(S, 0, "size0"), (S, 1, "size1"), (S, 2, "size2")]),
    "view of a joined shape": (
        lambda m, x: x.view(*x.size()[:-1], m.a, x.size(-1) // m.a),
        [(S, 0, "size0"), (S, 1, "size1"), (S, 2, "a"), (S, 3, "(size2 // a)")],
    ),
    "view of a sum of shapes": (
        lambda m, x: x.view(x.shape[:2] + torch.Size([m.a, x.shape[-1] // m.a])),
        [(S, 0, "size0"), (S, 1, "size1"), (S, 2, "a"), (S, 3, "(size2 // a)")],
    ),
    "reshape": (lambda m, x: x.reshape(m.a, x.size(dim=1), -1), [(S, 0, "a"), (S, 1, "size1")]),
    "torch.reshape": (lambda m, x: torch.reshape(x, (m.a, -1)), [(S, 0, "a")]),
    "torch.reshape by name": (lambda m, x: torch.reshape(input=x, shape=[m.a, -1]), [(S, 0, "a")]),
    "expand": (lambda m, x: x[:, :1].expand(-1, m.a, -1), [("stop", 1, "1"), (S, 1, "a")]),
    "broadcast_to": (
        lambda m, x: torch.broadcast_to(x, (m.a, 2, 3, 4)),
        [(S, 0, "a"), *((S, i, f"{i + 1}") for i in (1, 2, 3))],
    ),
    "repeat": (lambda m, x: x.repeat(m.a, 1, 1, 1), [("repeat", 0, "a"), *(("repeat", i, "1") for i in (1, 2, 3))]),
    "tile": (lambda m, x: torch.tile(x, (m.a,)), [("repeat", 2, "a")]),
    "repeat_interleave": (lambda m, x: x.repeat_interleave(m.a, dim=1), [("repeat", 1, "a")]),
    "unflatten": (lambda m, x: x.unflatten(-1, (m.a, -1)), [(S, 2, "a")]),
    "torch.unflatten": (lambda m, x: torch.unflatten(x, dim=2, sizes=(-1, m.a)), [(S, 3, "a")]),
    "split": (lambda m, x: x.split(m.a, 1), [(S, 1, "a")]),  # the last piece is shorter
    "torch.split": (lambda m, x: torch.split(x, [m.a, 1], dim=1), [(S, 1, "a"), (S, 1, "1")]),
    "split_with_sizes": (lambda m, x: x.split_with_sizes([m.a, 2], 2), [(S, 2, "a"), (S, 2, "2")]),
    "tensor_split": (lambda m, x: x.tensor_split((m.a, m.b), dim=2), [(S, 2, "a"), (S, 2, "(b - a)")]),
    "tensor_split in parts": (lambda m, x: x.tensor_split(m.a, dim=2), []),
    "narrow": (lambda m, x: x.narrow(1, m.one, m.a), [("start", 1, "one"), (S, 1, "a")]),
    "torch.narrow": (lambda m, x: torch.narrow(x, -1, start=0, length=m.a), [("start", 2, "0"), (S, 2, "a")]),
    "select": (lambda m, x: x.select(-1, m.a), [("index", 2, "a")]),
    "zeros": (lambda m, x: x + torch.zeros(m.a, 1, 4), [(S, 0, "a"), (S, 1, "1"), (S, 2, "4")]),
    "zeros of a tuple": (lambda m, x: x + torch.zeros((m.a, 1, 1)), [(S, 0, "a"), (S, 1, "1"), (S, 2, "1")]),
    "ones of a shape": (lambda m, x: x + torch.ones(x.shape[1:]), [(S, 0, "size1"), (S, 1, "size2")]),
    "ones by name": (lambda m, x: x + torch.ones(size=(m.a, 1, 1)), [(S, 0, "a"), (S, 1, "1"), (S, 2, "1")]),
    "full": (lambda m, x: x + torch.full((m.a, 1, 1), 7.0), [(S, 0, "a"), (S, 1, "1"), (S, 2, "1")]),
    "rand": (lambda m, x: x + torch.rand(m.a, 1, 1), [(S, 0, "a"), (S, 1, "1"), (S, 2, "1")]),
    "randint": (lambda m, x: x + torch.randint(3, 5, (m.a, 1, 1)), [(S, 0, "a"), (S, 1, "1"), (S, 2, "1")]),
    "new_zeros": (lambda m, x: x + x.new_zeros(m.a, 1, 1), [(S, 0, "a"), (S, 1, "1"), (S, 2, "1")]),
    "new_empty": (lambda m, x: x + x.new_empty((m.a, 1, 1)), [(S, 0, "a"), (S, 1, "1"), (S, 2, "1")]),
    "new_full": (lambda m, x: x + x.new_full((m.a, 1, 1), 3), [(S, 0, "a"), (S, 1, "1"), (S, 2, "1")]),
    "arange": (lambda m, x: x + torch.arange(2 * m.a), [(S, 0, "(2 * a)")]),
    "arange between": (lambda m, x: x + torch.arange(m.a, 2 * m.a + 2), []),
    "eye": (lambda m, x: x @ torch.eye(2 * m.a), [(S, 0, "(2 * a)"), (S, 1, "(2 * a)")]),
    "one_hot": (lambda m, x: F.one_hot(x.long(), m.a), [(S, 3, "a")]),
    "interpolate": (lambda m, x: F.interpolate(x, size=m.a), [(S, 2, "a")]),
    "layer_norm": (lambda m, x: F.layer_norm(x, (2 * m.a,)), [(S, 2, "(2 * a)")]),
    "step": (lambda m, x: x[:, :, :: m.a], [("step", 2, "2")]),
    "index": (lambda m, x: x[m.one], [("index", 0, "one")]),
    "negative index": (lambda m, x: x[..., -1], [("index", 2, "-1")]),
    "negative attribute": (lambda m, x: x[:, -m.a], [("index", 1, "(0 - a)")]),
    "new dimension": (lambda m, x: x[None, :, None, m.a :], [("start", 1, "a")]),
    "dots in between": (lambda m, x: x[0, ..., None, : m.a], [("index", 0, "0"), ("stop", 2, "a")]),
    "mask": (lambda m, x: x[torch.ones(2, 3, dtype=torch.bool), : m.a], [(S, 0, "2"), (S, 1, "3"), ("stop", 2, "a")]),
    "list of bools": (lambda m, x: x[:, [True, False, True], : m.a], [("stop", 2, "a")]),
    "list of places": (lambda m, x: x[[0, 1], :, m.a :], [("start", 2, "a")]),
    "only a list": (lambda m, x: x[[m.one, 0]], []),
    "array": (lambda m, x: x[:, np.array([0, 2]), : m.a], [("stop", 2, "a")]),
    "mask as an array": (lambda m, x: x[np.ones((2, 3), dtype=bool), : m.a], [("stop", 2, "a")]),
    "true": (lambda m, x: x[True, : m.one], [("stop", 0, "one")]),
    "tensor": (lambda m, x: x[torch.tensor([0, 1]), : m.a], [("stop", 1, "a")]),
    "whole": (lambda m, x: x[:, ...], []),
}


@pytest.mark.parametrize("case", CASES)
def test_functions_name_what_they_are_given(case: str) -> None:
    forward, expected = CASES[case]
    assert seen(noted(forward, 2, 3, 4, a=2, b=3, one=1)) == expected
