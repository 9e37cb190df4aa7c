"""Where the code of a model looks at values to decide what to run."""

from __future__ import annotations

import torch

from secateur.dependency.record import Call, Record, references

# torch's own marks of operations whose result, or its shape, has to be computed before the code can go on.
MARKS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


def decisions(record: Record) -> tuple[Call, ...]:
    """Operations by which the values of inputs or parameters reach the code.

    A pass that has some is one of several that the code may take: `if x.sum() > 0`, `x.item()`, `x.nonzero()`. What is
    computed of constants alone, such as positions, is the same in every pass.

    Args:
        record: Of a forward pass.

    Returns:
        The operations, in order; of those on one line the first.

    Example:
        >>> from secateur.dependency import record
        >>> class Turned(torch.nn.Module):
        ...     def forward(self, x):
        ...         return -x if x.sum() > 0 else x
        >>> [call.name for call in decisions(record(Turned(), torch.ones(2)))]
        ['_local_scalar_dense']
    """
    free = set(record.numbers("input", "parameter"))
    found: dict[object, Call] = {}
    for position, call in enumerate(record.calls):
        if free.isdisjoint(references(call)):
            continue
        free.update(number for number in call.results if number is not None)
        if _looks(record, call):
            found.setdefault(call.line or position, call)
    return tuple(found.values())


def _looks(record: Record, call: Call) -> bool:
    """An index counts only where it is a mask: how many positions it picks is then a question of values."""
    if call.name == "index":
        return any(record.values[one].dtype in (torch.bool, torch.uint8) for one in references(call)[1:])
    return not MARKS.isdisjoint(call.op.tags)
