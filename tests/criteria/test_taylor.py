"""First-order criteria, mini-batch by mini-batch, against autograd on the whole unit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import secateur as sc
from secateur import allocation, criteria, granularity, schedules
from secateur.criteria import Criterion, Group
from secateur.errors import DataError, ModelError, UnknownNameError
from secateur.granularity import Granularity
from secateur.training import GradualPruning

EXAMPLE = torch.zeros(1, 2, 4, 4)


class Normed(nn.Module):
    """A convolution with a norm behind it, and one without."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.second, self.fc = nn.Conv2d(4, 3, 1), nn.Linear(12, 2)
        self.norm.weight.data.uniform_(0.5, 2)
        self.norm.bias.data.uniform_(-1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.fc(self.second(self.norm(self.conv(x)).relu()).relu().flatten(1)))


def batches(sizes: tuple[int, ...] = (5, 3)) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    return [(torch.randn(size, 2, 4, 4, generator=draw), torch.randint(2, (size,), generator=draw)) for size in sizes]


def scores(criterion: Criterion, build: Granularity, model: nn.Module, data: Any, name: str) -> Tensor:
    units = build(model)
    found = sc.calibrate(model, data, criterion.needs, loss=F.cross_entropy, units=units)
    held = {axis: model.get_parameter(axis.parameter).detach() for axis in units[name].index}
    return criterion.score(Group(name, units[name], held, found))


def products(model: nn.Module, data: Any) -> list[dict[str, Tensor]]:
    """g w of each mini-batch, by parameter."""
    found = []
    for x, t in data:
        gradients = torch.autograd.grad(F.cross_entropy(model.eval()(x), t), list(model.parameters()))
        pairs = zip(model.named_parameters(), gradients, strict=True)
        found.append({name: (value * gradient).detach() for (name, value), gradient in pairs})
    return found


def test_weights_are_squared_one_by_one_and_batch_by_batch() -> None:
    model = Normed()
    wanted = torch.stack([each["conv.weight"].square().sum((1, 2, 3)) for each in products(model, batches())]).mean(0)
    assert torch.allclose(scores(criteria.taylor(), granularity.filter(), model, batches(), "conv"), wanted, rtol=1e-4)


def test_groups_are_summed_before_they_are_squared() -> None:
    model = Normed()
    wanted = torch.stack([each["conv.weight"].sum((1, 2, 3)).square() for each in products(model, batches())]).mean(0)
    found = scores(criteria.taylor("groups"), granularity.filter(), model, batches(), "conv")
    assert torch.allclose(found, wanted, rtol=1e-4)


def test_a_channel_is_all_that_leaves_with_it() -> None:
    model = Normed()
    each = products(model, batches())
    sums = [
        one["conv.weight"].sum((1, 2, 3)) + one["norm.weight"] + one["norm.bias"] + one["second.weight"].sum((0, 2, 3))
        for one in each
    ]
    found = scores(criteria.taylor("groups"), granularity.channel(EXAMPLE), model, batches(), "conv")
    assert torch.allclose(found, torch.stack(sums).square().mean(0), rtol=1e-4)


@pytest.mark.parametrize("name", ["conv", "second"])
def test_a_gate_is_a_factor_on_the_output_behind_the_norm(name: str) -> None:
    """Against autograd on a factor that is really there."""
    model = Normed().eval()
    place = model.norm if name == "conv" else model.second
    wanted = []
    for x, t in batches():
        gate = torch.ones(4 if name == "conv" else 3, requires_grad=True)
        handle = place.register_forward_hook(lambda _, __, outputs, gate=gate: outputs * gate[:, None, None])
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), t), gate)
        handle.remove()
        wanted.append(gradient.square())
    found = scores(criteria.taylor("gates"), granularity.channel(EXAMPLE), model, batches(), name)
    assert torch.allclose(found, torch.stack(wanted).mean(0), rtol=1e-3)


def test_mean_gradients_would_not_do() -> None:
    """Two batches whose gradients cancel: the mean of squares is not the square of the mean."""
    line = nn.Linear(1, 1, bias=False)
    line.weight.data.fill_(3)
    data = [(torch.ones(1, 1), torch.tensor(1.0)), (torch.ones(1, 1), torch.tensor(-1.0))]
    for criterion in (criteria.taylor("weights"), criteria.taylor("groups")):
        units = granularity.filter()(line)
        found = sc.calibrate(line, data, criterion.needs, loss=lambda y, t: (y * t).sum(), units=units)
        group = Group("weight", units["weight"], {next(iter(units["weight"].index)): line.weight.detach()}, found)
        assert criterion.score(group).tolist() == [9]


