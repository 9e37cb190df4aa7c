"""A graph in place of a module's code: what it can lose, what it is called with, what it refuses."""

from __future__ import annotations

import copy
import io
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, fx, nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.workload import resize, workload
from tests.zoo.table import ZOO


class Attention(nn.Module):
    """A head's size is the width of the input over the number of heads, so that the code asks for heads x size."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 4
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.out = nn.Linear(16, 16)

    def split(self, x: Tensor, width: int) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, width // self.heads).transpose(1, 2)

    def forward(self, x: Tensor) -> Any:
        width = x.shape[2]
        q, k, v = (self.split(layer(x), width) for layer in (self.q, self.k, self.v))
        attended = ((q @ k.mT) * (width // self.heads) ** -0.5).softmax(-1) @ v
        return self.out(attended.transpose(1, 2).reshape(x.shape))


def attention() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Attention().eval(), torch.randn(2, 5, 16)


def half(model: nn.Module, example: Any, **how: Any) -> sc.Plan:
    pruner = sc.Pruner(criteria.random(), granularity.channel(example, **how), allocation.uniform())
    return pruner.plan(model, sc.Budget(sparsity=0.5))


def assert_equal(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_heads_that_the_code_cannot_lose_leave_in_a_graph() -> None:
    model, example = attention()
    held_back = granularity.channel(example)(model)
    assert all(units.frozen for units in held_back.values())
    plan = half(model, example, graph=True)
    assert plan["q"].kept == 2
    with pytest.warns(UserWarning, match="put back"):
        assert sc.shrink(model, plan).q.out_features == 16
    small = sc.shrink(model, plan, graph=True)
    assert isinstance(small, fx.GraphModule)
    assert {name: tuple(one.shape) for name, one in small.named_parameters()} == {
        **{f"{name}.weight": (8, 16) for name in "qkv"},
        **{f"{name}.bias": (8,) for name in "qkv"},
        "out.weight": (16, 8),
        "out.bias": (16,),
    }
    assert "graph=True" in plan.made_by["granularity"]


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_batch_may_have_another_size(batch: int) -> None:
    model, example = attention()
    plan = half(model, example, graph=True)
    inputs = torch.randn(batch, 5, 16)
    with torch.no_grad():
        assert_equal(sc.shrink(model, plan, graph=True)(inputs), sc.mask(model, plan)(inputs))


def test_statistics_are_crossed_in_a_graph_too() -> None:
    model, example = ZOO["layer norm"].build()
    plan = half(model, example, cross_norms=True, graph=True)
    small, plain = sc.shrink(model, plan, graph=True), sc.shrink(model, plan)
    with torch.no_grad():
        assert_equal(small(example), plain(example))
    assert sum(one.numel() for one in small.parameters()) == sum(one.numel() for one in plain.parameters())


def test_what_is_foretold_is_what_runs() -> None:
    model, example = attention()
    pruner = sc.Pruner(criteria.random(), granularity.channel(example, graph=True), allocation.uniform())
    plan = pruner.plan(model, sc.Budget(sparsity=0.5))
    found = workload(sc.shrink(model, plan, graph=True), example)
    foretold = resize(pruner.workload(model), plan)
    assert (found.macs, found.parameter_count) == (foretold.macs, foretold.parameter_count)


class Tied(nn.Module):
    """One weight under two names, a buffer that no state_dict has, a bias that is not trained, a table of constants."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 6)
        self.inner = nn.Linear(6, 8)
        self.back = nn.Linear(8, 6)
        self.head = nn.Linear(6, 7, bias=False)
        self.head.weight = self.table.weight
        self.inner.bias.requires_grad_(False)
        self.unused = nn.Linear(2, 2)
        self.register_buffer("scale", torch.full((6,), 0.5), persistent=False)
        self.dropout = nn.Dropout(0.5)

    def forward(self, words: Tensor) -> Any:
        shift = torch.tensor([0.0, 1.0])
        shift += 1  # on a constant, which has to stay what it was for the next call
        x = self.table(words) * self.scale + shift.sum()
        return self.head(self.dropout(self.back(self.inner(x).relu())))


