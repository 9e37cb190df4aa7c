"""Index maps: which unit each weight belongs to, without storing an integer per weight where a rule can say it.

An index map answers four questions about one parameter. `numbers` draws the integers, `reduce` folds a value per weight
into a value per unit, `mask` turns a decision per unit into a mask over the weights, `counts` says how many weights a
unit has. Three kinds are enough for every granularity:

- `Arange`: a rule (cut up, reorder, join, share). Four tuples of integers, whatever the size of the parameter.
- `Cover`: every kernel has several overlapping candidates, its patterns; a weight stays while one of them stays.
- `Stored`: the integers themselves, for what no rule describes, e.g. channels coupled across layers.

`Embedded` sets a map of a smaller parameter into the larger one it was cut from.
"""

from secateur.index_maps.arange import Arange
from secateur.index_maps.cover import Cover
from secateur.index_maps.embedded import Embedded
from secateur.index_maps.protocol import How, IndexMap, Sizes
from secateur.index_maps.stored import Stored

__all__ = ["Arange", "Cover", "Embedded", "How", "IndexMap", "Sizes", "Stored"]
