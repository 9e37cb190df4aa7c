"""Weight rewinding: early weights under a plan's masks, and training taken up where it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.training import finetune, rates, rewind
from tests.runs import LOSS, bits, with_dropout
from tests.small import GRANULARITIES, data, network, pruner, zeros_kept

pytestmark = pytest.mark.usefixtures("seeded")  # which leaves the global generator as it was


def moved(model: nn.Module, seed: int) -> nn.Module:
    """The model with other weights and other running statistics."""
    drawn = torch.Generator().manual_seed(seed)
    for value in [*model.parameters(), *model.buffers()]:
        if value.is_floating_point():
            value.data.copy_(torch.rand(value.shape, generator=drawn) + 0.1)
    return model


@given(
    seeds=st.tuples(st.integers(0, 50), st.integers(51, 99)),
    sparsity=st.floats(0, 0.95),
    granularity=st.sampled_from(sorted(GRANULARITIES)),
)
def test_what_stays_is_the_early_weight_and_what_goes_is_zero(
    seeds: tuple[int, int], sparsity: float, granularity: str
) -> None:
    early = moved(with_dropout(), seeds[0]).state_dict()
    kept_early = {name: value.clone() for name, value in early.items()}
    model = moved(with_dropout(), seeds[1])
    plan = pruner(GRANULARITIES[granularity]).plan(model, sc.Budget(sparsity=sparsity))
    rewind(model, early, plan)
    masks = plan.masks()
    for name, value in model.state_dict().items():  # parameters, and the running statistics of a batch norm
        assert torch.equal(value, kept_early[name] * masks[name] if name in masks else kept_early[name]), name
    assert bits(early) == bits(kept_early)
    model.get_parameter("0.weight").data.fill_(7)
    assert bits(early) == bits(kept_early)  # the model does not share its memory


class Remembering(nn.Linear):
    """A layer with a state besides tensors."""

    note = "now"

    def get_extra_state(self) -> Any:
        return {"note": self.note}

    def set_extra_state(self, state: Any) -> None:
        self.note = state["note"]


def test_a_state_besides_tensors_is_rewound_too() -> None:
    model = nn.Sequential(Remembering(3, 2))
    early = {**model.state_dict(), "0._extra_state": {"note": "then"}}
    plan = pruner().plan(model, sc.Budget(sparsity=0.5))
    rewind(model, early, plan)
    assert model[0].note == "then"
    del early["0._extra_state"]
    assert_refused(model, early, plan, sc.ModelError, r"0\._extra_state: none, model no tensor")


def test_the_values_that_a_plan_mended_are_those_of_trained_weights_and_stay_out() -> None:
    early, model = network(0).state_dict(), network(1)
    plan = replace(pruner().plan(model, sc.Budget(sparsity=0.5)), updates={"0.weight": torch.full((8, 1, 3, 3), 9.0)})
    rewind(model, early, plan)
    assert torch.equal(model[0].weight, early["0.weight"] * plan.masks()["0.weight"])


# ------------------------------------------------------------------------------------ refusals


def assert_refused(model: nn.Module, early: Any, plan: sc.Plan, error: type[Exception], words: str) -> None:
    before = bits(model.state_dict())
    with pytest.raises(error, match=words):
        rewind(model, early, plan)
    assert bits(model.state_dict()) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"8.weight": torch.zeros(5, 12)},
            r"1 entries differ \(8\.weight: \(5, 12\), model \(4, 12\)\)\. Give its own",
        ),
        ({"9.weight": torch.zeros(1)}, r"9\.weight: \(1,\), model none"),
        ({"0.bias": None}, r"0\.bias: none, model \(8,\)"),
    ],
)
def test_the_state_of_another_model_is_refused_and_nothing_changed(change: dict[str, Any], words: str) -> None:
    model = network()
    early = {name: value + 1 for name, value in model.state_dict().items()} | change
    early = {name: value for name, value in early.items() if value is not None}
    plan = pruner().plan(model, sc.Budget(sparsity=0.5))
    assert_refused(
        model, early, plan, sc.ModelError, f"not one of this Sequential: {words}" if "1 e" in words else words
    )


@pytest.mark.parametrize("other", [with_dropout, lambda: nn.Sequential(nn.Conv2d(1, 4, 3))])
def test_a_plan_of_another_model_is_refused_and_nothing_changed(other: Any) -> None:
    model = network()
    early = {name: value + 1 for name, value in model.state_dict().items()}
    plan = pruner().plan(other(), sc.Budget(sparsity=0.5))
    assert_refused(model, early, plan, sc.PlanError, "the plan")


# ---------------------------------------------------------------------------------- training on


def trained(model: nn.Module, epochs: int, rate: rates.Rate, states: list[Any], **more: Any) -> None:
    """Gradient descent without a memory, over batches without chance; four steps an epoch, so that times are exact."""
    inputs, labels = data()
    parts = [(inputs[at : at + 6], labels[at : at + 6]) for at in range(0, 24, 6)]
    states.append(bits(model.state_dict()))
    finetune(
        model,
        parts,
        LOSS,
        learning_rate=0.1,
        divide_by=1,
        rate=rate,
        epochs=epochs,
        optimizer=torch.optim.SGD,
        on_epoch=lambda _: states.append(bits(model.state_dict())),
        progress=False,
        **more,
    )


@pytest.mark.parametrize("epoch", [0, 1, 3])
@pytest.mark.parametrize("rate", [rates.cosine(4), rates.cosine(4, warm_up=2), rates.steps([1, 3])])
def test_from_early_weights_at_the_rewound_rate_training_goes_as_it_went(epoch: int, rate: rates.Rate) -> None:
    model = network()
    whole: list[Any] = []
    again: list[Any] = []
    trained(model, epoch, rate, [])
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    dense = network()
    trained(dense, 4, rate, whole)
    nothing = pruner().plan(dense, sc.Budget(sparsity=0))
    rewind(dense, kept, nothing)
    trained(dense, 4 - epoch, rates.rewound(rate, epoch), again, plan=nothing)
    assert again == whole[epoch:]
    assert len({str(state) for state in whole}) == 5


def test_a_rewound_network_is_trained_with_its_zeros_held() -> None:
    model = network()
    early = {name: value.clone() for name, value in model.state_dict().items()}
    trained(model, 4, rates.cosine(4), [])
    plan = pruner().plan(model, sc.Budget(sparsity=0.8))
    rewind(model, early, plan)
    states: list[Any] = []
    trained(model, 4, rates.rewound(rates.cosine(4), 0), states, plan=plan)
    for name, mask in plan.masks().items():
        early[name].masked_fill_(~mask, 0)
    assert states[0] == bits(early)
    assert states[0] != states[-1]
    assert zeros_kept(model, plan)


def test_the_rewound_rate_is_the_rate_of_later_epochs() -> None:
    def rate(epoch: float) -> float:
        return 100 - epoch

    assert [rates.rewound(rate, 2.5)(epoch) for epoch in (0, 0.5, 4)] == [97.5, 97, 93.5]
    assert repr(rates.rewound(rates.cosine(4), 3)) == "rewound(cosine(4), 3)"
