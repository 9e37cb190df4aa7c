"""A smaller model as a graph of its operations, where its own code could not follow."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from secateur.dependency import Call, Record, Reference, tensors_in
from secateur.dependency.skeleton import Build
from secateur.errors import PlanError
from secateur.plan import Plan
from secateur.surgery.labels import agrees, cuts
from secateur.surgery.program import Follows, Place, Program, resized
from secateur.surgery.tensors import tensors

# What makes a tensor of a batch's size makes it beside an input, where that is.
FACTORIES = {
    "zeros": torch.ops.aten.new_zeros.default,
    "ones": torch.ops.aten.new_ones.default,
    "empty": torch.ops.aten.new_empty.default,
    "full": torch.ops.aten.new_full.default,
}


def graphed(model: nn.Module, plan: Plan, made: Program, small: nn.Module) -> fx.GraphModule:
    """The recorded operations of a model over its smaller tensors.

    Args:
        model: The whole model.
        plan: What leaves.
        made: The model's program.
        small: A module with the smaller parameters and buffers under the model's names; the graph takes them over.

    Returns:
        A module of the operations in eval mode. Parameters and buffers have their old names.

    Raises:
        PlanError: The labels of the recording do not give the plan's groups.
    """
    cut = next((one for one in cuts(model, plan, made.record) if agrees(one, plan)), None)
    if cut is None:
        raise PlanError(
            "the plan's groups are not those of the recorded operations: make the plan for this model with "
            "granularity.channel(example, graph=True)"
        )
    calls, follows = resized(made, cut)
    graph = _Writer(made, calls, follows, _argument_names(model)).written()
    module = fx.GraphModule(nn.Module(), fx.Graph(), type(model).__name__)
    taken = [name for name in (*small._modules, *small._parameters, *small._buffers) if hasattr(module, name)]
    if taken:
        raise PlanError(f"{taken[0]!r} is a name that torch.fx.GraphModule has for itself: rename it in the model")
    for name, tensor in tensors(small).items():
        path, _, last = name.rpartition(".")
        _hold(_owner(module, path), last, tensor, last not in small.get_submodule(path)._non_persistent_buffers_set)
    for number, constant in made.record.constants.items():
        module.register_buffer(_constant(number), constant.clone(), persistent=False)
    module.graph = graph
    return module.eval()


def _owner(module: nn.Module, path: str) -> nn.Module:
    """The module of a name, made on the way."""
    for name in filter(None, path.split(".")):
        if name not in module._modules:
            module.add_module(name, nn.Module())
        module = module._modules[name]  # type: ignore[assignment]
    return module


def _hold(owner: nn.Module, name: str, tensor: Tensor, persistent: bool) -> None:
    if isinstance(tensor, nn.Parameter):
        owner.register_parameter(name, tensor)
    else:
        owner.register_buffer(name, tensor, persistent=persistent)


def _constant(number: int) -> str:
    return f"constant_{number}"


def _argument_names(model: nn.Module) -> list[str]:
    """Of the arguments that a model takes by position."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = inspect.signature(model.forward).parameters.values()
    return [one.name for one in found if one.kind in positional]


