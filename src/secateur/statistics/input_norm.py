"""L2 norm of every input feature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from secateur.granularity.layers import PRUNABLE, LayerWeight, weight_layers
from secateur.statistics.batch import Batch, counted_already
from secateur.statistics.channel_sums import ChannelSums
from secateur.statistics.values import Statistics
from secateur.units import Units


class InputNorm:
    """L2 norm of what each input channel of a layer has seen.

    `||X_j||_2 = sqrt(sum over samples and positions of x_j^2)`

    Stored per weight parameter, shaped so that it multiplies the weight: `(1, I, 1, 1)` for a convolution of one group.

    Reference:
        Sun, Liu, Bair, Kolter (2024), A Simple and Effective Pruning Approach for Large Language Models.
    """

    needs_loss = False

    def __init__(self) -> None:
        """Start empty."""
        self._squares: dict[str, tuple[LayerWeight, Tensor]] = {}
        self._sums = ChannelSums()
        self._last: tuple[Any, Tensor, Tensor] | None = None

    def watch(self, model: nn.Module, groups: Mapping[str, Units]) -> Iterable[Any]:  # noqa: ARG002
        """Put a hook before every prunable layer.

        Args:
            model: The model.
            groups: The groups to prune.

        Returns:
            The hooks' handles.
        """
        layers = {
            id(model.get_parameter(layer.parameter)): layer for layer in weight_layers(model) if not layer.unsuited
        }
        users = [(module, layers.get(id(module._parameters.get("weight")))) for module in model.modules()]
        return [
            module.register_forward_pre_hook(partial(self._add, layer, 1 + len(layer.kernel)), with_kwargs=True)
            for module, layer in users
            if layer and isinstance(module, PRUNABLE)  # an embedding may share the weight: it reads no channels
        ]

    def _add(
        self, layer: LayerWeight, behind: int, _: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        if counted_already():
            return
        values = (inputs[0] if inputs else named["input"]).detach()
        # Channels come last in a linear layer, before space in a convolution.
        total = self._of(values, values.ndim - behind)
        seen = self._squares.get(layer.parameter)
        self._squares[layer.parameter] = (layer, total if seen is None else seen[1] + total)

    def _of(self, values: Tensor, channel: int) -> Tensor:
        """Several layers in a row may read one input, such as queries, keys and values."""
        if values.is_inference():  # it has no version, so a change in place would go unseen
            return self._summed(values, channel)
        key = (values.data_ptr(), values._version, values.shape, values.stride(), values.dtype, channel)
        if self._last is None or self._last[0] != key:
            self._last = (key, values, self._summed(values, channel))  # held, so that nothing else takes its place
        return self._last[2]

    def _summed(self, values: Tensor, channel: int) -> Tensor:
        return self._sums.squares(values.to(torch.promote_types(values.dtype, torch.float32)), channel)

    def batch(self, batch: Batch) -> None:  # noqa: ARG002
        """Let go of the last input; the hooks have seen the batch.

        Args:
            batch: Not looked at.
        """
        self._last = None

    def result(self) -> Statistics:
        """The norms.

        Returns:
            For each weight whose layer ran, a tensor broadcastable to it.
        """
        found = {name: _beside_weight(layer, total.sqrt()) for name, (layer, total) in self._squares.items()}
        return Statistics({"input_norm": found})


def _beside_weight(layer: LayerWeight, channels: Tensor) -> Tensor:
    """One value per input channel, in a shape that broadcasts against the weight."""
    groups, out, in_, kernel = layer.sizes
    ones = (1,) * len(kernel)
    if layer.transposed:
        return channels.reshape(-1, 1, *ones)
    if groups == 1:
        return channels.reshape(1, -1, *ones)
    return channels.reshape(groups, 1, in_, *ones).expand(-1, out, -1, *ones).reshape(groups * out, in_, *ones)
