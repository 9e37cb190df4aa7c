"""Surgery: the smaller dense model that a plan describes, proved, saved and restored."""

from secateur.surgery.saved import restore, save
from secateur.surgery.shrink import shrink

__all__ = ["restore", "save", "shrink"]
