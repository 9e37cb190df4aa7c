"""The command line: `secateur demo`, `secateur prune`, `secateur report`, `secateur list`."""

from secateur.cli.main import main

__all__ = ["main"]
