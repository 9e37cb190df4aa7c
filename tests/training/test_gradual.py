import copy
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import Optimizer

import secateur as sc
from secateur import allocation, criteria, granularity, schedules
from secateur.state import load_state, save_state
from secateur.training import KeepZeros
from tests.small import FIXED, data, network, pruner, taylor, zeros_kept

OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
}


def a_hook(model: nn.Module, criterion: sc.Criterion | None = None) -> sc.GradualPruning:
    made = pruner(criterion=criterion)
    return sc.GradualPruning(model, made, sc.Budget(sparsity=0.8), schedules.cubic(1, 7, 2))


def advance(
    model: nn.Module,
    optimizer: Optimizer,
    hook: sc.GradualPruning,
    steps: Iterable[int],
    *,
    parts: int = 1,
    autocast: bool = False,
) -> None:
    for step in steps:
        optimizer.zero_grad()
        for part in range(parts):
            inputs, labels = data(seed=100 * step + part)
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = nn.functional.cross_entropy(model(inputs), labels)
            (loss / parts).backward()
        hook.observe()
        optimizer.step()
        hook.step()
        assert hook.plan is None or zeros_kept(model, hook.plan)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("autocast", [False, True])
def test_zeros_stay_zero(name: str, parts: int, autocast: bool) -> None:
    model = network()
    optimizer, hook = OPTIMIZERS[name](model.parameters()), a_hook(model)
    advance(model, optimizer, hook, range(12), parts=parts, autocast=autocast)
    assert hook.settled
    assert hook.plan is not None
    assert hook.plan.weights_removed == round(0.8 * 504)
    assert sum(int((model.get_parameter(f"{name}.weight") == 0).sum()) for name in ("0", "2", "6", "8")) == 403


def test_removed_weights_get_no_gradient() -> None:
    model = network()
    hook = a_hook(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    advance(model, optimizer, hook, range(9))
    inputs, labels = data()
    nn.functional.cross_entropy(model(inputs), labels).backward()
    hook.observe()
    assert hook.plan is not None
    for name, mask in hook.plan.masks().items():
        gradient = model.get_parameter(name).grad
        assert gradient is not None
        assert not bool(gradient[~mask].any())
        assert bool(gradient[mask].any())


@pytest.mark.parametrize("criterion", [criteria.magnitude(), criteria.random(5)])
@pytest.mark.parametrize(
    "schedule",
    [schedules.linear(0, 6), schedules.cubic(0, 6, 2), schedules.iterative([0.3, 0.5, 0.8], every=3)],
)
@pytest.mark.parametrize("units", [granularity.weight(), granularity.filter(), granularity.block(4, 1)])
def test_what_is_removed_stays_removed_and_the_end_is_exact(
    criterion: sc.Criterion, schedule: schedules.Schedule, units: sc.granularity.Granularity
) -> None:
    model = network()
    made = pruner(units, allocation.uniform(), criterion)
    hook = sc.GradualPruning(model, made, sc.Budget(sparsity=0.5), schedule)
    removed: dict[str, torch.Tensor] = {}
    for _ in range(8):
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter))
        hook.step()
        assert hook.plan is not None
        for part in hook.plan.parts:
            assert not bool((part.keep & removed.get(part.name, torch.zeros_like(part.keep))).any())
            removed[part.name] = ~part.keep
    expected = made.plan(network(), sc.Budget(sparsity=0.5))
    assert [part.kept for part in hook.plan.parts] == [part.kept for part in expected.parts]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", FIXED)
def test_a_fixed_pattern_is_followed_by_more_and_more_scopes(name: str) -> None:
    model = network()
    made = pruner(FIXED[name], allocation.uniform())
    hook = sc.GradualPruning(model, made, None, schedules.linear(0, 4))
    counts = []
    for _ in range(5):
        hook.step()
        counts.append(hook.plan.weights_removed if hook.plan else 0)
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == made.plan(network()).weights_removed


