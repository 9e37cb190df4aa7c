import pytest
from hypothesis import given
from hypothesis import strategies as st

import secateur as sc
from secateur.schedules import Schedule, cubic, iterative, join, linear, one_shot, settled


def said(schedule: Schedule, steps: int) -> list[float | None]:
    return [schedule(step) for step in range(steps)]


def test_cubic_is_the_formula_of_zhu_and_gupta() -> None:
    """s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3, equation 1, with s_i = 0, as a fraction of s_f."""
    found = cubic(10, 20, 5)
    assert [step for step in range(30) if found(step) is not None] == [10, 15, 20]
    for step in (10, 15, 20):
        assert found(step) == pytest.approx(1 - (1 - (step - 10) / 10) ** 3, abs=1e-15)


def test_the_end_is_reached_even_if_every_does_not_divide() -> None:
    assert said(linear(0, 5, every=2), 8) == [0.0, None, 0.4, None, 0.8, 1.0, None, None]


@given(
    begin=st.integers(0, 50), length=st.integers(0, 50), every=st.integers(1, 9), kind=st.sampled_from([linear, cubic])
)
def test_fractions_rise_to_one(begin, length, every, kind) -> None:
    schedule = kind(begin, begin + length, every)
    fractions = [value for value in said(schedule, begin + length + 5) if value is not None]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert all(0 <= value <= 1 for value in fractions)
    assert not settled(schedule, begin + length)
    assert settled(schedule, begin + length + 1)


def test_iterative_names_sparsities_of_which_the_last_is_the_budget() -> None:
    found = said(iterative([0.3, 0.5, 0.7], every=2, begin=1), 8)
    assert found == [None, 0.3 / 0.7, None, 0.5 / 0.7, None, 1.0, None, None]


@pytest.mark.parametrize("levels", [[], [0.5, 0.3], [0.0, 0.5], [0.5, 1.0], [0.5, 0.5], [0.5, float("nan")]])
def test_levels_that_do_not_rise_are_refused(levels: list[float]) -> None:
    with pytest.raises(sc.BudgetError, match="rising sparsities"):
        iterative(levels)


@pytest.mark.parametrize("steps", [(5, 4, 1), (-1, 4, 1), (0, 4, 0)])
def test_steps_out_of_order_are_refused(steps: tuple[int, int, int]) -> None:
    with pytest.raises(sc.BudgetError, match="0 <= begin <= end"):
        linear(*steps)


def test_join_counts_each_part_from_its_own_start() -> None:
    both = join((2, linear(0, 2)), (6, one_shot(at=1)))
    assert said(both, 10) == [None, None, 0.0, 0.5, 1.0, None, None, 1.0, None, None]
    assert not settled(both, 7)
    assert settled(both, 8)


def test_a_joined_schedule_is_settled_when_its_last_part_is() -> None:
    """Also where the last part does not say where it ends: an earlier part having reached 1 is not the end."""

    def at_five(step: int) -> float | None:
        return 1.0 if step == 5 else None

    last_unknown = join((0, one_shot()), (3, at_five))
    assert [step for step in range(12) if settled(last_unknown, step)] == [9, 10, 11]
    nested = join((0, one_shot()), (2, join((0, one_shot()), (1, linear(0, 3)))))
    assert [step for step in range(9) if settled(nested, step)] == [7, 8]
    late = join((6, one_shot()))
    assert not any(settled(late, step) for step in range(7))


@pytest.mark.parametrize("parts", [(), ((3, one_shot()), (3, one_shot())), ((4, one_shot()), (1, one_shot()))])
def test_join_refuses_starts_that_do_not_rise(parts: tuple[tuple[int, Schedule], ...]) -> None:
    with pytest.raises(sc.BudgetError, match="rising starts"):
        join(*parts)


def test_a_plain_function_is_a_schedule_too() -> None:
    def at_three(step: int) -> float | None:
        return 1.0 if step == 3 else None

    assert [settled(at_three, step) for step in (3, 4)] == [False, True]