def test_units_that_only_read_have_no_gate() -> None:
    with pytest.raises(ModelError, match=r"those of 'conv' only read: use taylor\('groups'\)"):
        scores(criteria.taylor("gates"), granularity.input_channel(), Normed(), batches(), "conv")


def test_statistics_of_units_want_the_groups() -> None:
    model = Normed()
    criterion = criteria.taylor("groups")
    pruner = sc.Pruner(criterion, granularity.filter(), allocation.global_())
    found = sc.calibrate(model, batches(), criterion.needs, loss=F.cross_entropy)
    with pytest.raises(DataError, match=r"units of 'conv'.*units=pruner\.groups\(model\)"):
        pruner.plan(model, sc.Budget(sparsity=0.5), statistics=found)
    with pytest.raises(DataError, match=r"given none.*units=pruner\.groups\(model\)\)"):
        pruner.plan(model, sc.Budget(sparsity=0.5), statistics=sc.Statistics())
    found = sc.calibrate(model, batches(), criterion.needs, loss=F.cross_entropy, units=pruner.groups(model))
    one = pruner.plan(model, sc.Budget(sparsity=0.5), statistics=found)
    other = pruner.plan(model, sc.Budget(sparsity=0.5), data=batches(), loss=F.cross_entropy)
    assert all(torch.equal(value, other.masks()[name]) for name, value in one.masks().items())


def test_a_frozen_weight_is_refused() -> None:
    model = Normed()
    model.conv.weight.requires_grad_(False)
    with pytest.raises(DataError, match=r"units of 'conv'.*none may be frozen"):
        scores(criteria.taylor("groups"), granularity.filter(), model, batches(), "conv")
    with pytest.raises(DataError, match=r"'conv\.weight'.*or it is frozen"):
        scores(criteria.taylor("weights"), granularity.filter(), model, batches(), "conv")


@pytest.mark.parametrize("over", ["weights", "groups", "gates"])
def test_training_yields_the_same_as_a_pass_over_the_data(over: Any) -> None:
    """Steps that change nothing are a calibration; the hook cuts what a plan on data would."""
    model = Normed().eval()
    pruner = sc.Pruner(criteria.taylor(over), granularity.channel(EXAMPLE), allocation.global_())
    wanted = pruner.plan(model, sc.Budget(sparsity=0.4), data=batches(), loss=F.cross_entropy)
    hook = GradualPruning(model, pruner, sc.Budget(sparsity=0.4), schedules.one_shot(at=1))
    for x, t in batches():
        model.zero_grad()
        F.cross_entropy(model(x), t).backward()
        hook.observe()
        hook.step()
    assert hook.plan is not None
    assert all(torch.equal(value, hook.plan.masks()[name]) for name, value in wanted.masks().items())


def test_a_state_between_two_plans_keeps_what_was_added_up() -> None:
    runs = []
    for stops in (False, True):
        model = Normed().eval()
        pruner = sc.Pruner(criteria.taylor("gates"), granularity.channel(EXAMPLE), allocation.global_())
        hook = GradualPruning(model, pruner, sc.Budget(sparsity=0.4), schedules.one_shot(at=3))
        for step, (x, t) in enumerate(batches((3, 4, 5, 6))):
            if stops and step == 2:
                state = hook.state_dict()
                hook = GradualPruning(model, pruner, sc.Budget(sparsity=0.4), schedules.one_shot(at=3))
                hook.load_state_dict(state)
            model.zero_grad()
            F.cross_entropy(model(x), t).backward()
            hook.observe()
            runs.append({name: value.clone() for name, value in hook._seen["taylor_gates"].sums.items()})
            hook.step()
    assert all(torch.equal(value, runs[-1][name]) for name, value in runs[3].items())


def test_a_state_with_sums_of_other_units_is_refused() -> None:
    model = Normed()
    pruner = sc.Pruner(criteria.taylor("gates"), granularity.channel(EXAMPLE), allocation.global_())
    hook = GradualPruning(model, pruner, sc.Budget(sparsity=0.4), schedules.one_shot(at=3))
    state = {**hook.state_dict(), "sums": {"taylor_gates": {"conv": torch.ones(9)}}}
    with pytest.raises(sc.PlanError, match=r"\['conv'\], which the model lacks or has in another shape"):
        hook.load_state_dict(state)


def test_names_and_an_unknown_word() -> None:
    assert [str(criteria.taylor(word)) for word in ("weights", "groups", "gates")] == [
        "taylor(weights)",
        "taylor(groups)",
        "taylor(gates)",
    ]
    with pytest.raises(UnknownNameError, match="nearest: groups"):
        criteria.taylor("group")  # type: ignore[arg-type]
