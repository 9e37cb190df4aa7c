"""The diagonal of curvature by LeCun's recursion: one more pass backwards, with squared weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from secateur.batches import call
from secateur.errors import DataError, ModelError
from secateur.statistics.batch import Batch, maybe_gradients, running_again
from secateur.statistics.curvature import DiagonalCurvature
from secateur.statistics.outputs import blocks, slope
from secateur.statistics.recursion_rules import (
    AVERAGES,
    LINEAR,
    MOVES,
    averaged,
    elementwise,
    linear,
    normed,
    with_gradient,
)
from secateur.units import Units


class Recursion(DiagonalCurvature):
    """LeCun's diagonal: second derivatives go backwards as gradients do, through squares, cross terms dropped.

    For a layer `a = W x`, `x' = f(a)`:

    - outputs: `h_o` is the diagonal of the curvature of the loss by the outputs;
    - units: `h_a = f'(a)^2 h_x'`, and `h_x = sum_l w_l^2 h_a_l`;
    - weights: `h_w = sum of h_a x^2` over all places where the weight is used, and over samples.

    It is the diagonal of the Gauss-Newton matrix in the last layer, and behind one hidden layer where there is one
    output; else an approximation of it. It costs about a gradient, whatever the number of outputs, and is nowhere
    negative.

    It goes through linear layers and convolutions, elementwise activations, max and average pooling, batch norm in
    evaluation mode, reshaping and concatenation, in modules or functions. It stops with an error at everything else:
    at sums of two branches, too, since there the terms that it drops are of the same unit.

    Shapes:
        h has the shape of each parameter.

    Reference:
        LeCun, Denker, Solla (1990), Optimal Brain Damage, section 2.1, the variant without second derivatives of f.

    Example:
        The mean loss is `(w0^2 + 9 w1^2) / 2`:

        >>> from secateur.statistics import calibrate
        >>> line = torch.nn.Linear(2, 1, bias=False)
        >>> _ = line.weight.data.copy_(torch.tensor([[2.0, 1.0]]))
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), None)]
        >>> found = calibrate(line, data, ["curvature_recursion"], loss=lambda y, _: y.square().mean())
        >>> found.of("curvature_recursion", "weight")
        tensor([[1., 9.]])
    """

    kind = "curvature_recursion"

    def watch(self, model: nn.Module, groups: Mapping[str, Units]) -> Iterable[Any]:
        """Follow which module runs, to name it in errors.

        Args:
            model: The model.
            groups: The groups to prune.

        Returns:
            The hooks' handles.
        """
        super().watch(model, groups)
        self._inside: list[str] = []
        handles: list[Any] = []
        for name, module in model.named_modules():
            label = f"{name or 'the model'} ({type(module).__name__})"
            handles.append(module.register_forward_pre_hook(partial(self._enter, label)))
            handles.append(module.register_forward_hook(self._leave, always_call=True))
        return handles

    def _enter(self, label: str, *_: Any) -> None:
        self._inside.append(label)

    def _leave(self, *_: Any) -> None:
        self._inside.pop()

    def diagonal(self, batch: Batch) -> dict[str, Tensor]:
        """The recursion through the model for the loss of a batch.

        Args:
            batch: The batch.

        Returns:
            For each parameter that the outputs depend on a tensor of its shape.
        """
        seen = self._at_outputs(batch)
        return self._pulled(seen, *self._run(batch, None))

    def _run(self, batch: Batch, slopes: list[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        """Run the model with every operation replaced by one whose gradient is the recursion."""
        rules = _Rules(self._where, slopes)
        self._inside.clear()
        with running_again(), rules:
            outputs = call(self.model, batch.inputs)
        return outputs, rules.extra

    def _where(self) -> str:
        return self._inside[-1] if self._inside else "the model"

    def _at_outputs(self, batch: Batch) -> Tensor:
        """The diagonal of the curvature of the loss by the outputs."""
        return blocks(batch, self.kind).diagonal(dim1=1, dim2=2).reshape(batch.outputs.shape)

    def _pulled(self, seen: Tensor, outputs: Tensor, extra: list[Tensor]) -> dict[str, Tensor]:
        total = (outputs * seen.to(outputs)).sum() + sum(extra)
        if not total.requires_grad:
            raise DataError(f"{self.kind!r}: the model's outputs depend on no parameter that requires gradients")
        found = maybe_gradients(total, list(self.parameters.values()))
        return {name: value for name, value in zip(self.parameters, found, strict=True) if value is not None}


class FullRecursion(Recursion):
    """LeCun's diagonal with the second derivatives of the activations: `h_a = f'(a)^2 h_x' + f''(a) dE/dx'`.

    The diagonal of the Hessian where `Recursion` is that of the Gauss-Newton matrix; it may be negative. With
    activations of straight pieces, such as ReLU, both are the same. It costs another gradient.

    Shapes:
        h has the shape of each parameter.

    Reference:
        LeCun, Denker, Solla (1990), Optimal Brain Damage, section 2.1, equations 6 and 7. The minus before f'' in the
        printed equation is a slip: the chain rule gives a plus.

    Example:
        Of softplus(w)^2 at w = 0, with f = ln 2, f' = 1/2, f'' = 1/4: 2 f'^2 = 1/2, which `Recursion` stops at, and
        2 f f'' = 0.3466 more.

        >>> from secateur.statistics import calibrate
        >>> net = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.Softplus())
        >>> _ = torch.nn.init.zeros_(net[0].weight)
        >>> data, kinds = [(torch.ones(1, 1), None)], ("curvature_recursion", "curvature_full_recursion")
        >>> found = calibrate(net, data, kinds, loss=lambda y, _: y.square().mean())
        >>> [round(found.of(kind, "0.weight").item(), 4) for kind in kinds]
        [0.5, 0.8466]
    """

    kind = "curvature_full_recursion"

    def diagonal(self, batch: Batch) -> dict[str, Tensor]:
        """The recursion through the model for the loss of a batch.

        Args:
            batch: The batch.

        Returns:
            For each parameter that the outputs depend on a tensor of its shape.
        """
        _, gradient = slope(batch, self.kind)
        watched = _Activations()
        with running_again(), watched:
            outputs = call(self.model, batch.inputs)
        at = watched.outputs
        found = maybe_gradients(outputs, at, gradient.to(outputs)) if at else []
        slopes = [torch.zeros_like(one) if value is None else value for one, value in zip(at, found, strict=True)]
        return self._pulled(self._at_outputs(batch), *self._run(batch, slopes))


class _Activations(TorchFunctionMode):
    """Notes what elementwise functions return, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[Tensor] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        if elementwise(function) and found.requires_grad:
            self.outputs.append(found)
        return found


class _Rules(TorchFunctionMode):
    """Replaces operations on what depends on parameters by such that have the same value and another gradient."""

    def __init__(self, where: Callable[[], str], slopes: list[Tensor] | None) -> None:
        super().__init__()
        self._where, self._slopes = where, list(slopes) if slopes is not None else None
        self.extra: list[Tensor] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        if elementwise(function) and isinstance(args[0], Tensor) and args[0].requires_grad:
            return self._activation(function, args, named)
        if function in LINEAR:
            return linear(function, args, named)
        if function is F.batch_norm:
            return self._tried(normed, args, named)
        if function in AVERAGES:
            return self._tried(partial(averaged, function), args, named)
        found = function(*args, **named)
        if not _learns(found) or _moves(function, args, named):
            return found
        raise self._refusal(function)

    def _tried(self, rule: Callable[..., Tensor | None], args: Any, named: dict[str, Any]) -> Tensor:
        found = rule(args, named)
        if found is None:
            raise self._refusal(rule.args[0] if isinstance(rule, partial) else F.batch_norm)
        return found

    def _activation(self, function: Any, args: Any, named: dict[str, Any]) -> Tensor:
        a, *rest = args
        named.pop("inplace", None)
        leaf = a.detach().requires_grad_()
        with torch.enable_grad():
            value = function(leaf, *(item for item in rest if not isinstance(item, bool)), **named)
            (first,) = torch.autograd.grad(value.sum(), leaf, create_graph=True)
            if self._slopes is not None:
                self._bend(a, leaf, first)
        through = a * first.detach().square()
        return with_gradient(value, through)

    def _bend(self, a: Tensor, leaf: Tensor, first: Tensor) -> None:
        """Add what the second derivative of an activation brings in: a term whose gradient by `a` is `f'' dE/dx`."""
        slope_here = self._slopes.pop(0) if self._slopes else None
        if slope_here is None or not first.requires_grad:
            return
        (second,) = torch.autograd.grad(first.sum(), leaf, allow_unused=True)
        if second is not None:
            self.extra.append((a * (second * slope_here)).sum())

    def _refusal(self, function: Any) -> ModelError:
        name = getattr(function, "__name__", str(function))
        return ModelError(
            f"the recursion does not go through {name!r} in {self._where()}: it knows linear layers, convolutions, "
            "elementwise activations, pooling, batch norm in evaluation mode, reshaping and concatenation, and no sums "
            "of two branches. Use 'curvature_monte_carlo' or 'curvature_exact', which take any model"
        )


def _learns(found: Any) -> bool:
    if isinstance(found, tuple | list):
        return any(map(_learns, found))
    return isinstance(found, Tensor) and found.requires_grad


def _moves(function: Any, args: Any, named: Mapping[str, Any]) -> bool:
    """Whether an operation only moves or picks values; dropout does, where it is off."""
    if function in (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout):
        on = named.get("training", args[2] if len(args) > 2 else True)
        return not on or named.get("p", args[1] if len(args) > 1 else 0.5) == 0
    return function in MOVES
