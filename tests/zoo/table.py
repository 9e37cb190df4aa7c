"""All tiny networks, by name."""

from __future__ import annotations

from tests.zoo.attention import ATTENTION
from tests.zoo.basics import BASICS
from tests.zoo.borrowed import BORROWED
from tests.zoo.gates import GATES
from tests.zoo.groups import GROUPS
from tests.zoo.heads import HEADS
from tests.zoo.joins import JOINS
from tests.zoo.norms import NORMS
from tests.zoo.numbers import NUMBERS
from tests.zoo.parameters import PARAMETERS
from tests.zoo.recurrent import RECURRENT
from tests.zoo.residuals import RESIDUALS
from tests.zoo.specimen import Specimen
from tests.zoo.traps import TRAPS
from tests.zoo.windows import WINDOWS

TABLES = (
    BASICS,
    RESIDUALS,
    GROUPS,
    JOINS,
    NORMS,
    GATES,
    HEADS,
    ATTENTION,
    WINDOWS,
    PARAMETERS,
    RECURRENT,
    NUMBERS,
    BORROWED,
    TRAPS,
)

ZOO: dict[str, Specimen] = {name: specimen for table in TABLES for name, specimen in table.items()}
