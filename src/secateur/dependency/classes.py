"""What torch's own classes ask of their sizes without the code of the model saying so."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from secateur.dependency.partition import Reason
from secateur.dependency.record import Record

# By class: parameters of which nothing may leave, and why. Their forward is not the code of the model's author.
LIMITS: Mapping[type[nn.Module], tuple[tuple[str, ...], str]] = {
    nn.MultiheadAttention: (
        ("in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"),
        "nn.MultiheadAttention asks that heads times their size is its width",
    ),
}


def limits(model: nn.Module, record: Record) -> dict[tuple[int, int], Reason]:
    """Dimensions that stay because a class of torch asks for it.

    Args:
        model: The model that was recorded.
        record: Its forward pass.

    Returns:
        The reason, by number of the value and dimension.
    """
    numbers = {name: n for n in record.numbers("parameter", "buffer") for name in record.values[n].names}
    found: dict[tuple[int, int], Reason] = {}
    for path, module in model.named_modules():
        for kind, (parameters, why) in LIMITS.items():
            if isinstance(module, kind):
                names = [f"{path}.{name}" if path else name for name in parameters]
                for number in (numbers[name] for name in names if name in numbers):
                    dims = range(len(record.values[number].shape))
                    found |= {(number, dim): Reason(why, module=path) for dim in dims}
    return found