def tied() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Tied(), torch.tensor([[1, 2, 3], [4, 5, 6]])


def test_names_ties_and_what_is_trained_stay() -> None:
    model, example = tied()
    small = sc.shrink(model, half(model, example), graph=True)
    assert list(small.state_dict()) == list(model.state_dict())
    assert small.head.weight is small.table.weight
    assert not small.inner.bias.requires_grad
    assert (small.inner.weight.shape, small.head.weight.shape) == ((4, 3), (7, 3))
    assert dict(small.named_buffers()).keys() > dict(model.named_buffers()).keys()


def test_a_graph_computes_in_eval_mode_whenever_it_is_called() -> None:
    model, example = tied()
    plan = half(model, example)
    small = sc.shrink(model.train(), plan, graph=True)
    assert model.training
    wanted = sc.mask(model, plan).eval()(example)
    for _ in range(2):
        assert_equal(small.train()(example), wanted)


def test_a_graph_trains_as_the_masked_model_does() -> None:
    model, example = tied()
    plan = half(model.eval(), example)
    adam = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=0.1)
    small, carried = sc.shrink(model, plan, adam, graph=True)
    plain, other = sc.shrink(model, plan, adam)
    for network, optimizer in ((small, carried), (plain, other)):
        for _ in range(3):
            optimizer.zero_grad()
            network(example).square().sum().backward()
            optimizer.step()
    for name, value in plain.named_parameters():
        assert_equal(small.get_parameter(name), value)


def test_a_graph_is_copied_saved_and_exported() -> None:
    model, example = attention()
    small = sc.shrink(model, half(model, example, graph=True), graph=True)
    file = io.BytesIO()
    torch.save(small, file)
    file.seek(0)
    batch = ({0: torch.export.Dim("batch", min=1, max=64)},)
    exported = torch.export.export(small, (example,), dynamic_shapes=batch)
    inputs = torch.randn(3, 5, 16)
    for again in (copy.deepcopy(small), torch.load(file, weights_only=False), exported.module()):
        assert_equal(again(inputs), small(inputs))


@dataclass
class Returned:
    """What a model may return."""

    logits: Tensor
    more: Any = None
    words: str = "as they are"


class Pair(NamedTuple):
    """Two tensors."""

    one: Tensor
    other: Tensor


class Various(nn.Module):
    """Inputs by name and in a dict; outputs in containers of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor, more: Any = None, double: bool = False) -> Any:
        y = self.second(self.first(x + more["shift"][0]).relu())
        y = 2 * y if double else y
        return Returned(y, {"pair": Pair(y, -y), "list": [y + 1, 3, None]})


def test_inputs_and_outputs_are_those_of_the_model() -> None:
    torch.manual_seed(0)
    model = Various().eval()
    example = {"x": torch.randn(2, 4), "more": {"shift": [torch.randn(4)]}, "double": True}
    plan = half(model, example)
    small = sc.shrink(model, plan, graph=True)
    found, wanted = small(**example), sc.mask(model, plan)(**example)
    assert (type(found), found.words) == (Returned, wanted.words)
    assert isinstance(found.more["pair"], Pair)
    assert found.more["list"][1:] == [3, None]
    assert_equal(
        (found.logits, *found.more["pair"], found.more["list"][0]),
        (wanted.logits, *wanted.more["pair"], wanted.more["list"][0]),
    )
    del example["double"]  # as it was recorded
    assert_equal(small(**example).logits, found.logits)


class ForTwo(nn.Module):
    """Written for batches of two."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:
        return self.second(self.first(x).view(2, -1).view(2, 6).relu()) / len(x)


