"""Reconstruction: methods that mend what is left of a model after units have gone, or choose while mending."""

from secateur.reconstruction.batchnorm import reestimate
from secateur.reconstruction.lasso import lasso
from secateur.reconstruction.layerwise import layerwise
from secateur.reconstruction.least_squares import errors, least_squares
from secateur.reconstruction.permutation import Permuted, permuted
from secateur.reconstruction.sparsegpt import sparsegpt
from secateur.reconstruction.thinet import thinet

__all__ = [
    "Permuted",
    "errors",
    "lasso",
    "layerwise",
    "least_squares",
    "permuted",
    "reestimate",
    "sparsegpt",
    "thinet",
]