class _Writer:
    """Writes a program as a graph, operation by operation."""

    def __init__(
        self, made: Program, calls: tuple[Call, ...], follows: Mapping[Place, Follows] | None, names: list[str]
    ) -> None:
        self.made, self.calls, self.follows, self.names = made, calls, follows, names
        self.graph = fx.Graph()
        self.nodes: dict[int, fx.Node] = {}
        self.sizes: dict[Follows, Any] = {}
        self.first: fx.Node | None = None  # the input whose first size is the batch
        self.written_on = _written_on(made.record)

    def written(self) -> fx.Graph:
        record = self.made.record
        for number, node in zip(record.numbers("input"), self.inputs(), strict=True):
            self.nodes[number] = node
        self.batch()
        for at, call in enumerate(self.calls):
            self.call(at, call)
        self.graph.output(self.returned(record.returned))
        self.graph.eliminate_dead_code()
        self.graph.lint()
        return self.graph

    def inputs(self) -> list[fx.Node]:
        """The tensors of the inputs, in order; what is no tensor has been recorded as it was and may be left out."""
        example = self.made.example
        found: list[fx.Node] = []
        if isinstance(example, Mapping):
            given = {str(key): value for key, value in example.items()}
            bare = [key for key, value in given.items() if not _any_tensor(value)]
            nodes = {key: self.graph.placeholder(key) for key in given if key not in bare}
            for key in bare:
                self.graph.placeholder(key, default_value=None)
            pairs = [(given[key], node) for key, node in nodes.items()]
        else:
            values = example if isinstance(example, list | tuple) else (example,)
            names = [*self.names, *(f"input_{at}" for at in range(len(self.names), len(values)))]
            pairs = [(value, self.graph.placeholder(name)) for name, value in zip(names, values, strict=False)]
        for value, node in pairs:
            found += self.unpacked(value, node)
        return found

    def unpacked(self, value: Any, node: fx.Node) -> Iterator[fx.Node]:
        """Tensors within an input."""
        if isinstance(value, Tensor):
            yield node
        elif isinstance(value, Mapping):
            for key, one in value.items():
                yield from self.unpacked(one, self.graph.call_function(operator.getitem, (node, key)))
        elif isinstance(value, list | tuple):
            for at, one in enumerate(value):
                yield from self.unpacked(one, self.graph.call_function(operator.getitem, (node, at)))
        elif _any_tensor(value):
            for key in vars(value):
                yield from self.unpacked(vars(value)[key], self.graph.call_function(getattr, (node, key)))

    def batch(self) -> None:
        """The size of the batch; where it is part of the operations, a check of it."""
        record = self.made.record
        first = next((one for one in record.numbers("input") if record.values[one].shape), None)
        if first is None or self.follows == {}:
            return
        self.first = self.nodes[first]
        size = self.graph.call_function(torch.ops.aten.sym_size.int, (self.first, 0))
        self.sizes[Follows(1, 0)] = size
        if self.follows is None:
            equal = self.graph.call_function(operator.eq, (size, self.made.batch))
            told = f"this graph was made for batches of {self.made.batch}, the size of its example"
            self.graph.call_function(torch._assert, (equal, told))

    def call(self, at: int, call: Call) -> None:
        """An operation; its results are taken apart where there are several."""
        given = {name: self.argument(Place(at, name, 0), value) for name, value in call.given.items()}
        names = [one.name for one in call.op._schema.arguments][: len(call.arguments)]
        keywords = {name: value for name, value in given.items() if name not in names}
        op, first = call.op, [given[name] for name in names]
        if call.name in FACTORIES and any(place.call == at for place in self.follows or ()):
            op, first = FACTORIES[call.name], [self.first, *first]
            keywords = {"dtype": self.made.record.values[call.results[0] or 0].dtype}
        node = self.graph.call_function(op, tuple(first), keywords)
        returns = call.op._schema.returns
        single = len(returns) == 1 and not str(returns[0].type).startswith("List")
        for place, number in enumerate(call.results):
            if number is not None:
                self.nodes[number] = node if single else self.graph.call_function(operator.getitem, (node, place))

    def argument(self, place: Place, value: Any) -> Any:
        leaves, spec = tree_flatten(value)
        return tree_unflatten([self.leaf(place._replace(leaf=at), leaf) for at, leaf in enumerate(leaves)], spec)

    def leaf(self, place: Place, leaf: Any) -> Any:
        if isinstance(leaf, Reference):
            return self.value(leaf.number)
        follows = (self.follows or {}).get(place)
        return leaf if follows is None else self.size(follows)

    def size(self, follows: Follows) -> Any:
        """`times * batch + plus`, each once."""
        if follows not in self.sizes:
            times, plus = follows
            base = self.sizes[Follows(1, 0)]
            scaled = base if times == 1 else self.graph.call_function(operator.mul, (base, times))
            self.sizes[follows] = scaled if plus == 0 else self.graph.call_function(operator.add, (scaled, plus))
        return self.sizes[follows]

    def value(self, number: int) -> fx.Node:
        """A tensor; what the module holds is fetched once, and copied if the pass writes on a constant."""
        if number not in self.nodes:
            value = self.made.record.values[number]
            held = value.names[0] if value.names else _constant(number)
            node = self.graph.get_attr(held)
            copied = value.source == "constant" and number in self.written_on
            self.nodes[number] = self.graph.call_function(torch.ops.aten.clone.default, (node,)) if copied else node
        return self.nodes[number]

    def returned(self, value: Any) -> Any:
        """The output as the model gives it."""
        if isinstance(value, Reference):
            return self.value(value.number)
        if isinstance(value, Build):
            items = {name: self.returned(one) for name, one in value.items.items()}
            return self.graph.call_function(value.kind, (), items)
        if isinstance(value, dict):
            return {key: self.returned(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(self.returned, value))
        return value


def _any_tensor(value: Any) -> bool:
    return any(True for _ in tensors_in(value))


def _written_on(record: Record) -> set[int]:
    """Numbers of the values that operations in place change, also through views."""
    root: dict[int, int] = {}
    found: set[int] = set()
    for call in record.calls:
        aliased = [one for one in call.op._schema.arguments if one.alias_info is not None]
        held = [(one, given) for one in aliased if isinstance(given := call.given.get(one.name), Reference)]
        for one, given in held:
            if one.alias_info is not None and one.alias_info.is_write:
                found.add(root.get(given.number, given.number))
        shares = any(one.alias_info is not None for one in call.op._schema.returns)
        for number in call.results:
            if number is not None and shares and held:
                root[number] = root.get(held[0][1].number, held[0][1].number)
    return found
