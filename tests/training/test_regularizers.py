"""Penalties: their values by hand and by another route, their gradients, and what they refuse."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.optim import Optimizer

import secateur as sc
from secateur import granularity
from secateur.index_maps import Arange
from secateur.training import finetune, group_lasso, l1, l2, sgd, undecayed
from secateur.training.regularizers import Regularizer
from secateur.units import ParameterAxis, Units
from tests.nets import LAYERS, Tied, layer
from tests.runs import LOSS
from tests.small import FIXED, GRANULARITIES, data, network

# A sum of at most 504 terms, each with a few roundings of 2^-53, in two orders.
SUMS = 504 * 4 * 2**-53


def by_hand(model: nn.Module, units: dict[str, Units]) -> float:
    """Group lasso of strength 1, unit by unit, over masks: nothing of how the penalty counts is used."""
    total = 0.0
    for one in units.values():
        nothing = one.expand(torch.zeros(one.n_units, dtype=torch.bool))
        for number in range(one.n_units):
            mine = one.expand(torch.arange(one.n_units) == number)
            weights = torch.cat(
                [model.get_parameter(axis.parameter)[mine[axis] & ~nothing[axis]] for axis in one.index]
            )
            total += math.sqrt(len(weights)) * math.sqrt(math.fsum((weights.double() ** 2).tolist()))
    return total


def weights_of(model: nn.Module) -> Tensor:
    """All weights of linear and convolution layers, in one row."""
    return torch.cat([value.detach().flatten() for name, value in model.named_parameters() if name.endswith("weight")])


def slopes(penalty: Regularizer, model: nn.Module) -> Tensor:
    """The gradient of a penalty at all weights."""
    model.zero_grad()
    penalty(model).backward()
    parameters = [parameter for name, parameter in model.named_parameters() if name.endswith("weight")]
    return torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in parameters])


# ------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("kind", LAYERS)
def test_l1_and_l2_sum_over_the_weights_of_every_kind_of_layer(kind: str) -> None:
    model = layer(kind).double()
    weights = model.weight.detach().flatten().tolist()
    assert l1(0.5)(model).item() == pytest.approx(0.5 * math.fsum(map(abs, weights)), rel=SUMS)
    assert l2(0.5)(model).item() == pytest.approx(0.5 * math.fsum(w * w for w in weights), rel=SUMS)


def test_biases_norms_and_embeddings_are_left_alone() -> None:
    model = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 1), nn.LayerNorm(1))
    model[1].weight.data.copy_(torch.tensor([[3.0, -4.0]]))
    model[1].bias.data.fill_(100)
    assert l1(1)(model).item() == 7
    assert l2(1)(model).item() == 25


@pytest.mark.parametrize("penalty", [l1(1), l2(1)])
def test_a_shared_weight_counts_once(penalty: Regularizer) -> None:
    model = Tied()
    model.first.weight.data.fill_(1)
    assert penalty(model).item() == 16


@pytest.mark.parametrize("kind", [l1, l2])
def test_computed_weights_all_count(kind: Callable[[float], Regularizer]) -> None:
    """A parametrized weight is a new tensor at every access; Python may give it the id of one that is gone."""
    model = nn.Sequential(*(weight_norm(nn.Linear(2, 2)) for _ in range(5)))
    for part in model:
        part.parametrizations.weight.original0.data.fill_(2)  # the norm of each row
        part.parametrizations.weight.original1.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert kind(1)(model).item() == 5 * (4 if kind is l1 else 8)
    with torch.no_grad():  # where nothing else keeps them
        assert kind(1)(model).item() == 5 * (4 if kind is l1 else 8)


@pytest.mark.parametrize("name", [*GRANULARITIES, *FIXED])
def test_group_lasso_is_the_sum_of_the_norms_of_units_times_the_root_of_their_size(name: str) -> None:
    model = network().double()
    units = (GRANULARITIES | FIXED)[name](model)
    free = {group: one for group, one in units.items() if not one.frozen}
    assert free
    assert group_lasso(0.3, units)(model).item() == pytest.approx(0.3 * by_hand(model, free), rel=SUMS)


def test_group_lasso_of_single_weights_is_l1() -> None:
    model = network().double()
    lasso = group_lasso(0.3, granularity.weight()(model))(model)
    assert lasso.item() == pytest.approx(l1(0.3)(model).item(), rel=SUMS)


@settings(max_examples=40)
@given(
    scale=st.floats(1e-3, 1e3),
    sign=st.sampled_from([-1, 1]),
    name=st.sampled_from(["filter", "kernel", "block", "ragged"]),
)
def test_group_lasso_grows_with_the_weights_and_is_at_least_l1(scale: float, sign: int, name: str) -> None:
    model = network().double()
    lasso, small = group_lasso(1, GRANULARITIES[name](model)), l1(1)
    before = lasso(model).item()
    for parameter in model.parameters():
        parameter.data.mul_(sign * scale)
    assert lasso(model).item() == pytest.approx(scale * before, rel=2 * SUMS)
    if name in ("filter", "block", "ragged"):  # the others leave the linear layers out
        assert lasso(model).item() >= small(model).item() * (1 - 2 * SUMS)  # Cauchy and Schwarz: sqrt(n) |w|_2 >= |w|_1


def channels(**more: str) -> Units:
    """Two channels of a pair of linear layers: rows of the first, columns of the second, biases of the first."""
    rows, columns, bias = ParameterAxis("0.weight"), ParameterAxis("1.weight"), ParameterAxis("0.bias")
    return Units(
        {rows: Arange((2, 3), repeat=(1, 3)), columns: Arange((1, 2)), bias: Arange((2,))},
        Arange((2,), repeat=(2,)),
        {rows: "out", columns: "in", bias: "bias"},
        **more,
    )


def pair() -> nn.Sequential:
    """Weights of which the channels have the norms 3 = |(2, 1, 0), 2| and 5 = |(0, 0, 3), 4|."""
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    model[0].weight.data.copy_(torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]]))
    model[0].bias.data.copy_(torch.tensor([12.0, 4.0]))
    model[1].weight.data.copy_(torch.tensor([[2.0, -4.0]]))
    return model.double()


def test_a_channel_has_its_weights_in_several_parameters() -> None:
    """sqrt(4) (3 + 5); with biases sqrt(5) (sqrt(9 + 144) + sqrt(25 + 16)); consumers alone 2 + 4."""
    units = {"channels": channels()}
    assert group_lasso(1, units)(pair()).item() == pytest.approx(16, rel=SUMS)
    with_biases = group_lasso(1, units, roles=("out", "in", "bias"))(pair()).item()
    assert with_biases == pytest.approx(math.sqrt(5) * (math.sqrt(153) + math.sqrt(41)), rel=SUMS)
    assert group_lasso(1, units, roles=("in",))(pair()).item() == pytest.approx(6, rel=SUMS)


def test_frozen_groups_are_left_out() -> None:
    model = pair()
    units = {"channels": channels(frozen="by hand")} | granularity.filter()(model)
    alone = granularity.filter()(model)
    assert group_lasso(1, units)(model).item() == group_lasso(1, alone)(model).item()


def test_a_shared_weight_is_in_one_group() -> None:
    model = Tied()
    model.first.weight.data.fill_(1)
    assert group_lasso(1, granularity.filter()(model))(model).item() == 16  # four rows of norm 2 and root 2


def test_a_weight_shrinks_the_more_the_stronger_the_penalty() -> None:
    """One step of plain gradient descent on -2 w + l1: w = 1 + 0.1 (2 - strength), exact to a few roundings."""
    for strength in (0.0, 0.5, 4.0):
        model = nn.Linear(1, 1, bias=False).double()
        model.weight.data.fill_(1)
        history = finetune(
            model,
            [(torch.ones(1, 1).double(), torch.ones(1))],
            lambda outputs, _: -2 * outputs.sum(),
            learning_rate=0.1,
            divide_by=1,
            epochs=1,
            optimizer=torch.optim.SGD,
            regularizer=l1(strength),
        )
        assert model.weight.item() == pytest.approx(1 + 0.1 * (2 - strength), rel=4 * 2**-53)
        assert history.losses == (strength - 2,)  # the objective, not the loss alone


# ---------------------------------------------------------------------- in place of weight decay


def two_groups(parameters: list[nn.Parameter], rate: float) -> Optimizer:
    groups = [{"params": parameters[:1], "weight_decay": 0.5}, {"params": parameters[1:]}]
    return torch.optim.AdamW(groups, lr=rate, weight_decay=0.25)


@pytest.mark.parametrize(("optimizer", "decay"), [(sgd, [5e-4]), (two_groups, [0.5, 0.25]), (torch.optim.Adam, [0])])
def test_an_undecayed_optimizer_is_the_same_without_weight_decay(
    optimizer: Callable[..., Optimizer], decay: list[float]
) -> None:
    parameters = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))]
    with_decay, without = optimizer(parameters, 0.125), undecayed(optimizer)(parameters, 0.125)
    assert [group["weight_decay"] for group in with_decay.param_groups] == decay
    assert type(with_decay) is type(without)
    for one, two in zip(with_decay.param_groups, without.param_groups, strict=True):
        assert two == {**one, "weight_decay": 0}
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    without.step()
    assert all(bool((parameter == 1).all()) for parameter in parameters)


def test_l2_is_weight_decay_on_weights_and_l1_is_not() -> None:
    """On a loss without slope w <- w - 0.1 * 2 * 0.25 w = 0.95 w, as with decay 0.5; l1: w - 0.1 * 0.25 sign(w)."""
    left = {}
    for name, optimizer, penalty in (
        ("decay", lambda p, rate: torch.optim.SGD(p, lr=rate, weight_decay=0.5), None),
        ("l2", undecayed(torch.optim.SGD), l2(0.25)),
        ("l1", undecayed(torch.optim.SGD), l1(0.25)),
        ("both", lambda p, rate: torch.optim.SGD(p, lr=rate, weight_decay=0.5), l2(0.25)),
    ):
        model = nn.Linear(2, 1, bias=False).double()
        model.weight.data.copy_(torch.tensor([[2.0, -1.0]]))
        batch = [(torch.zeros(1, 2).double(), torch.zeros(1))]
        more: dict[str, Any] = {"optimizer": optimizer, "regularizer": penalty}
        finetune(model, batch, lambda y, _: 0 * y.sum(), learning_rate=0.1, divide_by=1, epochs=1, **more)
        left[name] = model.weight.flatten().tolist()
    near = {"abs": 8 * 2**-53}  # a few roundings of numbers below 2
    assert left["l2"] == pytest.approx([1.9, -0.95], **near)
    assert left["decay"] == pytest.approx([1.9, -0.95], **near)
    assert left["both"] == pytest.approx([1.8, -0.9], **near)
    assert left["l1"] == pytest.approx([1.975, -0.975], **near)


def test_training_with_l1_ends_in_other_weights_than_with_l2() -> None:
    left = []
    for penalty in (l1(1e-3), l2(1e-3)):
        model = network()
        finetune(
            model,
            [data()],
            LOSS,
            learning_rate=0.1,
            divide_by=1,
            epochs=3,
            optimizer=undecayed(sgd),
            regularizer=penalty,
        )
        left.append(weights_of(model))
    assert not torch.equal(left[0], left[1])


# ---------------------------------------------------------------------------------- gradients


def test_the_slope_of_l1_is_the_sign_and_of_l2_twice_the_weight() -> None:
    model = network()
    weights = weights_of(model)
    model.get_parameter("0.weight").data[0] = 0
    weights = weights_of(model)
    assert torch.equal(slopes(l1(0.25), model), 0.25 * weights.sign())
    assert torch.equal(slopes(l2(0.25), model), 0.5 * weights)


@pytest.mark.parametrize("name", ["l2", "weight", "row", "filter", "input_channel", "ragged", "kernel_pattern"])
def test_gradients_agree_with_finite_differences(name: str) -> None:
    """Central differences at a distance h of 1e-5 in double precision.

    They are off by h^2 / 6 times the third derivative. Of sqrt(n) |w| that is at most 3 sqrt(n) / |w|^2, so 300 where
    no weight is below 0.1, and a weight is in 8 units at most (those of patterns overlap): 4e-8. The rounding of sums
    of 60 terms to some 100, over h, comes on top: 60 * 2^-53 * 100 / h = 7e-8.
    """
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(8, 3)).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        drawn = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data.copy_((drawn + 0.1) * torch.where(drawn < 0.5, 1, -1))
    penalty = l2(0.7) if name == "l2" else group_lasso(0.7, (GRANULARITIES | FIXED)[name](model))
    found, expected, h = slopes(penalty, model), [], 1e-5
    with torch.no_grad():
        for part, parameter in model.named_parameters():
            flat = parameter.view(-1)
            for number in range(len(flat) if part.endswith("weight") else 0):
                value = flat[number].item()
                ends = []
                for end in (value + h, value - h):
                    flat[number] = end
                    ends.append(penalty(model).item())
                flat[number] = value
                expected.append((ends[0] - ends[1]) / (2 * h))
    assert bool(found.any())
    assert float((found - torch.tensor(expected, dtype=torch.float64)).abs().max()) < 1.1e-7


def test_a_unit_that_is_zero_has_slope_zero_and_the_others_their_direction() -> None:
    model = pair()
    model[0].weight.data[0] = 0
    model[1].weight.data[0, 0] = 0
    group_lasso(0.5, {"channels": channels()})(model).backward()
    rows, columns = model[0].weight.grad, model[1].weight.grad
    assert rows is not None
    assert columns is not None
    assert rows[0].tolist() == [0, 0, 0]
    assert columns[0, 0].item() == 0
    # strength * sqrt(4) * w / 5
    assert rows[1].tolist() == pytest.approx([0, 0, 0.6], rel=SUMS)
    assert columns[0, 1].item() == pytest.approx(-0.8, rel=SUMS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 1e-30, 1e-22, 1e-18])
def test_weights_at_and_near_zero_have_finite_slopes(dtype: torch.dtype, value: float) -> None:
    """The square of 1e-22 is among the smallest numbers of single precision, and that of 1e-30 is lost in it."""
    model = network().to(dtype)
    for parameter in model.parameters():
        parameter.data.fill_(value)
    penalty = group_lasso(1, granularity.filter()(model))
    assert bool(penalty(model).isfinite())
    penalty(model).backward()
    gradients = [p.grad for name, p in model.named_parameters() if name.endswith("weight")]
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)
    if value == 0:
        assert not any(gradient.any() for gradient in gradients if gradient is not None)


# ----------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("strength", [-1, -1e-9, math.nan, math.inf, -math.inf])
def test_a_strength_is_a_number_of_zero_or_more(strength: float) -> None:
    units = granularity.filter()(network())
    for make in (l1, l2, lambda s: group_lasso(s, units)):
        with pytest.raises(sc.RunError, match=rf"is {strength}; expected a number of 0 or more"):
            make(strength)


def test_no_strength_is_no_penalty() -> None:
    model = network()
    for penalty in (l1(0), l2(0), group_lasso(0, granularity.filter()(model))):
        assert penalty(model).item() == 0
        assert not bool(slopes(penalty, model).any())


def test_models_without_weights_are_refused() -> None:
    for penalty in (l1(1), l2(1)):
        with pytest.raises(sc.ModelError, match="ReLU has no linear or convolution layer to penalise"):
            penalty(nn.ReLU())


@pytest.mark.parametrize(
    ("units", "roles"),
    [
        ({}, ("out", "in")),
        ({"a": channels()}, ()),
        ({"a": channels()}, ("norm_scale",)),
        ({"a": channels(frozen="by hand")}, ("out",)),
    ],
)
def test_units_without_a_penalised_parameter_are_refused(units: dict[str, Units], roles: tuple[str, ...]) -> None:
    with pytest.raises(sc.PlanError, match=f"none of the {len(units)} groups has parameters of the roles"):
        group_lasso(1, units, roles=roles)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (nn.Sequential(nn.ReLU()), "has no parameter '0.weight'"),
        (nn.Sequential(nn.Linear(3, 1)), r"'0\.weight' of shape \(2, 3\), the model's is \(1, 3\)"),  # would broadcast
        (nn.Sequential(nn.Linear(3, 4)), r"'0\.weight' of shape \(2, 3\), the model's is \(4, 3\)"),
    ],
)
def test_the_units_of_another_model_are_refused(other: nn.Module, what: str) -> None:
    penalty = group_lasso(1, granularity.filter()(nn.Sequential(nn.Linear(3, 2))))
    with pytest.raises(sc.PlanError, match=what):
        penalty(other)


def test_penalties_have_names_and_can_be_copied() -> None:
    model = network()
    penalties = [l1(1e-4), l2(0.5), group_lasso(2, granularity.filter()(model))]
    assert list(map(repr, penalties)) == ["l1(0.0001)", "l2(0.5)", "group_lasso(2)"]
    assert [copy.deepcopy(penalty)(model).item() for penalty in penalties] == [p(model).item() for p in penalties]
