"""Surgery: the smaller dense model that a plan describes."""

from secateur.surgery.shrink import shrink

__all__ = ["shrink"]
