"""Operations of a record whose results nothing needs."""

from __future__ import annotations

from secateur.dependency.record import Record, references


def unused(record: Record) -> frozenset[int]:
    """Positions of the operations that neither an output nor anything else depends on.

    Code often computes what it then drops, such as the average over heads that `nn.MultiheadAttention` returns beside
    its result. Such an operation still has to run on a smaller model, but its values do not matter. Operations that
    change tensors in place or return no tensor count as needed.

    Args:
        record: A forward pass.

    Returns:
        The positions.

    Example:
        >>> import torch
        >>> from secateur.dependency import record as recorded
        >>> class Dropped(torch.nn.Module):
        ...     def forward(self, x):
        ...         mean = x.mean()
        ...         return x + 1
        >>> sorted(unused(recorded(Dropped(), torch.zeros(2))))
        [0]
    """
    needed = set(record.outputs)
    found = []
    for position in range(len(record.calls) - 1, -1, -1):
        call = record.calls[position]
        if call.op._schema.is_mutable or None in call.results or not needed.isdisjoint(call.results):
            needed.update(references(call))
        else:
            found.append(position)
    return frozenset(found)
