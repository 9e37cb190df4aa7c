"""Granularities: what leaves together, from single weights to whole filters.

A granularity is a function from a model to its groups, `dict[str, Units]`, one group per layer here. A layer that the
granularity does not fit is in the dictionary all the same, frozen, with the reason. Order of the entries: the model's
own. `channel` is the exception: its groups go through the whole model.
"""

from secateur.granularity.block import block
from secateur.granularity.channel import channel, head
from secateur.granularity.filter import filter  # noqa: A004  the field's word
from secateur.granularity.input_channel import input_channel
from secateur.granularity.kernel import kernel
from secateur.granularity.kernel_pattern import PCONV_PATTERNS, kernel_pattern, natural_patterns
from secateur.granularity.layers import Granularity, LayerWeight, weight_layers
from secateur.granularity.pattern import pattern
from secateur.granularity.vector import vector
from secateur.granularity.weight import weight

__all__ = [
    "PCONV_PATTERNS",
    "Granularity",
    "LayerWeight",
    "block",
    "channel",
    "filter",
    "head",
    "input_channel",
    "kernel",
    "kernel_pattern",
    "natural_patterns",
    "pattern",
    "vector",
    "weight",
    "weight_layers",
]
