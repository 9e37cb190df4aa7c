"""The conformance checks: everything built in passes them, and what breaks a law is told which."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import pytest
import torch
from torch import Tensor, nn

from secateur import criteria, granularity
from secateur.criteria import Criterion, Group, elementwise
from secateur.errors import ModelError, SecateurError
from secateur.index_maps import Arange, How, Stored
from secateur.testing import ConformanceError, ExampleNet, check_criterion, check_granularity
from secateur.testing.common import same_bits
from secateur.testing.criterion import GRANULARITIES
from secateur.units import ParameterAxis, Units
from tests.nets import LAYERS, Tied, layer

BUILT_IN_GRANULARITIES = {
    "block": [granularity.block(2, 3), granularity.block(3, 5), granularity.block(1, 1), granularity.block(99, 99)],
    "filter": [granularity.filter()],
    "input_channel": [granularity.input_channel()],
    "kernel": [granularity.kernel()],
    "kernel_pattern": [granularity.kernel_pattern(), granularity.kernel_pattern([(0, 1), (1, 2)], kernel=(1, 3))],
    "pattern": [granularity.pattern(2, 4), granularity.pattern(1, 2), granularity.pattern(4, 4)],
    "vector": [granularity.vector("row"), granularity.vector("column")],
    "weight": [granularity.weight(), granularity.weight(per_output=True)],
}
COUPLED = {"channel": granularity.channel(torch.zeros(2, 4, 8, 8)), "head": granularity.head(torch.zeros(2, 4, 8, 8))}
NOT_GRANULARITIES = {"PCONV_PATTERNS", "Granularity", "LayerWeight", "natural_patterns", "weight_layers"}

GRADIENT = elementwise(lambda w, g: (w * g).abs(), name="taylor", needs=("gradient",))
WANDA = criteria.wanda()
BUILT_IN_CRITERIA = {
    "apoz": [criteria.apoz()],
    "bn_scale": [criteria.bn_scale()],
    "elementwise": [GRADIENT, WANDA, elementwise(torch.square, within="mean"), elementwise(torch.abs, within="max")],
    "fpgm": [criteria.fpgm()],
    "magnitude": [criteria.magnitude(p) for p in (0.5, 1, 2, 3, math.inf)],
    "normalized": [criteria.normalized(criteria.magnitude(), by=by) for by in ("mean", "max", "sum", "std", "norm")],
    "random": [criteria.random(), criteria.random(seed=7)],
    "wanda": [WANDA],
    "weighted": [criteria.weighted((1.0, criteria.magnitude()), (-0.5, WANDA), (2.0, GRADIENT))],
}
NOT_CRITERIA = {"Criterion", "Group"}


def net_with_small_kernels() -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 4, (1, 3)), nn.Conv2d(4, 4, 3), nn.Linear(8, 8))


def test_no_granularity_is_forgotten() -> None:
    assert set(granularity.__all__) - NOT_GRANULARITIES == set(BUILT_IN_GRANULARITIES) | set(COUPLED)
    tried = {str(build).split("(")[0] for build in GRANULARITIES}
    assert tried == set(BUILT_IN_GRANULARITIES)


def test_no_criterion_is_forgotten() -> None:
    assert set(criteria.__all__) - NOT_CRITERIA == set(BUILT_IN_CRITERIA)


@pytest.mark.parametrize("build", [b for builds in BUILT_IN_GRANULARITIES.values() for b in builds], ids=str)
def test_built_in_granularity_conforms(build: granularity.Granularity) -> None:
    check_granularity(build, net_with_small_kernels())
    if str(build) != "kernel_pattern(2 patterns)":  # for 1 x 2 kernels
        check_granularity(build, ExampleNet(seed=1), seed=1)


@pytest.mark.parametrize("build", COUPLED.values(), ids=str)
def test_coupled_granularity_conforms(build: granularity.Granularity) -> None:
    check_granularity(build, ExampleNet(seed=1), seed=1)


@pytest.mark.parametrize("kind", LAYERS)
def test_every_granularity_that_fits_conforms_on_every_layer(kind: str) -> None:
    fitted = 0
    for build in GRANULARITIES:
        model = layer(kind)
        try:
            build(model)
        except ModelError:
            continue
        check_granularity(build, model)
        fitted += 1
    assert fitted >= 4  # weight, filter, input_channel, block


def test_tied_weights_conform() -> None:
    check_granularity(granularity.filter(), Tied())


@pytest.mark.parametrize("build", [b for builds in BUILT_IN_CRITERIA.values() for b in builds], ids=str)
def test_built_in_criterion_conforms(build: Criterion) -> None:
    check_criterion(build, granularities=[*GRANULARITIES, *COUPLED.values()])


@pytest.mark.parametrize("kind", LAYERS)
def test_criteria_with_statistics_conform_on_every_layer(kind: str) -> None:
    check_criterion(GRADIENT, layer(kind), seed=3)
    check_criterion(WANDA, layer(kind), seed=3)


def test_checks_leave_the_global_generator_and_the_model_alone() -> None:
    model = ExampleNet()
    before, weights = torch.get_rng_state(), {name: value.clone() for name, value in model.state_dict().items()}
    check_criterion(GRADIENT, model)
    check_granularity(granularity.weight(), model)
    ExampleNet(seed=5)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_model_that_nothing_fits() -> None:
    with pytest.raises(ModelError, match="no granularity fits ReLU"):
        check_criterion(criteria.magnitude(), nn.ReLU())


def test_criterion_that_is_only_for_some_groups() -> None:
    check_criterion(elementwise(torch.abs, name="readers", roles=("in",)))
    with pytest.raises(ModelError, match="scales scores no group of ExampleNet"):
        check_criterion(elementwise(torch.abs, name="scales", roles=("norm_scale",)))


def test_criterion_that_does_not_name_the_group_it_is_not_for_is_caught() -> None:
    def score(group: Group) -> Tensor:
        raise ModelError("not for me")

    with pytest.raises(ConformanceError, match="names it; it says: not for me"):
        check_criterion(Criterion("shy", score))


def test_granularities_can_be_chosen() -> None:
    def score(group: Group) -> Tensor:
        assert group.units.n_units == 8
        return torch.ones(8)

    check_criterion(Criterion("eight", score), nn.Linear(3, 8), granularities=[granularity.filter()])


def test_conformance_error_is_an_assertion_of_the_family() -> None:
    assert issubclass(ConformanceError, SecateurError)
    assert issubclass(ConformanceError, AssertionError)


# ------------------------------------------------------------------------------------------ criteria that break a law


def _counting() -> Callable[[Group], Tensor]:
    calls: list[int] = []

    def score(group: Group) -> Tensor:
        calls.append(1)
        return torch.full((group.units.n_units,), float(len(calls)))

    return score


def _looking_at_memory(group: Group) -> Tensor:
    where = next(iter(group.parameters.values())).data_ptr()
    return torch.full((group.units.n_units,), float(where), dtype=torch.float64)


def _damaging(group: Group) -> Tensor:
    next(iter(group.parameters.values())).abs_()
    return torch.ones(group.units.n_units)


def _damaging_statistics(group: Group) -> Tensor:
    for values in group.statistics.values["gradient"].values():
        values.add_(1)
    return torch.ones(group.units.n_units)


def _narrow(group: Group) -> Tensor:
    return torch.ones(group.units.n_units).to(next(iter(group.parameters.values())).dtype)


@pytest.mark.parametrize(
    ("score", "law"),
    [
        (lambda group: torch.ones(group.units.n_units + 1), "one score per unit"),
        (lambda group: torch.ones(group.units.n_units, 1), "one score per unit"),
        (lambda group: [1.0] * group.units.n_units, "found list"),
        (lambda group: torch.ones(group.units.n_units, dtype=torch.int64), "scores are floating point"),
        (lambda group: torch.ones(group.units.n_units) / 0, "scores are finite"),
        (lambda group: torch.zeros(group.units.n_units).log().neg().sub(torch.inf), "scores are finite"),
        (lambda group: torch.rand(group.units.n_units), "global generator"),
        (_counting(), "those of a copy differ"),
        (_looking_at_memory, "those of a copy differ"),
        (_damaging, "leaves parameters and statistics"),
        (_narrow, "float32 or wider"),
    ],
)
def test_broken_criterion_is_caught(score: Callable[[Group], Any], law: str) -> None:
    with pytest.raises(ConformanceError, match=rf"broken on weight\(\), group 'conv2d'.*{law}.*To mend it: "):
        check_criterion(Criterion("broken", score))


def test_criterion_that_changes_statistics_is_caught() -> None:
    with pytest.raises(ConformanceError, match="leaves parameters and statistics"):
        check_criterion(Criterion("broken", _damaging_statistics, frozenset({"gradient"})))


def test_criterion_broken_only_on_overlapping_units_is_caught() -> None:
    def score(group: Group) -> Tensor:
        (axis,) = group.units.index
        return group.units.index[axis].reduce(torch.ones(group.units.shape)) / (group.units.keep_per_scope != 1)

    with pytest.raises(ConformanceError, match=r"kernel_pattern\(8 patterns\)"):
        check_criterion(Criterion("broken", score))


# ------------------------------------------------------------------------------------- granularities that break a law


@dataclass(frozen=True)
class Wrong:
    """An index map over the 4 x 4 weight of `ExampleNet.linear`, one answer of which can be replaced."""

    answers: tuple[tuple[str, Any], ...]
    true: ClassVar[Stored] = Stored((4, 4), torch.arange(4)[:, None], 4)

    def _answer(self, name: str, *given: Any) -> Any:
        wrong = dict(self.answers).get(name)
        return getattr(self.true, name)(*given) if wrong is None else wrong(*given)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.true.shape

    @property
    def n_units(self) -> int:
        return self.true.n_units

    def numbers(self) -> Tensor:
        return torch.as_tensor(self._answer("numbers"))

    def counts(self) -> Tensor:
        return torch.as_tensor(self._answer("counts"))

    def reduce(self, values: Tensor, how: How = "sum") -> Tensor:
        return torch.as_tensor(self._answer("reduce", values, how))

    def mask(self, keep: Tensor) -> Tensor:
        return torch.as_tensor(self._answer("mask", keep))


AXIS = ParameterAxis("linear.weight")
SCOPE = Arange((4,), repeat=(4,))
ROWS = Units({AXIS: Stored((4, 4), torch.arange(4)[:, None], 4)}, SCOPE, {AXIS: "out"})


def test_the_map_that_the_broken_ones_are_made_of_conforms() -> None:
    check_granularity(lambda _: {"linear": Units({AXIS: Wrong(())}, SCOPE, {AXIS: "out"})})


@pytest.mark.parametrize(
    ("name", "wrong", "law"),
    [
        ("numbers", lambda: torch.arange(4), "int64 and broadcasts"),
        ("numbers", lambda: torch.arange(4)[None], r"reduce\(values, 'sum'\)"),  # columns, not rows: of equal counts
        ("numbers", lambda: torch.arange(4, dtype=torch.int32)[:, None], "int64 and broadcasts"),
        ("numbers", lambda: torch.zeros(3, 4, dtype=torch.int64), "int64 and broadcasts"),
        ("numbers", lambda: torch.zeros(1, 1, 4, 4, dtype=torch.int64), "int64 and broadcasts"),
        ("numbers", lambda: torch.arange(1, 5)[:, None], "lies between -1"),
        ("numbers", lambda: torch.arange(-2, 2)[:, None], "lies between -1"),
        ("counts", lambda: torch.tensor([4, 4, 4, 3]), "counts"),
        ("reduce", lambda values, how: values.sum(1), r"reduce\(values, 'mean'\)"),
        ("reduce", lambda values, how: values.sum(0), r"reduce\(values, 'sum'\)"),
        ("reduce", lambda values, how: values.sum(1) if how == "sum" else values.mean(1), r"reduce\(values, 'max'\)"),
        ("mask", lambda keep: torch.zeros(4, 4, dtype=torch.bool), "True everywhere"),
        ("mask", lambda keep: keep[:, None], "of the parameter's shape"),
        ("mask", lambda keep: torch.ones(4, 4), "is bool"),
        ("mask", lambda keep: torch.ones(4, 4, dtype=torch.bool), r"mask\(keep\) is keep"),
        ("mask", lambda keep: keep.expand(4, 4), r"mask\(keep\) is keep"),
    ],
)
def test_broken_index_map_is_caught(name: str, wrong: Callable[..., Any], law: str) -> None:
    units = Units({AXIS: Wrong(((name, wrong),))}, SCOPE, {AXIS: "out"})
    with pytest.raises(ConformanceError, match=rf"(?s)group 'linear'.*{law}.*To mend it: "):
        check_granularity(lambda _: {"linear": units})


def _changing(change: Callable[[nn.Module], object]) -> granularity.Granularity:
    def build(model: nn.Module) -> dict[str, Units]:
        change(model)
        return {"linear": ROWS}

    return build


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda model: model.linear.weight.data.mul_(2), "'linear.weight' changed"),
        (lambda model: model.norm.running_mean.add_(1), "'norm.running_mean' changed"),
        (lambda model: model.linear.requires_grad_(False), "'linear.weight' changed"),
        (lambda model: model.eval(), "module '' changed"),
        (lambda model: model.linear.register_forward_hook(lambda *_: None), "module 'linear' changed"),
        (lambda model: setattr(model.norm, "units", 3), "module 'norm' changed"),
        (lambda model: model.register_buffer("more", torch.ones(1)), "came or went"),
        (lambda model: setattr(model, "linear", nn.Linear(4, 4)), "changed"),
    ],
)
def test_granularity_that_changes_the_model_is_caught(change: Callable[[Any], object], what: str) -> None:
    with pytest.raises(ConformanceError, match=f"the model: .*{what}"):
        check_granularity(_changing(change))


def _alternating() -> granularity.Granularity:
    notes = iter(("one", "other"))
    return lambda _: {"linear": replace(ROWS, note=next(notes))}


def _renaming() -> granularity.Granularity:
    names = iter(("one", "other"))
    return lambda _: {next(names): ROWS}


@pytest.mark.parametrize(
    ("build", "law"),
    [
        (lambda _: {}, "returns its groups by name"),
        (lambda _: [ROWS], "found list"),
        (lambda _: {0: ROWS}, "Units under a name; found Units under int"),
        (lambda _: {"linear": ROWS.index}, "found dict"),
        (lambda _: {"linear": replace(ROWS, frozen=cast(Any, True))}, "frozen group says why; found frozen=True"),
        (lambda _: {"linear": replace(ROWS, frozen=" ")}, "frozen group says why"),
        (
            lambda _: {"linear": Units({ParameterAxis("fc"): ROWS.index[AXIS]}, SCOPE, {ParameterAxis("fc"): "out"})},
            "'fc': every parameter axis names a parameter",
        ),
        (
            lambda _: {"linear": Units({AXIS: Arange((4, 2), repeat=(1, 2))}, SCOPE, {AXIS: "out"})},
            r"shape, \(4, 4\); found \(4, 2\)",
        ),
        (
            lambda _: {"linear": Units({AXIS: Stored((4, 4), torch.tensor([[0, 1, 3, 3]]), 4)}, SCOPE, {AXIS: "out"})},
            r"every unit has a weight; units \[2\] have none",
        ),
        (
            lambda _: {"linear": replace(ROWS, scope=Stored((4,), torch.tensor([0, 0, 1, -1]), 2))},
            "no scope is empty",
        ),
        (lambda _: {"linear": replace(ROWS, scope=Stored((4,), torch.tensor([0, 0, 2, 2]), 3))}, "no scope is empty"),
        (_alternating(), "group 'linear': a second call gives the same units"),
        (_renaming(), "a second call gives the same groups"),
    ],
)
def test_broken_granularity_is_caught(build: Any, law: str) -> None:
    with pytest.raises(ConformanceError, match=f"{law}.*To mend it: "):
        check_granularity(build)


def test_tensors_of_other_shapes_or_types_are_not_the_same() -> None:
    zeros = torch.zeros(4)
    assert same_bits(zeros, zeros.clone())
    assert not any(same_bits(zeros, other) for other in (torch.zeros(2, 2), zeros.double(), zeros.int(), -zeros))
    assert same_bits(torch.tensor(1.0), torch.tensor(1.0))
    assert same_bits(torch.tensor([True, False]), torch.tensor([True, False]))


def test_the_example_net_runs() -> None:
    """Whoever checks a criterion that needs activations will want to run it."""
    outputs = ExampleNet()(torch.ones(2, 4, 8, 8))
    assert outputs.shape == (2, 4)
    assert torch.equal(outputs, ExampleNet()(torch.ones(2, 4, 8, 8)))
    assert not torch.equal(outputs, ExampleNet(seed=1)(torch.ones(2, 4, 8, 8)))
