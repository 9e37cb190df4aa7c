"""Names that people read and write: of groups, of recipes, and of what there is not."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import pytest

import secateur as sc
from secateur import allocation, criteria, errors, granularity, schedules
from secateur.names import matching
from secateur.recipe import Recipe, name_of

NAMES = ["conv1", "conv2", "layers[0].fc", "head"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("conv*", ["conv1", "conv2"]),
        ("conv?", ["conv1", "conv2"]),
        ("conv[!1]", ["conv2"]),
        ("*", NAMES),
        ("layers[0].fc", ["layers[0].fc"]),  # a plain name is itself, though it would mean something else as a pattern
        ("Conv*", []),
        ("conv", []),
    ],
)
def test_names_are_matched_by_shell_patterns(pattern: str, found: list[str]) -> None:
    assert matching(pattern, NAMES) == found


def test_what_is_not_there_lists_the_nearest_and_not_a_thousand_names() -> None:
    error = sc.UnknownNameError("group", "layer_9", [f"layer{number}" for number in range(100)])
    text = str(error)
    assert text.startswith("no group is named 'layer_9'; nearest: layer9, ")
    assert text.endswith("and 88 more")
    assert str(sc.UnknownNameError("group", "x", [])) == "no group is named 'x'; there are: none"
    assert (error.kind, error.name, len(error.known)) == ("group", "layer_9", 100)


def test_every_error_is_one_of_the_family() -> None:
    kinds = [getattr(sc, name) for name in sc.__all__ if name.endswith("Error")]
    assert {sc.BudgetError, sc.DataError, sc.ModelError, sc.PlanError, sc.RunError} <= set(kinds)
    assert all(issubclass(kind, sc.SecateurError) for kind in kinds)


def square(number: int) -> int:
    return number * number


def test_errors_come_back_from_another_process() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    for kind in kinds:
        given = ("group", "hed", ["head"]) if kind is errors.UnknownNameError else ("a reason",)
        there: Any = kind(*given)
        back = pickle.loads(pickle.dumps(there))  # noqa: S301  ours, written a moment ago
        assert (type(back), str(back), vars(back)) == (kind, str(there), vars(there))


def test_a_recipe_is_its_name_and_its_function() -> None:
    recipe = Recipe("square", square)
    assert (recipe(3), str(recipe), name_of(recipe)) == (9, "square", "square")
    assert recipe == Recipe("square", square)
    again = pickle.loads(pickle.dumps(recipe))  # noqa: S301  our own bytes
    assert again == recipe


def test_functions_of_ones_own_have_names_too() -> None:
    class Called:
        def __call__(self) -> None: ...

    assert name_of(square) == "square"
    assert name_of(partial(square, 3)) == "partial"
    assert name_of(Called()) == "Called"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (granularity.pattern(2, 4), "pattern(2, 4)"),
        (granularity.block(4, 1), "block(4, 1)"),
        (granularity.vector("column"), "vector(column)"),
        (allocation.erdos_renyi(kernel=False), "erdos_renyi(kernel=False)"),
        (allocation.global_(), "global"),
        (criteria.normalized(criteria.magnitude(1), by="max"), "normalized(magnitude(p=1), by=max)"),
        (criteria.random(7), "random(seed=7)"),
        (schedules.cubic(0, 10, 2), "cubic(0, 10, 2)"),
        (schedules.iterative([0.3, 0.5]), "iterative([0.3, 0.5])"),
    ],
)
def test_values_read_as_they_were_written(value: object, name: str) -> None:
    assert str(value) == name_of(value) == name
