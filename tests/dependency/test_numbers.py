"""Numbers are integers in all respects, know their origin, and leave no trace in a model."""

from __future__ import annotations

import copy
import json
import math
import operator
import pickle
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from torch import nn

from secateur.dependency.numbers import (
    LONGEST,
    OPERATIONS,
    Number,
    Operation,
    Size,
    Trace,
    attributes_in,
    evaluate,
    expression_of,
    sizes_in,
)
from secateur.dependency.tagging import INTERNAL, tagged
from secateur.units import Attribute
from tests.noted import types_in

NAMES = ("a", "b", "c")
A = Attribute("", ("a",))
# A leaf is a name or a literal; a node an operation of two.
TREES = st.recursive(
    st.sampled_from(NAMES) | st.integers(-20, 20),
    lambda inner: st.tuples(st.sampled_from(sorted(OPERATIONS)), inner, inner),
    max_leaves=12,
)
VALUES = st.fixed_dictionaries({name: st.integers(-50, 50) for name in NAMES})


def computed(tree: Any, values: dict[str, int]) -> int:
    """A tree worked out with whatever integers are given."""
    if isinstance(tree, tuple):
        op, left, right = tree
        return OPERATIONS[op](computed(left, values), computed(right, values))
    return values[tree] if isinstance(tree, str) else int(tree)


def leaf(name: str) -> Attribute | Size:
    return Size(NAMES.index(name), 1) if name == "c" else Attribute("layer", (name,))


def looked_up(values: dict[str, int]) -> tuple[Callable[[Attribute], int], Callable[[Size], int]]:
    return (lambda one: values[str(one.path[0])]), (lambda one: values[NAMES[one.value]])


@given(tree=TREES, values=VALUES, others=VALUES)
def test_arithmetic_evaluates_back_and_under_other_values(tree: Any, values: Any, others: Any) -> None:
    try:
        plain, other = computed(tree, values), computed(tree, others)
    except ZeroDivisionError:
        reject()
    number = computed(tree, {name: Number(value, leaf(name)) for name, value in values.items()})
    assert number == plain
    expression = expression_of(number)
    assert evaluate(expression, *looked_up(values)) == plain
    assert evaluate(expression, *looked_up(others)) == other


OPERATORS = [operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod]


@pytest.mark.parametrize("function", OPERATORS)
@given(left=st.integers(-100, 100), right=st.integers(-100, 100).filter(bool))
def test_both_sides_of_an_operation_are_kept(function: Callable[[int, int], int], left: int, right: int) -> None:
    op = next(name for name, known in OPERATIONS.items() if known is function)
    for one, two in ((Number(left, A), right), (left, Number(right, A)), (Number(left, A), Number(right, A))):
        found = function(one, two)
        assert isinstance(found, Number)
        assert found == function(left, right)
        assert found.expression == Operation(op, expression_of(one), expression_of(two))


def test_minus_is_zero_less_the_number() -> None:
    found = -Number(3, A)
    assert (found, expression_of(found)) == (-3, Operation("-", 0, A))


def test_sums_and_products_of_the_standard_library_know_their_origin() -> None:
    number = Number(3, A)
    for found in (sum([number, 4]), math.prod([number, 4]), max(number, 2)):
        assert A in attributes_in(expression_of(found))


