"""Diagonals of curvature against whole matrices, and against the recursion by hand."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import secateur as sc
from secateur.errors import DataError, ModelError, SecateurError
from secateur.statistics import Hutchinson, HutchinsonGGN, MonteCarlo
from secateur.statistics.calibrate import COLLECTORS
from tests.statistics.dense import diagonal, full_ggn, full_hessian

KINDS = [kind.removeprefix("curvature_") for kind in COLLECTORS if kind.startswith("curvature_")]
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def convolutional(activation: str = "tanh", seed: int = 0) -> nn.Sequential:
    """A convolution, a pool and two linear layers, 3 outputs; inputs 1 x 4 x 4."""
    torch.manual_seed(seed)
    act = ACTIVATIONS[activation]
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), act(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 4), act(), nn.Linear(4, 3)
    ).double()


def images(samples: int = 6, seed: int = 1) -> Tensor:
    return torch.randn(samples, 1, 4, 4, generator=torch.Generator().manual_seed(seed)).double()


def targets_for(loss: Any, samples: int = 6, outputs: int = 3) -> Tensor:
    draw = torch.Generator().manual_seed(2)
    if loss is F.mse_loss:
        return torch.randn(samples, outputs, generator=draw).double()
    return torch.randint(outputs, (samples,), generator=draw)


def measured(kind: str, model: nn.Module, data: list[Any], loss: Any, **options: Any) -> dict[str, Tensor]:
    made: Any = {f"curvature_{kind}": partial(COLLECTORS[f"curvature_{kind}"], **options)}
    found = sc.calibrate(model, data, made, loss=loss, collectors=made)
    return dict(found.values[f"curvature_{kind}"])


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.allclose(found[name], value, rtol=1e-9, atol=1e-12), name


@pytest.mark.parametrize("loss", [F.cross_entropy, F.mse_loss])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_exact_is_the_diagonal_of_the_whole_gauss_newton_matrix(activation: str, loss: Any) -> None:
    model, x, t = convolutional(activation), images(), targets_for(loss)
    found = measured("exact", model, [(x[:4], t[:4]), (x[4:], t[4:])], loss)  # batches of other sizes count as they are
    assert_same(found, diagonal(model, full_ggn(model, x, t, loss)))


def test_exact_takes_any_convex_loss_and_refuses_others() -> None:
    model, x, t = convolutional(), images(), targets_for(F.mse_loss)

    def quartic(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).pow(4).sum(1).mean()

    assert_same(measured("exact", model, [(x, t)], quartic), diagonal(model, full_ggn(model, x, t, quartic)))
    for kind in ("exact", "monte_carlo"):
        with pytest.raises(DataError, match="convex in the outputs"):
            measured(kind, model, [(x, t)], lambda outputs, _: -outputs.square().mean())
        with pytest.raises(DataError, match="mean or a sum over samples; this one mixes them"):
            measured(kind, model, [(x, t)], lambda outputs, _: outputs.mean(0).square().sum())


def test_code_that_looks_at_values_goes_sample_by_sample() -> None:
    class Looking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = convolutional()

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.inner(x) if float(x.abs().max()) < 100 else x)

    model, x, t = Looking(), images(), targets_for(F.mse_loss)
    found = measured("exact", model, [(x, t)], F.mse_loss)
    wanted = measured("exact", model.inner, [(x, t)], F.mse_loss)
    assert_same({name.removeprefix("inner."): value for name, value in found.items()}, wanted)


def test_inputs_by_name_and_beside_the_samples() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2).double()

        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return torch.as_tensor(self.fc(x * scale))

    model = Scaled()
    x, scale = torch.randn(5, 2).double(), torch.tensor(3.0).double()
    t = torch.zeros(5, 2).double()
    for inputs in ((x, scale), {"x": x, "scale": scale}):
        found = measured("exact", model, [(inputs, t)], F.mse_loss)["fc.weight"]
        assert torch.allclose(found, (x * scale).square().mean(0).expand(2, 2))  # 2/2 outputs times x^2


@pytest.mark.parametrize("loss", [F.cross_entropy, F.mse_loss])
@pytest.mark.parametrize("kind", ["hutchinson", "hutchinson_ggn"])
def test_hutchinson_is_unbiased_within_its_own_standard_error(kind: str, loss: Any) -> None:
    model, x, t = convolutional(), images(), targets_for(loss)
    whole = full_hessian if kind == "hutchinson" else full_ggn
    name = f"curvature_{kind}"
    made: Any = {name: partial({"hutchinson": Hutchinson, "hutchinson_ggn": HutchinsonGGN}[kind], probes=400)}
    found = sc.calibrate(model, [(x[:4], t[:4]), (x[4:], t[4:])], made, loss=loss, collectors=made)
    errors = []
    for parameter, wanted in diagonal(model, whole(model, x, t, loss)).items():
        error = found.of(f"{name}_error", parameter)
        assert bool((error > 0).all())
        errors.append(((found.of(name, parameter) - wanted) / error).flatten())
    sizes = torch.cat(errors)
    assert float(sizes.abs().max()) < 4
    assert 0.5 < float(sizes.square().mean()) < 1.5  # and the standard error is of the right size


def test_the_standard_error_is_the_spread_of_estimates() -> None:
    model, x, t = convolutional(), images(), targets_for(F.mse_loss)
    runs = [measured("hutchinson_ggn", model, [(x, t)], F.mse_loss, probes=4, seed=seed) for seed in range(150)]
    spread = torch.stack([run["0.weight"] for run in runs]).var(0)
    made: Any = {"curvature_hutchinson_ggn": partial(HutchinsonGGN, probes=200, seed=999)}
    found = sc.calibrate(model, [(x, t)], made, loss=F.mse_loss, collectors=made)
    told = found.of("curvature_hutchinson_ggn_error", "0.weight").square() * 200 / 4
    assert torch.allclose(spread.mean(), told.mean(), rtol=0.3)  # both are estimates from 150 draws and more


def test_one_probe_gives_no_standard_error() -> None:
    made: Any = {"curvature_hutchinson": partial(Hutchinson, probes=1)}
    found = sc.calibrate(convolutional(), [(images(), targets_for(F.mse_loss))], made, loss=F.mse_loss, collectors=made)
    assert found.kinds == {"curvature_hutchinson"}


@pytest.mark.parametrize("loss", [F.cross_entropy, nn.CrossEntropyLoss(), F.mse_loss])
def test_monte_carlo_is_unbiased(loss: Any) -> None:
    model, x, t = convolutional(), images(), targets_for(F.mse_loss if loss is F.mse_loss else F.cross_entropy)
    runs = [
        measured("monte_carlo", model, [(x[:4], t[:4]), (x[4:], t[4:])], loss, samples=40, seed=seed)
        for seed in range(30)
    ]
    for parameter, wanted in diagonal(model, full_ggn(model, x, t, loss)).items():
        each = torch.stack([run[parameter] for run in runs])
        assert bool((each >= 0).all())
        error = each.std(0) / math.sqrt(len(runs))
        assert bool(((each.mean(0) - wanted).abs() <= 4.5 * error + 1e-9 * wanted).all())


def test_labels_are_drawn_for_every_position_of_a_map() -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(1, 3, 1).double()
    x, t = images(), torch.randint(3, (6, 4, 4))
    found = measured("monte_carlo", model, [(x, t)], F.cross_entropy, samples=400)
    wanted = diagonal(model, full_ggn(model, x, t, F.cross_entropy))
    for name, value in wanted.items():
        assert torch.allclose(found[name], value, rtol=0.15)


@pytest.mark.parametrize("loss", [F.cross_entropy, F.mse_loss])
def test_empirical_fisher_is_the_mean_of_squared_gradients_of_samples(loss: Any) -> None:
    model, x, t = convolutional(), images(), targets_for(loss)
    wanted = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for sample in range(6):
        value = loss(model(x[sample : sample + 1]), t[sample : sample + 1])
        for name, gradient in zip(wanted, torch.autograd.grad(value, list(model.parameters())), strict=True):
            wanted[name] = wanted[name] + gradient.square() / 6
    found = measured("empirical_fisher", model, [(x[:4], t[:4]), (x[4:], t[4:])], loss)
    assert_same(found, {name: value.detach() for name, value in wanted.items()})


def test_without_activations_and_with_squared_errors_the_hessian_of_the_last_layer_is_gauss_newtons() -> None:
    """A single linear layer: the loss is quadratic, and every way that knows it gives the same diagonal."""
    model = nn.Linear(3, 2).double()
    x, t = torch.randn(5, 3).double(), torch.randn(5, 2).double()
    wanted = diagonal(model, full_hessian(model, x, t, F.mse_loss))
    for kind in ("exact", "recursion", "full_recursion"):
        assert_same(measured(kind, model, [(x, t)], F.mse_loss), wanted)
    assert_same(wanted, diagonal(model, full_ggn(model, x, t, F.mse_loss)))


@pytest.mark.parametrize("kind", KINDS)
@given(factor=st.floats(0.01, 100))
@settings(max_examples=5)
def test_a_loss_times_c_has_curvature_times_c(kind: str, factor: float) -> None:
    model, x, t = convolutional(), images(), targets_for(F.mse_loss)
    once = measured(kind, model, [(x, t)], F.mse_loss)
    scaled = measured(kind, model, [(x, t)], lambda outputs, targets: factor * F.mse_loss(outputs, targets))
    times = factor**2 if kind == "empirical_fisher" else factor  # it is made of squared gradients
    for name, value in once.items():
        assert torch.allclose(scaled[name], times * value, rtol=1e-6, atol=1e-9 * times)


def test_seeds_fix_the_draws() -> None:
    model, data = convolutional(), [(images(), targets_for(F.cross_entropy))]
    for kind in ("hutchinson", "hutchinson_ggn", "monte_carlo"):
        one, again = (measured(kind, model, data, F.cross_entropy, seed=3) for _ in range(2))
        other = measured(kind, model, data, F.cross_entropy, seed=4)
        assert all(torch.equal(one[name], again[name]) for name in one)
        assert not torch.equal(one["0.weight"], other["0.weight"])


def test_a_probe_costs_two_passes_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of autograd: one gradient for the batch, then one through it for each probe."""
    calls: list[int] = []
    grad = torch.autograd.grad

    def counted(*args: Any, **named: Any) -> Any:
        calls.append(1)
        return grad(*args, **named)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    model, data = convolutional(), [(images(), targets_for(F.mse_loss))]
    counts = []
    for probes in (1, 5):
        calls.clear()
        measured("hutchinson", model, data, F.mse_loss, probes=probes)
        counts.append(len(calls))
    assert counts == [2, 6]


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_measured_is_said(kind: str) -> None:
    frozen = nn.Linear(2, 2).requires_grad_(False)
    data = [(torch.ones(3, 2), torch.zeros(3, 2))]
    with pytest.raises(DataError, match="require gradients"):
        measured(kind, frozen, data, F.mse_loss)
    with pytest.raises(DataError, match="loss"):
        measured(kind, nn.Linear(2, 2), data, lambda outputs, _: outputs.sum().item())
    with pytest.raises(DataError, match=r"need a loss: pass loss="):
        measured(kind, nn.Linear(2, 2), data, None)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"hutchinson"}))
