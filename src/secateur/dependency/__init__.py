"""Which channels must leave together: a forward pass is recorded, and labels ride along the record."""

from secateur.dependency.numbers import (
    Attribute,
    Expression,
    Operation,
    Size,
    attributes_in,
    evaluate,
    sizes_in,
)
from secateur.dependency.record import Call, Record, Reference, SizeUse, Value, references, replay
from secateur.dependency.recorder import record

__all__ = [
    "Attribute",
    "Call",
    "Expression",
    "Operation",
    "Record",
    "Reference",
    "Size",
    "SizeUse",
    "Value",
    "attributes_in",
    "evaluate",
    "record",
    "references",
    "replay",
    "sizes_in",
]
