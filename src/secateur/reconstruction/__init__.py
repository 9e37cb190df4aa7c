"""Reconstruction: methods that mend what is left of a model after units have gone, or choose while they mend."""

from secateur.reconstruction.batchnorm import reestimate
from secateur.reconstruction.layerwise import layerwise
from secateur.reconstruction.permutation import Permuted, permuted
from secateur.reconstruction.sparsegpt import sparsegpt

__all__ = ["Permuted", "layerwise", "permuted", "reestimate", "sparsegpt"]