def test_outputs_have_a_row_for_each_sample(kind: str) -> None:
    class Summed(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).sum(0)

    with pytest.raises(DataError, match="a row for each of 3 samples"):
        measured(kind, Summed(2, 2), [(torch.ones(3, 2), None)], lambda outputs, _: outputs.square().sum())


@pytest.mark.parametrize("kind", KINDS)
def test_it_works_under_no_grad_and_leaves_frozen_parameters_out(kind: str) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    model[2].requires_grad_(False)
    with torch.no_grad():
        found = sc.calibrate(model, [(torch.ones(3, 2), torch.zeros(3, 2))], [f"curvature_{kind}"], loss=F.mse_loss)
    assert set(found.values[f"curvature_{kind}"]) == {"0.weight", "0.bias"}
    with pytest.raises(DataError, match=r"'2\.weight'.*or it is frozen"):
        found.of(f"curvature_{kind}", "2.weight")


@pytest.mark.parametrize("make", [Hutchinson, HutchinsonGGN])
def test_at_least_one_probe_and_one_draw(make: Any) -> None:
    with pytest.raises(SecateurError, match="at least one probe is needed; given: 0"):
        make(probes=0)
    with pytest.raises(SecateurError, match="at least one draw is needed for each sample; given: 0"):
        MonteCarlo(samples=0)


def test_a_loss_that_is_linear_in_the_outputs_has_no_curvature_there() -> None:
    model = nn.Linear(2, 2)
    for kind in ("exact", "monte_carlo", "recursion", "hutchinson", "hutchinson_ggn"):
        found = measured(kind, model, [(torch.ones(3, 2), None)], lambda outputs, _: outputs.sum())
        assert not any(bool(value.any()) for value in found.values())


def test_too_many_outputs_for_blocks_are_refused_with_the_way_out() -> None:
    model = nn.Linear(1, 20_000)
    with pytest.raises(DataError, match=r"1 x 20000 outputs block by block, which is too large: use 'curvature_hutch"):
        measured("exact", model, [(torch.ones(1, 1), torch.ones(1, 20_000))], F.mse_loss)


def test_refusals_of_the_recursion_name_module_and_function() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.fc(x)
            return torch.as_tensor(hidden + torch.relu(hidden))

    model = nn.Sequential(nn.Linear(2, 2), Residual())
    with pytest.raises(ModelError, match=r"does not go through 'add' in 1 \(Residual\).*Use 'curvature_monte_carlo'"):
        measured("recursion", model, [(torch.ones(3, 2), torch.zeros(3, 2))], F.mse_loss)
