"""What a tiny network of the zoo is: how it is built, what it is run on, and what is known of its channels by pencil.

A parameter's axis is written as its name and number: ``conv1.weight:0``. What is claimed holds under this rule: to
remove a unit gives exactly what the network gives with all of the unit's slices at zero, and inputs and outputs keep
their sizes. Heads leave whole. So do the groups of a convolution with no fewer groups than channels per group; with
fewer groups the same channel leaves from every group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import parametrize

Example = Callable[[Generator], Any]
Network = TypeVar("Network", bound=Callable[[], nn.Module])


@dataclass(frozen=True)
class Specimen:
    """A tiny network, and what must be found in it.

    Args:
        network: Makes it.
        example: Draws its inputs.
        frozen: Axes that lose nothing.
        together: Axes of one group each: a unit that takes from the first takes from all the others.
        prunable: Axes that can lose slices; those in `together` are among them.
        units: How many units that can leave an axis has.
        looks: Whether the operations depend on values, so that the record of one input is not that of another.
    """

    network: Callable[[], nn.Module]
    example: Example
    frozen: tuple[str, ...] = ()
    together: tuple[tuple[str, ...], ...] = ()
    prunable: tuple[str, ...] = ()
    units: Mapping[str, int] = field(default_factory=dict)
    looks: bool = False

    def build(self, seed: int = 0) -> tuple[nn.Module, Any]:
        """The network in eval mode, nothing in it as its layers initialise it, and its inputs."""
        generator = Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.network()
        perturb(model, generator)
        return model.eval(), self.example(generator)


def collector(table: dict[str, Specimen]) -> Callable[..., Callable[[Network], Network]]:
    """A decorator that puts a network into a table; groups of axes are given as words."""

    def add(
        name: str,
        example: Example,
        *together: str,
        frozen: str = "",
        prunable: str = "",
        units: Mapping[str, int] | None = None,
        looks: bool = False,
    ) -> Callable[[Network], Network]:
        def put(network: Network) -> Network:
            assert name not in table, name
            groups = tuple(tuple(group.split()) for group in together)
            free = dict.fromkeys([*(axis for group in groups for axis in group), *prunable.split()])
            table[name] = Specimen(network, example, tuple(frozen.split()), groups, tuple(free), units or {}, looks)
            return network

        return put

    return add


def perturb(model: nn.Module, generator: Generator) -> None:
    """Draw all weights anew, each at some distance from zero, and the statistics of batch norms."""
    with torch.no_grad():
        for parameter in model.parameters():
            size = 0.2 + 0.8 * torch.rand(parameter.shape, generator=generator)
            sign = torch.randint(2, parameter.shape, generator=generator) * 2 - 1
            parameter.copy_(size * sign / max(1, parameter.shape[1:].numel()) ** 0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) / 4)
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
        for module in model.modules():
            if parametrize.is_parametrized(module):
                for name in module.parametrizations:
                    getattr(module.train(), name)  # in train mode spectral norm follows the weights


def features(width: int = 8, batch: int = 3) -> Example:
    """Vectors."""
    return lambda generator: torch.randn(batch, width, generator=generator)


def images(channels: int = 3, size: int = 8) -> Example:
    """Small pictures."""
    return lambda generator: torch.randn(2, channels, size, size, generator=generator)


def sequences(length: int = 6, width: int = 8) -> Example:
    """Vectors in a row."""
    return lambda generator: torch.randn(2, length, width, generator=generator)


def words(vocabulary: int = 10, length: int = 6) -> Example:
    """Numbers of words."""
    return lambda generator: torch.randint(vocabulary, (2, length), generator=generator)


def several(*examples: Example) -> Example:
    """More than one input, by position."""
    return lambda generator: tuple(one(generator) for one in examples)


def by_name(**examples: Example) -> Example:
    """More than one input, by name."""
    return lambda generator: {name: one(generator) for name, one in examples.items()}


def conv(inputs: int, outputs: int, size: int = 3, **more: Any) -> nn.Conv2d:
    """A convolution that keeps height and width unless it strides."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **more)


def axes(model: nn.Module) -> set[str]:
    """All axes of all parameters."""
    named = dict(model.named_parameters(remove_duplicate=False))
    return {f"{name}:{axis}" for name, parameter in named.items() for axis in range(parameter.ndim)}


def tensors(example: Any) -> tuple[Tensor, ...]:
    """The inputs one after the other."""
    if isinstance(example, Tensor):
        return (example,)
    return tuple(example.values() if isinstance(example, Mapping) else example)
