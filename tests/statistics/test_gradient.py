"""Mean gradients against autograd by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import secateur as sc
from secateur.errors import DataError
from tests.nets import Tied
from tests.small import data, network


def test_batches_are_weighted_by_their_size() -> None:
    """The gradient over all samples at once, whatever the batches."""
    model = network()
    inputs, labels = data(10)
    model.zero_grad()
    F.cross_entropy(model(inputs), labels).backward()
    batches = [(inputs[:7], labels[:7]), (inputs[7:9], labels[7:9]), (inputs[9:], labels[9:])]
    found = sc.calibrate(network(), batches, ["gradient"], loss=F.cross_entropy)
    assert found.samples == 10
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert torch.allclose(found.of("gradient", name), parameter.grad, rtol=1e-4, atol=1e-7)


def test_by_hand() -> None:
    """d/dw of mean (w x - t)^2 = mean 2 x (w x - t): with w = 2, x = 1, 3 and t = 0, 1: (4 + 30) / 2."""
    line = nn.Linear(1, 1, bias=False)
    line.weight.data.fill_(2)
    batch = (torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]]))
    found = sc.calibrate(line, [batch], ["gradient"], loss=F.mse_loss)
    assert found.of("gradient", "weight").tolist() == [[17]]


def test_shared_weights_have_one_gradient() -> None:
    model = Tied()
    inputs = torch.rand(3, 4)
    found = sc.calibrate(model, [(inputs, None)], ["gradient"], loss=lambda outputs, _: outputs.square().mean())
    model(inputs).square().mean().backward()
    assert model.first.weight.grad is not None
    assert torch.allclose(found.of("gradient", "first.weight"), model.first.weight.grad)


def test_half_precision_gradients_are_summed_in_single() -> None:
    line = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    batches = [(torch.ones(1, 1, dtype=torch.bfloat16), None)] * 300 + [(torch.full((1, 1), 3.0).bfloat16(), None)]
    found = sc.calibrate(line, batches, ["gradient"], loss=lambda outputs, _: outputs.mean()).of("gradient", "weight")
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(303 / 301, rel=1e-6)  # a sum in bfloat16 would stop at 256


def test_parameters_the_loss_does_not_reach_or_that_are_fixed_have_none() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle, self.fixed = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
            self.fixed.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.used(self.fixed(x)))

    found = sc.calibrate(Half(), [(torch.ones(1, 2), None)], ["gradient"], loss=lambda outputs, _: outputs.sum())
    assert set(found.values["gradient"]) == {"used.weight", "used.bias"}
    with pytest.raises(DataError, match=r"was not seen for 'idle\.weight': the data never reached it"):
        found.of("gradient", "idle.weight")


@pytest.mark.parametrize(
    "loss",
    [
        lambda outputs, _: outputs,
        lambda outputs, _: outputs.detach().sum(),
        lambda outputs, _: outputs.sum().item(),
        lambda outputs, _: None,
    ],
)
def test_a_loss_is_one_number_that_depends_on_the_parameters(loss) -> None:
    with pytest.raises(DataError, match="return the loss itself"):
        sc.calibrate(nn.Linear(2, 2), [(torch.ones(1, 2), None)], ["gradient"], loss=loss)


def test_a_model_without_trainable_parameters_has_no_gradient() -> None:
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(DataError, match="freeze no parameter that is pruned"):
        sc.calibrate(model, [(torch.ones(1, 2), None)], ["gradient"], loss=lambda outputs, _: outputs.sum())


def test_gradients_come_also_under_no_grad() -> None:
    with torch.no_grad():
        found = sc.calibrate(
            nn.Linear(2, 1), [(torch.ones(1, 2), None)], ["gradient"], loss=lambda outputs, _: outputs.sum()
        )
    assert found.of("gradient", "weight").tolist() == [[1, 1]]
