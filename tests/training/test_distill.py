"""Distillation: its loss by other routes, the teacher untouched, and runs that go on to the same bits."""

from __future__ import annotations

import copy
import math
from operator import length_hint
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Optimizer

import secateur as sc
from secateur.tasks import loader
from secateur.training import distill, rates, sgd
from secateur.training.distill import Taught
from tests.runs import EPOCHS, HOOKS, LOADERS, LOSS, STEPS, Stop, Training, batches, bits, descend, with_dropout
from tests.small import data, network
from tests.tiny import augmented, tiny

pytestmark = pytest.mark.usefixtures("seeded")  # which leaves the global generator as it was

DOUBLE = 2**-53  # a rounding of double precision
REACH = 8  # logits lie between -REACH and REACH

temperatures = st.floats(0.5, 8)
weights = st.floats(0, 1)


@st.composite
def answers(draw: st.DrawFn, positions: tuple[int, ...] = ()) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, logits of a teacher, and true classes."""
    samples, classes = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    drawn = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    shape = (samples, classes, *positions)
    outputs, logits = (REACH * (2 * torch.rand(shape, generator=drawn, dtype=torch.float64) - 1) for _ in range(2))
    return outputs, logits, torch.randint(classes, (samples, *positions), generator=drawn)


def both(outputs: Tensor, targets: tuple[Any, Tensor], **more: Any) -> Tensor:
    """The loss that `distill` makes of cross entropy."""
    return distill(nn.Identity(), [], LOSS, **more)[1](outputs, targets)


# ------------------------------------------------------------------------------------ the loss


@given(answers(), temperatures, weights)
def test_the_loss_is_the_divergence_of_another_implementation(
    drawn: tuple[Tensor, Tensor, Tensor], temperature: float, weight: float
) -> None:
    outputs, logits, truth = drawn
    p, q = (outputs / temperature).log_softmax(1), (logits / temperature).softmax(1)
    divergence = nn.functional.kl_div(p, q, reduction="batchmean")
    expected = (1 - weight) * LOSS(outputs, truth) + weight * temperature**2 * divergence
    found = both(outputs, (truth, logits), temperature=temperature, weight=weight)
    # Logits over T reach to 16, so logarithms of softmaxes lie between -(2 * 16 + ln 5) and 0, and so does the cross
    # entropy: all below 35. A few roundings of numbers so large make a relative error of 8 * 35 in a probability, which
    # is multiplied by a logarithm of 35 at most; probabilities add up to 1; T^2 is below 64; there are two routes.
    assert found.item() == pytest.approx(expected.item(), abs=2 * 64 * 8 * 35 * 35 * DOUBLE)


@given(answers(positions=(2, 3)), temperatures)
def test_positions_count_as_samples(drawn: tuple[Tensor, Tensor, Tensor], temperature: float) -> None:
    outputs, logits, truth = drawn
    flat = [value.movedim(1, -1).flatten(0, 2) for value in (outputs, logits)]
    found = both(outputs, (truth, logits), temperature=temperature)
    # As above, and a mean of at most 24 terms in another order.
    bound = (2 * 64 * 8 * 35 * 35 + 24 * 64 * 35) * DOUBLE
    assert found.item() == pytest.approx(
        both(flat[0], (truth.flatten(), flat[1]), temperature=temperature).item(), abs=bound
    )


def test_a_class_that_the_teacher_rules_out_adds_nothing() -> None:
    """Teacher (1/2, 1/2, 0), network (1/4, 1/4, 1/2): ln(1/2) - ln(1/4) = ln 2, and the gradient is p - q."""
    logits = torch.tensor([[0.0, 0.0, -math.inf]])
    outputs = torch.tensor([[0.0, 0.0, math.log(2)]], requires_grad=True)
    found = both(outputs, (None, logits), temperature=1, weight=1)
    found.backward()
    near = 20 * 2**-24  # single precision, some ten roundings of numbers below 2
    assert found.item() == pytest.approx(math.log(2), abs=near)
    assert outputs.grad is not None
    assert outputs.grad[0].tolist() == pytest.approx([-1 / 4, -1 / 4, 1 / 2], abs=near)
    # ruled out by both, a class is as if it were not there
    ruled_out = both(logits + torch.tensor([1.0, 0.0, 0.0]), (None, logits), temperature=1, weight=1)
    two = both(torch.tensor([[1.0, 0.0]]), (None, torch.zeros(1, 2)), temperature=1, weight=1)
    assert ruled_out.item() == two.item()


def test_two_classes_by_hand() -> None:
    """Outputs ln 3 apart, at T = 1: p = (3/4, 1/4); the teacher undecided: ln(1/2) - (ln 3/4 + ln 1/4) / 2 = 0.1438."""
    outputs, logits = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    taught = math.log(1 / 2) - (math.log(3 / 4) + math.log(1 / 4)) / 2
    truth = torch.tensor([0])
    # single precision, some ten roundings of numbers below 2
    near = 20 * 2**-24
    assert both(outputs, (truth, logits), temperature=1, weight=1).item() == pytest.approx(taught, abs=near)
    assert both(outputs, (truth, logits), temperature=1, weight=0.25).item() == pytest.approx(
        -0.75 * math.log(3 / 4) + 0.25 * taught, abs=near
    )
    # at T = 2 the odds are the root of 3
    p = math.sqrt(3) / (1 + math.sqrt(3))
    soft = math.log(1 / 2) - (math.log(p) + math.log(1 - p)) / 2
    assert both(outputs, (truth, logits), temperature=2, weight=1).item() == pytest.approx(4 * soft, abs=4 * near)


@given(answers(), temperatures)
def test_without_weight_the_teacher_says_nothing(drawn: tuple[Tensor, Tensor, Tensor], temperature: float) -> None:
    outputs, logits, truth = drawn
    logits[0, 0] = math.nan
    found = both(outputs, (truth, logits), temperature=temperature, weight=0)
    assert torch.equal(found, LOSS(outputs, truth))


@given(answers(), temperatures)
def test_at_full_weight_the_targets_say_nothing(drawn: tuple[Tensor, Tensor, Tensor], temperature: float) -> None:
    outputs, logits, truth = drawn
    one, two = (both(outputs, (any_, logits), temperature=temperature, weight=1) for any_ in (truth, None))
    assert torch.equal(one, two)
    assert one.item() >= -64 * 35 * 35 * 8 * DOUBLE  # no divergence is negative
    same = both(logits, (None, logits), temperature=temperature, weight=1)
    assert same.item() == 0


@given(answers(), st.floats(1e4, 1e6))
def test_the_gradient_tends_to_the_difference_of_logits_as_the_temperature_grows(
    drawn: tuple[Tensor, Tensor, Tensor], temperature: float
) -> None:
    """Hinton et al., equation 4, times T^2: (z_i - v_i) / N for logits of mean zero, whatever T is.

    The gradient is T (p - q). With a = z / T, below h = 16 / T once the mean is off, N p = e^a / mean(e^a) differs from
    1 + a by at most 3 h^2: e^a from 1 + a by h^2, the mean from 1 by h^2.
    """
    outputs, logits, _ = drawn
    samples, classes = outputs.shape
    outputs.requires_grad_()
    both(outputs, (None, logits), temperature=temperature, weight=1).backward()
    z, v = (value.detach() - value.detach().mean(1, keepdim=True) for value in (outputs, logits))
    assert outputs.grad is not None
    off = (outputs.grad - (z - v) / classes / samples).abs().max()
    # some 20 roundings of probabilities of at most 1, which T multiplies, on top
    assert float(off) <= temperature * (6 * (2 * REACH / temperature) ** 2 + 20 * DOUBLE)


def test_halves_are_computed_in_single_precision_and_the_rest_as_it_is() -> None:
    outputs, logits = torch.tensor([[1.0, -1.0]]), torch.tensor([[0.5, 0.25]])
    for kind, wide in ((torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)):
        found = both(outputs.to(kind), (None, logits.to(kind)), weight=1)
        assert found.dtype is wide
        assert torch.equal(found, both(outputs.to(wide), (None, logits.to(wide)), weight=1))


# ---------------------------------------------------------------------------------- the teacher


def test_the_teacher_is_evaluated_and_left_as_it_was() -> None:
    teacher = with_dropout(seed=3)
    teacher[0].eval()  # a mode of its own
    before = [bits(teacher.state_dict()), [module.training for module in teacher.modules()], torch.get_rng_state()]
    whole = copy.deepcopy(teacher).eval()
    taught, loss = distill(teacher, [data()], LOSS)
    ((inputs, (truth, logits)),) = taught
    assert torch.equal(inputs, data()[0])
    assert torch.equal(truth, data()[1])
    assert torch.equal(logits, whole(inputs))
    assert not logits.requires_grad
    assert bits(before) == bits(
        [bits(teacher.state_dict()), [module.training for module in teacher.modules()], torch.get_rng_state()]
    )
    descend(network(), taught, loss, learning_rate=0.1)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert bits(teacher.state_dict()) == before[0]


def test_the_teacher_is_left_in_its_mode_while_a_batch_is_out_and_after_an_error() -> None:
    teacher = with_dropout()
    modes = [module.training for module in teacher.modules()]
    for _ in Taught(teacher, [data(), data()]):
        assert [module.training for module in teacher.modules()] == modes
        assert torch.is_grad_enabled()
    with pytest.raises(RuntimeError, match="channels"):
        list(Taught(teacher, [(torch.zeros(2, 3, 6, 6), None)]))
    assert [module.training for module in teacher.modules()] == modes


def test_the_teacher_sees_the_inputs_that_the_network_sees() -> None:
    teacher = tiny().model().eval()
    seen = list(Taught(teacher, loader(augmented(), seed=1)))
    plain = list(loader(tiny(), seed=1))
    assert len(seen) == len(plain) == 4
    for (inputs, (_, logits)), (unchanged, _) in zip(seen, plain, strict=True):
        assert torch.equal(logits, teacher(inputs))
        assert not torch.equal(inputs, unchanged)


@pytest.mark.parametrize(
    "inputs", [(torch.ones(2, 1), torch.zeros(2, 1)), {"b": torch.zeros(2, 1), "a": torch.ones(2, 1)}]
)
def test_a_teacher_of_several_inputs_is_called_as_the_network_is(inputs: Any) -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return torch.cat([a, 2 * b - 1], 1)

    ((given_, (_, logits)),) = Taught(Two(), [(inputs, None)])
    assert given_ is inputs
    assert logits.tolist() == [[1, -1], [1, -1]]


def test_the_precision_of_the_teacher_is_that_of_the_run() -> None:
    teacher, kinds = network(), []
    taught, loss = distill(teacher, [data()], LOSS, autocast=torch.bfloat16)
    ((_, (_, logits)),) = taught
    assert logits.dtype is torch.bfloat16

    def noted(outputs: Tensor, targets: Any) -> Tensor:
        kinds.extend([outputs.dtype, targets[1].dtype, loss(outputs, targets).dtype])
        return loss(outputs, targets)

    descend(network(1), taught, noted, learning_rate=0.1, autocast=torch.bfloat16)
    assert kinds == [torch.bfloat16, torch.bfloat16, torch.float32]


class Returning(nn.Module):
    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, _: Tensor) -> Any:
        return self.value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"logits": torch.zeros(2, 2)}, "the teacher returned a dict; expected logits"),
        ((torch.zeros(2, 2),), "the teacher returned a tuple; expected logits"),
        (torch.zeros(2), r"a Tensor of shape \(2,\); expected logits \(samples, classes, ...\). Wrap it"),
    ],
)
def test_a_teacher_without_logits_is_refused(value: Any, words: str) -> None:
    taught, loss = distill(Returning(value), [(torch.zeros(2, 1), None)], LOSS)
    with pytest.raises(sc.ModelError, match=words):
        descend(nn.Linear(1, 2), taught, loss)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (torch.zeros(2, 1), r"outputs of shape \(2, 1\), its teacher logits of shape \(2, 3\)"),  # would broadcast
        (torch.zeros(2, 4), r"shape \(2, 4\)"),
        ({"logits": torch.zeros(2, 3)}, "outputs of type dict"),
    ],
)
def test_a_teacher_of_other_classes_is_refused(outputs: Any, words: str) -> None:
    with pytest.raises(sc.ModelError, match=words):
        both(outputs, (None, torch.zeros(2, 3)), weight=1)


@pytest.mark.parametrize("temperature", [0, -1, math.inf, math.nan])
def test_a_temperature_is_above_zero(temperature: float) -> None:
    with pytest.raises(sc.RunError, match=f"temperature of distillation is {temperature}; expected a number above 0"):
        distill(nn.Identity(), [], LOSS, temperature=temperature)


@pytest.mark.parametrize("weight", [-0.1, 1.1, math.nan])
def test_a_weight_is_from_zero_to_one(weight: float) -> None:
    with pytest.raises(sc.RunError, match=f"weight of distillation is {weight}; expected a number from 0"):
        distill(nn.Identity(), [], LOSS, weight=weight)


# ------------------------------------------------------------------------------------- training


def test_there_are_as_many_batches_as_before() -> None:
    assert length_hint(Taught(network(), batches())) == STEPS
    assert length_hint(Taught(network(), iter(range(5)))) == 5  # type: ignore[arg-type]
    assert length_hint(Taught(network(), (batch for batch in batches()))) == 0


def test_the_rate_moves_within_an_epoch_as_without_a_teacher() -> None:
    def moved(loader: Any, loss: Any) -> list[float]:
        seen: list[float] = []

        def optimizer(parameters: list[nn.Parameter], rate: float) -> Optimizer:
            made = sgd(parameters, rate)
            made.register_step_pre_hook(lambda *_: seen.append(made.param_groups[0]["lr"]))
            return made

        descend(network(), loader, loss, learning_rate=0.1, epochs=2, rate=rates.cosine(2), optimizer=optimizer)
        return seen

    plain = moved(batches(), LOSS)
    assert moved(*distill(network(), batches(), LOSS)) == plain
    assert len(set(plain)) == 2 * STEPS


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_batches_are_one_large_batch(accumulate: int) -> None:
    inputs, labels = data()
    inputs, size = inputs.double(), 24 // accumulate
    teacher, one, two = network(5).double(), network().double(), network().double()
    parts = [(inputs[at : at + size], labels[at : at + size]) for at in range(0, 24, size)]
    descend(one, *distill(teacher, [(inputs, labels)], LOSS), learning_rate=0.1)
    descend(two, *distill(teacher, parts, LOSS), learning_rate=0.1, accumulate=accumulate)
    assert not torch.equal(one[0].weight, network().double()[0].weight)
    # Gradients below 16 (T^2 = 16 times a difference of probabilities over T) as sums of 24 terms in another order,
    # each with the some 500 roundings of the layers after it.
    for name, value in one.state_dict().items():
        assert float((value - two.state_dict()[name]).abs().max()) < 0.1 * 16 * 24 * 500 * DOUBLE


def taught_training(hook: str, loader: str, seed: int = 6) -> Training:
    """A training whose batches and loss come from a teacher, always the same."""
    made = Training("sgd", hook, loader, seed)
    state = torch.get_rng_state()
    made.loader, made.loss = distill(with_dropout(seed=4), made.loader, LOSS, weight=0.5)
    torch.set_rng_state(state)  # the teacher was drawn from it
    return made


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("loader", LOADERS)
def test_going_on_is_never_having_stopped(tmp_path: Path, hook: str, loader: str) -> None:
    whole = taught_training(hook, loader)
    history = whole.run()
    left, path = whole.bits(), tmp_path / "run.safetensors"
    plain = Training("sgd", hook, loader)
    assert plain.run() != history
    for stop in (STEPS, 2 * STEPS + 1):
        path.unlink(missing_ok=True)
        with pytest.raises(Stop):
            taught_training(hook, loader).run(stop=stop, checkpoint=path)
        again = taught_training(hook, loader, seed=60 + stop)
        assert again.run(checkpoint=path, resume=True) == history
        assert again.steps == EPOCHS * STEPS - stop // STEPS * STEPS
        assert again.bits() == left


def test_at_full_weight_targets_are_not_learned() -> None:
    inputs, labels = data()
    left = []
    for truth in (labels, None):
        model = network()
        descend(model, *distill(network(3), [(inputs, truth)], LOSS, weight=1), learning_rate=0.1, epochs=3)
        left.append(bits(model.state_dict()))
    assert left[0] == left[1] != bits(network().state_dict())
