"""Which channels must leave together: a forward pass is recorded, and labels ride along the record."""

from secateur.dependency.record import Call, Record, Reference, Value, references, replay
from secateur.dependency.recorder import record
from secateur.dependency.sizes import SizeUse
from secateur.dependency.solver import Solution, solve

__all__ = ["Call", "Record", "Reference", "SizeUse", "Solution", "Value", "record", "references", "replay", "solve"]
