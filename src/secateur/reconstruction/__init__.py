"""Reconstruction: methods that mend what is left of a model after units have gone."""

from secateur.reconstruction.batchnorm import reestimate

__all__ = ["reestimate"]