def test_another_batch_is_refused_where_the_operations_are_for_one() -> None:
    model, example = ForTwo().eval(), torch.randn(2, 4)
    small = sc.shrink(model, half(model, example, graph=True), graph=True)
    assert small.first.weight.shape == (3, 4)
    assert small(example).shape == (2, 3)
    with pytest.raises(AssertionError, match="batches of 2, the size of its example"):
        small(torch.randn(3, 4))


class ByValue(nn.Module):
    """Another activation for large inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:
        y = self.first(x)
        return self.second(y.tanh() if float(x.sum()) > 12 else y.relu())


def test_a_way_that_depends_on_values_is_no_graph() -> None:
    torch.manual_seed(0)
    model, example = ByValue().eval(), torch.full((2, 4), 3.0)
    plan = half(model, example)
    with pytest.raises(sc.ModelError, match="a graph would hold for the example alone"):
        sc.shrink(model, plan, graph=True)


def test_a_graph_needs_an_example_and_groups_of_this_model(tmp_path: Any) -> None:
    model, example = attention()
    half(model, example, graph=True).save(tmp_path / "plan.safetensors")
    plan = sc.Plan.load(tmp_path / "plan.safetensors")
    with pytest.raises(sc.PlanError, match="pass example="):
        sc.shrink(model, plan, graph=True)
    assert sc.shrink(model, plan, example=example, graph=True).q.weight.shape == (8, 16)
    weights = sc.Pruner(criteria.magnitude(), granularity.weight(), allocation.uniform())
    with pytest.raises(sc.PlanError, match="a graph is made of plans of coupled channels"):
        sc.shrink(model, weights.plan(model, sc.Budget(sparsity=0.5)), example=example, graph=True)
    part = plan["q"]
    made = [axis for axis in part.units.index if axis.axis == 0]  # without what reads them
    rows = replace(
        part.units,
        index={axis: part.units.index[axis] for axis in made},
        role={axis: part.units.role[axis] for axis in made},
    )
    with pytest.raises(sc.PlanError, match="not those of the recorded operations"):
        sc.shrink(model, sc.Plan((replace(part, units=rows),)), example=example, graph=True)


def test_a_name_that_graphs_have_for_themselves_is_refused() -> None:
    model = nn.Sequential(OrderedDict(graph=nn.Linear(3, 4), last=nn.Linear(4, 2)))
    example = torch.zeros(1, 3)
    with pytest.raises(sc.PlanError, match="'graph' is a name that"):
        sc.shrink(model, half(model, example), graph=True)


def test_weights_of_one_graph_go_into_another_by_a_file(tmp_path: Any) -> None:
    model, example = attention()
    plan = half(model, example, graph=True)
    small = sc.shrink(model, plan, graph=True)
    sc.save(small, tmp_path / "small.safetensors")
    again = sc.shrink(Attention().eval(), plan, graph=True, prove=False)
    assert not torch.equal(again(example), small(example))
    assert torch.equal(sc.restore(tmp_path / "small.safetensors", again)(example), small(example))


def test_a_model_without_values_has_a_graph() -> None:
    with torch.device("meta"):
        model, example = Tied().eval(), torch.zeros(2, 3, dtype=torch.long)
    groups = granularity.channel(example, graph=True)(model)
    parts = [sc.Part(name, one, torch.arange(one.n_units) < max(1, one.n_units // 2)) for name, one in groups.items()]
    plan = sc.Plan(tuple(replace(one, keep=one.keep | bool(one.units.frozen)) for one in parts))
    small = sc.shrink(model, plan, example=example, graph=True, prove=False)
    assert small(torch.zeros(5, 3, dtype=torch.long, device="meta")).shape == (5, 3, 7)


def test_a_plan_that_the_code_can_follow_goes_into_a_graph_as_well() -> None:
    model, example = ZOO["conv-bn-relu chain"].build()
    plan = half(model, example)
    with torch.no_grad():
        assert_equal(sc.shrink(model, plan, graph=True)(example), sc.shrink(model, plan)(example))
