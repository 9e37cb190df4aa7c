"""What torch's own classes ask of their sizes without the code of the model saying so."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from secateur.dependency.binding import Binding
from secateur.dependency.partition import Reason
from secateur.dependency.record import Record

WIDTH = "nn.MultiheadAttention asks that heads times their size is its width"
ROWS = ("in_proj_weight", "in_proj_bias", "q_proj_weight")  # as often the width as there are projections in it
READS = ("in_proj_weight", "q_proj_weight")  # along dimension 1, queries as wide as what comes out of the heads


def bindings(model: nn.Module, record: Record) -> dict[Binding, Reason]:
    """Dimensions that leave alike because a class of torch computes the one from the other.

    `nn.MultiheadAttention` takes the width of its queries for that of all its heads together, and divides it by their
    number. So blocks of the width leave with the heads, where the width may leave at all.

    Args:
        model: The model that was recorded.
        record: Its forward pass.

    Returns:
        The reason, by what is bound.
    """
    numbers = {name: n for n in record.numbers("parameter", "buffer") for name in record.values[n].names}
    found: dict[Binding, Reason] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            held = {
                name: numbers[full]
                for name in _names(module)
                if (full := f"{path}.{name}" if path else name) in numbers
            }
            found |= {one: Reason(WIDTH, module=path) for one in _attention(held)}
    return found


def _names(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters(remove_duplicate=False)]


def _attention(held: dict[str, int]) -> Iterator[Binding]:
    if "out_proj.weight" not in held:
        return
    width = (held["out_proj.weight"], 1)
    for names, dim in ((ROWS, 0), (READS, 1)):
        for name in names:
            if name in held:
                yield Binding(width, held[name], (dim,))
