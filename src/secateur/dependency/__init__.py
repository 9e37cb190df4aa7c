"""Which channels must leave together: a forward pass is recorded, and labels ride along the record."""

from secateur.dependency.record import Call, Record, Reference, Value, references, replay
from secateur.dependency.recorder import record

__all__ = ["Call", "Record", "Reference", "Value", "record", "references", "replay"]
