"""The command line: `secateur demo`, `secateur prune`, `secateur report`, `secateur list`, `secateur data`."""

from secateur.cli.main import main

__all__ = ["main"]