@settings(max_examples=12)
@given(
    stop=st.integers(0, 9),
    name=st.sampled_from(sorted(OPTIMIZERS)),
    criterion=st.sampled_from(["magnitude", "taylor", "random"]),
)
def test_going_on_is_never_having_stopped(
    tmp_path_factory: pytest.TempPathFactory, stop: int, name: str, criterion: str
) -> None:
    kinds = {"magnitude": criteria.magnitude(), "taylor": taylor(), "random": criteria.random(2)}
    whole = network()
    optimizer, hook = OPTIMIZERS[name](whole.parameters()), a_hook(whole, kinds[criterion])
    advance(whole, optimizer, hook, range(10))

    first = network()
    first_optimizer, first_hook = OPTIMIZERS[name](first.parameters()), a_hook(first, kinds[criterion])
    advance(first, first_optimizer, first_hook, range(stop))
    path = tmp_path_factory.mktemp("stop") / "state.safetensors"
    save_state(path, [first.state_dict(), first_optimizer.state_dict(), first_hook.state_dict()])

    again = network(seed=9)
    again_optimizer, again_hook = OPTIMIZERS[name](again.parameters()), a_hook(again, kinds[criterion])
    weights, moments, state = load_state(path)
    again.load_state_dict(weights)
    again_optimizer.load_state_dict(moments)
    again_hook.load_state_dict(state)
    advance(again, again_optimizer, again_hook, range(stop, 10))

    assert same_tree(whole.state_dict(), again.state_dict())
    assert same_tree(optimizer.state_dict()["state"], again_optimizer.state_dict()["state"])
    assert same_tree(hook.state_dict(), again_hook.state_dict())


def same_tree(one: object, two: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(same_tree(one[key], two[key]) for key in one)
    return one == two


def test_a_deep_copy_of_model_and_hook_goes_its_own_way() -> None:
    model = network()
    hook = a_hook(model)
    advance(model, torch.optim.SGD(model.parameters(), lr=0.1), hook, range(5))
    copied, copied_hook = copy.deepcopy((model, hook))
    assert copied_hook.model is copied
    before = copy.deepcopy(model.state_dict())
    advance(copied, OPTIMIZERS["sgd"](copied.parameters()), copied_hook, range(5, 12))
    assert copied_hook.settled
    assert not hook.settled
    assert same_tree(before, model.state_dict())


def test_a_copied_model_alone_keeps_its_zeros_under_a_new_hook(tmp_path: Path) -> None:
    model = network()
    hook = a_hook(model)
    advance(model, torch.optim.SGD(model.parameters(), lr=0.1), hook, range(9))
    copied = copy.deepcopy(model)
    new = a_hook(copied)
    new.load_state_dict(hook.state_dict())
    advance(copied, OPTIMIZERS["adamw"](copied.parameters()), new, range(9, 12))
    assert new.plan is not None
    assert zeros_kept(copied, new.plan)


def hooks_on(model: nn.Module) -> list[int]:
    return [sum(len(v) for n, v in vars(module).items() if n.endswith("hooks") and v) for module in model.modules()]


def test_nothing_is_hung_on_the_model() -> None:
    model = network()
    attributes = [set(vars(module)) for module in model.modules()]
    hooks = [
        sum(len(value) for name, value in vars(module).items() if name.endswith("hooks")) for module in model.modules()
    ]
    names = list(model.state_dict())
    hook = a_hook(model)
    advance(model, torch.optim.SGD(model.parameters(), lr=0.1), hook, range(9))
    assert [set(vars(module)) for module in model.modules()] == attributes
    assert hooks_on(model) == hooks
    assert list(model.state_dict()) == names


def test_another_models_state_is_refused_and_the_hook_still_works() -> None:
    other = nn.Sequential(nn.Linear(4, 4))
    foreign = sc.GradualPruning(other, pruner(), sc.Budget(sparsity=0.5), schedules.one_shot())
    foreign.step()
    model = network()
    hook = a_hook(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    advance(model, optimizer, hook, range(3))
    with pytest.raises(sc.PlanError, match="the model has"):
        hook.load_state_dict(foreign.state_dict())
    assert hook.steps == 3
    advance(model, optimizer, hook, range(3, 9))
    assert hook.settled


def test_a_state_of_the_same_names_but_other_sizes_is_refused_and_nothing_changes() -> None:
    wide = nn.Sequential(nn.Linear(4, 8))
    foreign = sc.GradualPruning(wide, pruner(), sc.Budget(sparsity=0.5), schedules.one_shot())
    foreign.step()
    model = nn.Sequential(nn.Linear(4, 4))
    hook = sc.GradualPruning(model, pruner(), sc.Budget(sparsity=0.25), schedules.one_shot())
    hook.step()
    plan = hook.plan
    with pytest.raises(sc.PlanError, match=r"expected bool of \(16,\)"):
        hook.load_state_dict(foreign.state_dict())
    assert hook.plan is plan
    assert hook.steps == 1


def test_gradients_of_another_model_are_refused_and_nothing_changes() -> None:
    """Before the first plan there are no groups to compare, only gradients."""
    first, second = nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 4))
    hooks = [
        sc.GradualPruning(model, pruner(criterion=taylor()), sc.Budget(sparsity=0.5), schedules.one_shot(at=3))
        for model in (first, second)
    ]
    for hook in hooks:
        hook.model(torch.ones(2, 4)).sum().backward()
        hook.observe()
        hook.step()
    before = hooks[1].state_dict()
    with pytest.raises(sc.PlanError, match=r"gradients of \['0\.weight', '0\.bias'\]"):
        hooks[1].load_state_dict(hooks[0].state_dict())
    assert same_tree(before, hooks[1].state_dict())


