"""Shared by the tests, the doctests and the Markdown pages: threads, plots, and how a page runs."""

import os
from contextlib import ExitStack, chdir
from tempfile import TemporaryDirectory
from typing import Any

import torch
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

# Sums are reproducible on one thread only, and the test workers share the cores.
torch.set_num_threads(1)
os.environ.setdefault("MPLBACKEND", "Agg")

collect_ignore_glob = ["docs/*.py", "docs/_generate/*"]


def _open_page(namespace: dict[str, Any]) -> None:
    stack = ExitStack()
    stack.enter_context(chdir(stack.enter_context(TemporaryDirectory())))
    stack.enter_context(torch.random.fork_rng(devices=[]))
    torch.manual_seed(0)
    namespace["_page"] = stack


def _close_page(namespace: dict[str, Any]) -> None:
    namespace.pop("_page").close()


# The ```python blocks of one page run in order, in one namespace and a directory of their own.
# `<!-- skip: next -->` before a block leaves it out.
pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "CONTRIBUTING.md", "docs/*.md", "docs/*/*.md"],
    setup=_open_page,
    teardown=_close_page,
).pytest()
