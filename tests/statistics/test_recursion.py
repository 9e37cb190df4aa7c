"""LeCun's recursion against whole matrices where it is exact, and against the paper's equations in loops elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import secateur as sc
from secateur.errors import DataError, ModelError
from tests.nets import LAYERS, layer
from tests.statistics.dense import diagonal, full_ggn, full_hessian
from tests.statistics.test_curvature import ACTIVATIONS, assert_same, measured


def mlp(*widths: int, activation: str = "tanh", seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1]).double()


def data_for(inputs: int, outputs: int, loss: Any, samples: int = 5) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(samples, inputs, generator=draw).double()
    if loss is F.mse_loss:
        return x, torch.randn(samples, outputs, generator=draw).double()
    return x, torch.randint(outputs, (samples,), generator=draw)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@given(seed=st.integers(0, 100), hidden=st.integers(1, 5))
@settings(max_examples=5)
def test_behind_one_hidden_layer_and_with_one_output_it_is_exact(activation: str, seed: int, hidden: int) -> None:
    model = mlp(3, hidden, 1, activation=activation, seed=seed)
    x, t = data_for(3, 1, F.mse_loss)
    assert_same(measured("recursion", model, [(x, t)], F.mse_loss), diagonal(model, full_ggn(model, x, t, F.mse_loss)))
    full = measured("full_recursion", model, [(x, t)], F.mse_loss)
    assert_same(full, diagonal(model, full_hessian(model, x, t, F.mse_loss)))


@pytest.mark.parametrize("loss", [F.cross_entropy, F.mse_loss])
def test_in_the_last_layer_it_is_exact_and_before_it_is_not(loss: Any) -> None:
    model = mlp(3, 4, 4, 3)
    x, t = data_for(3, 3, loss)
    found = measured("recursion", model, [(x[:2], t[:2]), (x[2:], t[2:])], loss)
    wanted = diagonal(model, full_ggn(model, x, t, loss))
    for name in ("4.weight", "4.bias"):
        assert torch.allclose(found[name], wanted[name], rtol=1e-9)
    assert not torch.allclose(found["0.weight"], wanted["0.weight"], rtol=0.05)


def by_hand(model: nn.Sequential, x: Tensor, d: Tensor, full: bool) -> dict[str, Tensor]:
    """The equations of the paper, pattern by pattern, for x_i = f(a_i) in all layers but the last and E = mean of
    (d - a)^2 over outputs and patterns; the sign before f'' is a plus."""
    layers = [module for module in model if isinstance(module, nn.Linear)]
    found = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for pattern, wanted in zip(x, d, strict=True):
        states, sums = [pattern], []
        for place, each in enumerate(layers):
            sums.append(each.weight.detach() @ states[-1] + each.bias.detach())
            states.append(sums[-1].tanh() if place < len(layers) - 1 else sums[-1])
        second = torch.full_like(wanted, 2 / len(wanted))
        first = 2 * (states[-1] - wanted) / len(wanted)
        for place in reversed(range(len(layers))):
            name = 2 * place
            found[f"{name}.weight"] += torch.outer(second, states[place].square()) / len(x)
            found[f"{name}.bias"] += second / len(x)
            if place:
                weight = layers[place].weight.detach()
                slope_of_x, curve_of_x = weight.T @ first, weight.T.square() @ second
                f1 = 1 - states[place].square()
                f2 = -2 * states[place] * f1
                second = f1.square() * curve_of_x + (f2 * slope_of_x if full else 0)
                first = f1 * slope_of_x
    return found


@pytest.mark.parametrize("full", [False, True])
@given(seed=st.integers(0, 100))
@settings(max_examples=5)
def test_it_is_the_recursion_of_the_paper(full: bool, seed: int) -> None:
    model = mlp(3, 4, 5, 2, seed=seed)
    x, d = data_for(3, 2, F.mse_loss)
    assert_same(
        measured("full_recursion" if full else "recursion", model, [(x, d)], F.mse_loss), by_hand(model, x, d, full)
    )


def test_cross_entropy_starts_from_p_times_one_minus_p() -> None:
    model = nn.Linear(2, 3).double()
    x, t = data_for(2, 3, F.cross_entropy)
    p = model(x).softmax(1).detach()
    found = measured("recursion", model, [(x, t)], F.cross_entropy)
    assert torch.allclose(found["bias"], (p * (1 - p)).mean(0))
    assert torch.allclose(found["weight"], torch.einsum("no,ni->oi", p * (1 - p), x.square()) / len(x))


@pytest.mark.parametrize("kind", LAYERS)
def test_every_kind_of_layer_sums_over_the_places_where_a_weight_is_used(kind: str) -> None:
    """The layer as a plain matrix from inputs to outputs; each weight sits at several places of it."""
    module: Any = layer(kind).double()
    linear = isinstance(module, nn.Linear)
    channels = module.in_features if linear else module.in_channels
    space = [] if linear else [5 + place for place in range(len(module.kernel_size))]
    x = torch.randn(2, channels, *space, generator=torch.Generator().manual_seed(0)).double()
    model = nn.Sequential(module, nn.Flatten())
    targets = torch.zeros_like(model(x)).detach()
    found = measured("recursion", model, [(x, targets)], lambda outputs, _: outputs.square().sum(1).mean())
    # the Jacobian of the outputs by the weights holds, for each output, the input that each weight multiplies
    weight = module.weight.detach()
    for sample in x:
        slopes = torch.autograd.functional.jacobian(
            lambda w, sample=sample: torch.func.functional_call(module, {"weight": w}, (sample[None],)), weight
        )
        found["0.weight"] = found["0.weight"] - 2 * slopes.flatten(0, -weight.ndim - 1).square().sum(0) / len(x)
    assert float(found["0.weight"].abs().max()) < 1e-9


class Functional(nn.Module):
    """Everything that the recursion goes through, as functions."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)
        self.grouped, self.fc, self.inplace = nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.Linear(4, 2), inplace
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)
        self.norm.weight.data.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)), inplace=self.inplace)
        x = F.max_pool2d(x, 2)
        x = F.dropout(torch.tanh(self.grouped(x)), training=self.training)
        x = F.avg_pool2d(x, 2)
        return torch.as_tensor(self.fc(x.reshape(len(x), -1)))


