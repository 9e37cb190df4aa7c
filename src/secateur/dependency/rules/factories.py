"""Tensors made from nothing: constants carry labels like a parameter that nobody stores, counted positions do not."""

from __future__ import annotations

from secateur.dependency.facets import Labelled
from secateur.dependency.step import Rule, Step, for_each


def _fresh(step: Step) -> Labelled:
    return step.partition.fresh(step.shape, loose=True)


def _fixed(step: Step) -> list[Labelled]:
    return [Labelled(shape or ()) for shape in step.shapes]


RULES: dict[str, Rule] = {
    **for_each("empty zeros ones full rand randn new_empty new_zeros new_ones new_full empty_strided", _fresh),
    **for_each("arange linspace eye scalar_tensor randint randperm tril_indices triu_indices", _fixed),
}
