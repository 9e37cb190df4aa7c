"""Which channels must leave together: a forward pass is recorded, and labels ride along the record."""

from secateur.dependency.contributions import contributions
from secateur.dependency.deadline import Deadline, within
from secateur.dependency.decisions import decisions
from secateur.dependency.fitting import fitted, scales
from secateur.dependency.groups import Coupled, Slot, coupled, stays
from secateur.dependency.masked import masked_replay
from secateur.dependency.numbers import Expression, Operation, Size, attributes_in, evaluate, sizes_in
from secateur.dependency.reachable import Reach, Reading, reach
from secateur.dependency.record import Amount, Call, Record, Reference, SizeUse, Value, references, replay
from secateur.dependency.recorder import record, record_all, tensors_in
from secateur.dependency.resize import Cut
from secateur.dependency.rewrites import Rewrites, rewrites
from secateur.dependency.roles import roles
from secateur.dependency.rules import register_rule
from secateur.dependency.solver import Solution, solve
from secateur.dependency.tagging import integers
from secateur.units import Attribute

__all__ = [
    "Amount",
    "Attribute",
    "Call",
    "Coupled",
    "Cut",
    "Deadline",
    "Expression",
    "Operation",
    "Reach",
    "Reading",
    "Record",
    "Reference",
    "Rewrites",
    "Size",
    "SizeUse",
    "Slot",
    "Solution",
    "Value",
    "attributes_in",
    "contributions",
    "coupled",
    "decisions",
    "evaluate",
    "fitted",
    "integers",
    "masked_replay",
    "reach",
    "record",
    "record_all",
    "references",
    "register_rule",
    "replay",
    "rewrites",
    "roles",
    "scales",
    "sizes_in",
    "solve",
    "stays",
    "tensors_in",
    "within",
]