@pytest.mark.parametrize(
    "made",
    [int, float, str, lambda n: n / 2, lambda n: n**2, lambda n: n + 0.5, lambda n: n // 2.0, abs, bool],
)
def test_all_else_is_plain(made: Callable[[Any], Any]) -> None:
    assert made(Number(3, A)) == made(3)
    assert not isinstance(made(Number(3, A)), Number)


def test_a_number_looks_and_travels_like_the_integer() -> None:
    number = Number(3, A)
    assert (repr(number), str(number), f"{number:>3}", "%d" % number) == ("3", "3", "  3", "3")  # noqa: UP031
    assert json.dumps({"n": number, "of": [number]}) == '{"n": 3, "of": [3]}'
    assert hash(number) == hash(3)
    assert {3: "x"}[number] == "x"
    assert (number == 3, number < 4, [0] * number, "ab" * number) == (True, True, [0, 0, 0], "ababab")
    assert type(pickle.loads(pickle.dumps(number))) is int  # noqa: S301  what was written a moment ago
    for again in (copy.copy(number), copy.deepcopy([number])[0]):
        assert again == 3
    assert list(range(10))[number] == 3


def test_a_long_chain_of_operations_loses_its_origin() -> None:
    number: int = Number(0, A)
    for _ in range(LONGEST):
        number = number + 1
    assert attributes_in(expression_of(number)) == (A,)
    assert expression_of(number + 1) == LONGEST + 1


def test_after_the_recording_a_number_is_plain() -> None:
    trace = Trace()
    number = Number(3, A, trace)
    assert expression_of(number * 2) == Operation("*", A, 2)
    trace.over = True
    assert expression_of(number) == 3
    assert type(number * 2) is int
    fresh = Number(5, A, Trace())
    mixed = number + fresh
    assert expression_of(mixed) == Operation("+", 3, A)
    assert isinstance(mixed, Number)
    assert mixed.trace is fresh.trace


def test_leaves_are_listed_once() -> None:
    expression = Operation("+", Operation("*", A, Size(1, 2)), Operation("%", A, 7))
    assert attributes_in(expression) == (A,)
    assert sizes_in(expression) == (Size(1, 2),)
    assert attributes_in(3) == ()
    assert sizes_in(3) == ()


# ------------------------------------------------------------------------------------------ tagging

Pair = namedtuple("Pair", ["height", "width"])


class Colour(IntEnum):
    RED = 1


@dataclass(frozen=True)
class Config:
    """What a model is made of."""

    width: int = 8
    heads: tuple[int, ...] = (2, 4)
    name: str = "small"


class Holder(nn.Module):
    """Integers in every place they are looked for, and in some they are not."""

    constant = 3

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = 4
        self.flag = True
        self.colour = Colour.RED
        self.ratio = 0.5
        self.sizes = [1, [2, 3], "x"]
        self.shape = torch.Size([2, 3])
        self.window = Pair(5, 6)
        self.named = OrderedDict(width=7, deep={"x": 8}, flag=False)
        self.config = config
        self.function = torch.relu
        self.many = list(range(2000))
        self.none: Any = None


def model_of_holders() -> nn.Module:
    config = Config()
    return nn.Sequential(OrderedDict(one=Holder(config), two=Holder(config)))


def holders(model: nn.Module) -> tuple[Any, Any]:
    return model.one, model.two


def origin(number: Any) -> tuple[str, tuple[str | int, ...]]:
    assert isinstance(number, Number)
    found = number.expression
    assert isinstance(found, Attribute)
    return found.module, found.path


def snapshot(model: nn.Module) -> list[dict[str, Any]]:
    return [{key: value for key, value in vars(module).items() if key not in INTERNAL} for module in model.modules()]


def test_every_integer_knows_which_attribute_it_is() -> None:
    model = model_of_holders()
    with tagged(model):
        one, two = holders(model)
        assert origin(one.heads) == ("one", ("heads",))
        assert origin(two.heads) == ("two", ("heads",))
        assert origin(one.sizes[0]) == ("one", ("sizes", 0))
        assert origin(one.sizes[1][1]) == ("one", ("sizes", 1, 1))
        assert origin(one.shape[1]) == ("one", ("shape", 1))
        assert type(one.shape) is torch.Size
        assert origin(one.window.width) == ("one", ("window", 1))
        assert origin(one.named["width"]) == ("one", ("named", "width"))
        assert origin(one.named["deep"]["x"]) == ("one", ("named", "deep", "x"))
        assert origin(two.config.width) == ("one", ("config", "width"))
        assert origin(two.config.heads[1]) == ("one", ("config", "heads", 1))
        assert one.flag is True
        assert one.colour is Colour.RED
        assert type(one.many[5]) is type(one.constant) is int


@pytest.mark.parametrize("fails", [False, True])
def test_all_is_put_back(fails: bool) -> None:
    model = model_of_holders()
    before = snapshot(model)
    held = copy.deepcopy(before)
    with suppress(RuntimeError), tagged(model):
        if fails:
            raise RuntimeError
    for now, was, equal in zip(snapshot(model), before, held, strict=True):
        assert list(now) == list(was)
        for key in now:
            assert now[key] is was[key] or type(now[key]) is int
        for key in ("sizes", "shape", "window", "named", "heads"):
            assert now.get(key) == equal.get(key)
    assert Number not in types_in(model)


def test_what_the_model_changes_stays_and_holds_no_numbers() -> None:
    model = model_of_holders()
    one, removed = holders(model)
    with tagged(model):
        one.calls = one.heads + 1
        one.none = {(one.heads, 2): {one.heads}, "cache": SimpleNamespace(of=[SimpleNamespace(n=one.heads)])}
        one.sizes.insert(0, one.heads)
        one.sizes[1] = 9
        one.queue = deque([one.heads, frozenset([one.heads])])
        one.window = Pair(one.heads, 1)
        one.named.move_to_end("width")
        one.named[one.heads] = one.heads
        del one.colour
        one.extra = nn.Flatten(one.heads)
        removed.kept = removed.heads * 2
        del model.two
    assert (one.calls, one.sizes, one.window, removed.kept) == (5, [4, 9, [2, 3], "x"], Pair(4, 1), 8)
    assert list(one.none) == [(4, 2), "cache"]
    assert one.queue == deque([4, frozenset([4])])
    assert list(one.named.items()) == [("deep", {"x": 8}), ("flag", False), ("width", 7), (4, 4)]
    assert one.extra.start_dim == 4
    assert not hasattr(one, "colour")
    assert Number not in types_in(model) | types_in(removed)


def test_a_module_with_two_names_bears_the_first() -> None:
    layer = nn.Conv2d(4, 4, 3, groups=2)
    with tagged(nn.ModuleDict({"a": layer, "b": layer})):
        assert origin(layer.groups) == ("a", ("groups",))
        assert origin(layer.kernel_size[0]) == ("a", ("kernel_size", 0))


def test_a_scripted_module_is_left_alone() -> None:
    class Scripted(torch.jit.ScriptModule):  # stands for what `torch.jit.script` returns
        pass

    model = Scripted()
    vars(model)["heads"] = 3
    with tagged(model):
        assert type(vars(model)["heads"]) is int
