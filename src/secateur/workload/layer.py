"""What runs, as plain values: layers with their shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "conv",
    "transposed",
    "linear",
    "matmul",
    "attention",
    "recurrent",
    "norm",
    "pointwise",
    "statistic",
    "space",
    "other",
]
"""The first six count multiply-accumulates. `statistic`: sums, softmax and the like; `space`: pooling and resizing."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One operation of a forward pass, by its shapes.

    Multiply-accumulates are the product of the sizes that are gone through; biases are not counted:

    - conv: input N x C x ..., weight O x C/g x k..., output N x O x ...; output positions and channels times C/g x k...
    - transposed: weight C x O/g x k...; input positions and channels times O/g x k...
    - linear: input (...) x K, weight M x K, output (...) x M; (...) K M
    - matmul: input (...) x R x K, weight (...) x K x M, output (...) x R x M; (...) R K M, a vector has no R or M
    - attention: queries (...) x L x E as input, keys (...) x S x E as weight, output (...) x L x V; (...) L S (E + V)
    - recurrent: input T x N x K, weight 4H x K, output T x N x H; T N 4H (K + H), the LSTM of torch's CPU backend
    - norm, pointwise, statistic, space, other: first tensor, weight of a norm or (), first result; 0

    What only moves data, such as views, slices, copies and lookups, is no layer.

    Args:
        name: The innermost module that ran it; empty for the model itself.
        kind: What it is, see above.
        operation: What torch calls it, such as `convolution`, `addmm`, `relu`.
        input: Its first operand.
        weight: Its second one.
        output: Its result.
        stride: Of a convolution.
        padding: Of a convolution.
        dilation: Of a convolution.

    Example:
        >>> layer = Layer("conv", "conv", "convolution", (1, 4, 8, 8), (6, 2, 3, 3), (1, 6, 8, 8))
        >>> layer.groups, layer.macs  # 8 x 8 x 6 outputs, each a sum of 2 x 3 x 3 products
        (2, 6912)
    """

    name: str
    kind: Kind
    operation: str
    input: Shape
    weight: Shape
    output: Shape
    stride: Shape = ()
    padding: Shape = ()
    dilation: Shape = ()

    @property
    def groups(self) -> int:
        """Groups of a convolution, which follow from its shapes; 1 for all else."""
        if self.kind == "conv":
            return self.input[1] // self.weight[1]
        return self.output[1] // self.weight[1] if self.kind == "transposed" else 1

    @property
    def depthwise(self) -> bool:
        """Whether it is a convolution with a group for every input channel, of which there are several."""
        return self.groups > 1 and self.groups == self.input[1]

    @property
    def macs(self) -> int:
        """Multiply-accumulates, see above."""
        match self.kind:
            case "conv":
                return math.prod(self.output) * math.prod(self.weight[1:])
            case "transposed":
                return math.prod(self.input) * math.prod(self.weight[1:])
            case "linear" | "matmul":
                return math.prod(self.output) * self.input[-1]
            case "attention":
                return (math.prod(self.input) + math.prod(self.output)) * self.weight[-2]
            case "recurrent":
                gates, inputs = self.weight
                return math.prod(self.input[:-1]) * gates * (inputs + self.output[-1])
        return 0


@dataclass(frozen=True)
class Workload:
    """What runs when a model does: no weights, no reference to the model.

    Its sizes know the slices of parameters they count, so `resize` follows a plan without the model. Two workloads are
    equal if all their shapes are.

    Args:
        layers: What runs, in order, on one example.
        parameters: The shape of each parameter, by its first name.

    Example:
        >>> found = Workload((Layer("", "linear", "addmm", (1, 3), (2, 3), (1, 2)),), {"weight": (2, 3), "bias": (2,)})
        >>> found.macs, found.parameter_count
        (6, 8)
    """

    layers: tuple[Layer, ...]
    parameters: Mapping[str, Shape] = field(repr=False)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def parameter_count(self) -> int:
        """How many numbers the parameters have, each shared one counted once; buffers are not counted."""
        return sum(math.prod(shape) for shape in self.parameters.values())
