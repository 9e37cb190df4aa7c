"""The command line: `secateur demo`, `prune`, `finetune`, `report`, `list`, `data`."""

from secateur.cli.main import main

__all__ = ["main"]