@pytest.mark.parametrize("state", [{}, {"planned": True}, {"planned": False, "step": 1}, {"planned": True, "keep": 3}])
def test_what_is_no_state_is_refused(state: dict[str, object]) -> None:
    hook = a_hook(network())
    before = hook.state_dict()
    with pytest.raises(sc.PlanError, match="this is no state of a GradualPruning"):
        hook.load_state_dict(state)
    assert same_tree(before, hook.state_dict())


def test_gradients_are_averaged_since_the_last_plan_and_absent_ones_passed_over() -> None:
    """|w g| with g = (3 + 1) / 2 and (0 + 2) / 2: 2 and 1.5; the last gradients alone would be 1 and 3."""
    seen: list[torch.Tensor] = []

    def noting(w: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        seen.append(g)
        return (w * g).abs()

    model = nn.Linear(2, 1)
    model.weight.data = torch.tensor([[1.0, 1.5]])
    made = pruner(criterion=criteria.elementwise(noting, needs=("gradient",)))
    hook = sc.GradualPruning(model, made, sc.Budget(sparsity=0.5), schedules.one_shot(at=1))
    for gradient in ([[3.0, 0.0]], [[1.0, 2.0]]):
        model.weight.grad = torch.tensor(gradient)
        hook.observe()
        hook.step()
    assert [gradient.tolist() for gradient in seen] == [[[2.0, 1.0]]]
    assert model.weight.tolist() == [[1.0, 0.0]]


def test_methods_that_mend_and_unknown_statistics_are_refused() -> None:
    mending = sc.Pruner(lambda *_: sc.Plan(()), granularity.weight(), allocation.uniform())
    with pytest.raises(sc.ModelError, match="takes criteria only"):
        sc.GradualPruning(network(), mending, sc.Budget(sparsity=0.5), schedules.one_shot())
    wanda = criteria.elementwise(lambda w, x: w.abs() * x, name="wanda", needs=("input_norm",))
    with pytest.raises(sc.DataError, match=r"needs \['input_norm'\]"):
        sc.GradualPruning(network(), pruner(criterion=wanda), sc.Budget(sparsity=0.5), schedules.one_shot())
    found = sc.calibrate(network(), [data()], ["input_norm"])
    model = network()
    hook = sc.GradualPruning(
        model, pruner(criterion=wanda), sc.Budget(sparsity=0.5), schedules.one_shot(), statistics=found
    )
    hook.step()
    assert hook.plan is not None
    assert hook.plan.weights_removed == 252


def test_gradients_that_nobody_observed_are_asked_for() -> None:
    hook = sc.GradualPruning(network(), pruner(criterion=taylor()), sc.Budget(sparsity=0.5), schedules.one_shot())
    with pytest.raises(sc.DataError, match=r"call hook\.observe\(\)"):
        hook.step()


def test_keep_zeros_holds_a_plan() -> None:
    model = network()
    plan = pruner().plan(model, sc.Budget(sparsity=0.6))
    held = KeepZeros(model, plan)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    for step in range(5):
        inputs, labels = data(seed=step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        held.observe()
        optimizer.step()
        held.step()
        assert zeros_kept(model, plan)
    assert held.state_dict() == {}
    model.load_state_dict(network().state_dict())
    held.load_state_dict({})
    assert zeros_kept(model, plan)
    with pytest.raises(sc.PlanError):
        KeepZeros(nn.Linear(2, 2), plan)