class Modules(nn.Sequential):
    """The same as modules."""

    def __init__(self, like: Functional) -> None:
        super().__init__(
            like.conv, like.norm, nn.ReLU(), nn.MaxPool2d(2), like.grouped, nn.Tanh(), nn.Dropout(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), like.fc,
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["recursion", "full_recursion"])
def test_functions_and_modules_are_the_same(kind: str) -> None:
    plain = Functional().double()
    x, t = torch.randn(3, 1, 8, 8).double(), torch.tensor([0, 1, 1])
    found = measured(kind, plain, [(x, t)], F.cross_entropy)
    again = measured(kind, Modules(plain), [(x, t)], F.cross_entropy)
    assert_same(dict(zip(found, again.values(), strict=True)), found)
    inplace = Functional(inplace=True).double()
    assert_same(measured(kind, inplace, [(x, t)], F.cross_entropy), found)


def test_batch_norm_in_evaluation_mode_is_a_scale_and_a_shift() -> None:
    """One output behind one layer: exact, scale and shift as well."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)).double()
    model[1].running_mean.uniform_(-1, 1)
    model[1].running_var.uniform_(0.5, 2)
    model[1].weight.data.uniform_(0.5, 2)
    model.eval()
    x, t = data_for(3, 1, F.mse_loss)
    assert_same(measured("recursion", model, [(x, t)], F.mse_loss), diagonal(model, full_ggn(model, x, t, F.mse_loss)))


def max_of_pairs(x: Tensor) -> Tensor:
    return F.max_pool1d(x[:, None], 2)[:, 0]


def mean_of_pairs(x: Tensor) -> Tensor:
    return F.avg_pool1d(x[:, None], 2)[:, 0]


@pytest.mark.parametrize("pool", [max_of_pairs, mean_of_pairs])
def test_pooling(pool: Callable[[Tensor], Tensor]) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(3, 4), nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.last(pool(self.first(x))))

    model = Pooled().double()
    x, t = data_for(3, 1, F.mse_loss)
    assert_same(measured("recursion", model, [(x, t)], F.mse_loss), diagonal(model, full_ggn(model, x, t, F.mse_loss)))


def test_with_straight_pieces_both_are_the_same_and_nowhere_negative() -> None:
    model = mlp(3, 4, 4, 2, activation="relu")
    x, t = data_for(3, 2, F.mse_loss)
    one, other = (measured(kind, model, [(x, t)], F.mse_loss) for kind in ("recursion", "full_recursion"))
    assert_same(one, other)
    assert all(bool((value >= 0).all()) for value in one.values())


@pytest.mark.parametrize(
    ("forward", "function"),
    [
        (lambda self, x: self.fc(x) * self.fc(x), "mul"),
        (lambda self, x: self.fc(x).softmax(1), "softmax"),
        (lambda self, x: F.dropout(self.fc(x), 0.5, True), "dropout"),
        (lambda self, x: F.layer_norm(self.fc(x), (2,)), "layer_norm"),
        (lambda self, x: F.batch_norm(self.fc(x), None, None, training=True), "batch_norm"),
        (lambda self, x: F.avg_pool1d(self.fc(x)[:, None], 2, ceil_mode=True)[:, 0], "avg_pool1d"),
        (lambda self, x: F.linear(x, self.fc.weight.clamp(min=0)), "clamp"),
    ],
)
def test_what_it_does_not_go_through_is_named(forward: Any, function: str) -> None:
    class Strange(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)

    Strange.forward = forward  # type: ignore[method-assign]
    model = nn.Sequential(nn.Linear(2, 2), Strange())
    with pytest.raises(ModelError, match=rf"does not go through '{function}' in 1 \(Strange\)"):
        measured("recursion", model, [(torch.ones(3, 2), None)], lambda outputs, _: outputs.square().mean())


def test_outputs_that_depend_on_no_parameter_are_refused() -> None:
    class Idle(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(DataError, match="depend on no parameter"):
        measured("recursion", Idle(2, 2), [(torch.ones(3, 2), None)], lambda outputs, _: outputs.square().mean())


def test_a_weight_used_twice_has_the_sum_of_both_places() -> None:
    shared = nn.Linear(2, 2, bias=False).double()
    x, t = data_for(2, 2, F.mse_loss)
    found = measured("recursion", nn.Sequential(shared, shared), [(x, t)], F.mse_loss)["0.weight"]
    weight = shared.weight.detach()
    behind = x.square().mean(0).expand(2, 2) * weight.square().sum(0)[:, None]  # h_x = sum_l w_l^2 h_l, h_l = 2/2
    assert torch.allclose(found, behind + (x @ weight.T).square().mean(0).expand(2, 2))


def test_the_model_is_as_before() -> None:
    model = Functional()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    data = [(torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 1]))]
    sc.calibrate(model, data, ["curvature_recursion", "curvature_full_recursion"], loss=F.cross_entropy)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
