"""`elementwise`: what is handed to the formula, and how values become scores."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from secateur.criteria import Group, elementwise
from secateur.errors import DataError, ModelError
from secateur.granularity import filter as filters
from secateur.granularity import input_channel, weight
from secateur.statistics import Statistics
from tests.nets import WEIGHT

ROWS = torch.tensor([[1.0, -2.0], [3.0, 4.0]])


def group(statistics: Statistics | None = None, build=filters) -> Group:
    (units,) = build()(nn.Linear(2, 2)).values()
    return Group("fc", units, {WEIGHT: ROWS}, statistics or Statistics())


def test_statistics_come_in_the_order_of_needs() -> None:
    values = Statistics({"a": {"weight": torch.full((2, 2), 10.0)}, "b": {"weight": torch.tensor([[1.0, 2.0]])}})
    criterion = elementwise(lambda w, b, a: w * b - a, needs=("b", "a"))
    assert criterion.needs == {"a", "b"}
    assert criterion.score(group(values)).tolist() == [1 - 4 - 20, 3 + 8 - 20]


def test_missing_statistics_are_named_with_the_way_to_get_them() -> None:
    criterion = elementwise(lambda w, g: w * g, needs=("gradient",))
    with pytest.raises(DataError, match=r"'gradient' and was given none: pass data=.*calibrate\(model"):
        criterion.score(group())
    with pytest.raises(DataError, match=r"'gradient' and was given \['input_norm'\]"):
        criterion.score(group(Statistics({"input_norm": {}})))
    with pytest.raises(DataError, match="'gradient' was not seen for 'weight': the data never reached it"):
        criterion.score(group(Statistics({"gradient": {"other.weight": torch.ones(1)}})))


def test_statistics_of_another_shape_are_refused() -> None:
    criterion = elementwise(lambda w, g: w * g, needs=("gradient",))
    with pytest.raises(DataError, match=r"shape \(3,\).*weight's, \(2, 2\): was it measured on another model\?"):
        criterion.score(group(Statistics({"gradient": {"weight": torch.ones(3)}})))


@pytest.mark.parametrize(("within", "wanted"), [("sum", [-1, 7]), ("mean", [-0.5, 3.5]), ("max", [1, 4])])
def test_within(within, wanted: list[float]) -> None:
    assert elementwise(lambda w: w, within=within).score(group()).tolist() == wanted


def test_finish_is_applied_to_units_and_alone_replaces_it_for_single_weights() -> None:
    criterion = elementwise(torch.square, finish=torch.sqrt, alone=torch.abs)
    assert torch.allclose(criterion.score(group()), torch.tensor([5.0, 25.0]).sqrt())
    assert criterion.score(group(build=weight)).tolist() == [1, 2, 3, 4]


def test_roles_choose_what_counts() -> None:
    only_in = elementwise(torch.abs, roles=("in",), name="readers")
    assert only_in.score(group(build=input_channel)).tolist() == [4, 6]
    with pytest.raises(ModelError, match=r"readers looks at weights of the roles \('in',\); group 'fc' has none"):
        only_in.score(group())


def test_name_is_that_of_the_formula_unless_given() -> None:
    def energy(w: Tensor) -> Tensor:
        return w.square()

    assert str(elementwise(energy)) == "energy"
    assert str(elementwise(energy, name="other")) == "other"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_and_statistics_of_half_precision_are_widened(dtype: torch.dtype) -> None:
    seen: list[torch.dtype] = []

    def noting(w: Tensor, g: Tensor) -> Tensor:
        seen.extend((w.dtype, g.dtype))
        return w * g

    values = Statistics({"gradient": {"weight": torch.ones(2, 2, dtype=dtype)}})
    (units,) = filters()(nn.Linear(2, 2)).values()
    scores = elementwise(noting, needs=("gradient",)).score(Group("fc", units, {WEIGHT: ROWS.to(dtype)}, values))
    assert seen == [torch.float32, torch.float32]
    assert scores.dtype == torch.float32


def test_double_precision_stays() -> None:
    (units,) = filters()(nn.Linear(2, 2)).values()
    assert elementwise(torch.abs).score(Group("fc", units, {WEIGHT: ROWS.double()})).dtype == torch.float64
