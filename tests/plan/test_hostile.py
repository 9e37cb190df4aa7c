"""Plan files that lie: every claim is checked, nothing is allocated for it, and nothing but `PlanError` comes out."""

from __future__ import annotations

import json
import os
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import secateur as sc
from secateur import allocation, granularity
from secateur.plan.file import KIND
from secateur.state import save_state
from tests.small import network, pruner

Tree = dict[str, Any]
BIT = torch.tensor([128], dtype=torch.uint8)  # one decision, True
HUGE = 2**47


def arange(*shape: int, **steps: tuple[int, ...]) -> Tree:
    whole = {"split": shape, "permute": tuple(range(len(shape))), "join": shape, "repeat": (1,) * len(shape)}
    return {"kind": "arange", "shape": shape, **whole, **steps}


def plan_of(first: Tree, scope: Tree | None = None, keep: object = BIT, **more: object) -> Tree:
    """The tree of a plan of one part, of one unit unless said otherwise."""
    units = {"index": [["w", None, "out", first]], "scope": scope or arange(1), **FREE, **more}
    return {"parts": [{"name": "w", "reason": "", "units": units, "keep": keep}], "updates": {}, "made_by": {}}


FREE: Tree = {"keep_per_scope": None, "frozen": "", "note": ""}
GOOD = plan_of(arange(1))


def stored(units: torch.Tensor, n_units: int, *shape: int) -> Tree:
    return {"kind": "stored", "shape": shape, "units": units, "n_units": n_units}


def embedded(kept: tuple[torch.Tensor, ...], inner: Tree, *shape: int) -> Tree:
    return {"kind": "embedded", "shape": shape, "kept": kept, "inner": inner}


def nested(depth: int) -> Tree:
    tree = arange(1)
    for _ in range(depth):
        tree = embedded((torch.tensor([0]),), tree, 1)
    return tree


def cover(shape: tuple[int, ...], kernel: tuple[int, ...], *patterns: tuple[int, ...]) -> Tree:
    return {"kind": "cover", "shape": shape, "kernel": kernel, "patterns": patterns}


def load(tree: object, path: Path) -> sc.Plan:
    save_state(path, tree, kind=KIND)
    return sc.Plan.load(path)


def without(key: str) -> Tree:
    return {name: value for name, value in GOOD.items() if name != key}


LIES: dict[str, object] = {
    "no tree": None,
    "a list": [1, 2],
    "no parts": without("parts"),
    "no updates": without("updates"),
    "no provenance": without("made_by"),
    "parts that are none": {**GOOD, "parts": [3]},
    "updates that are none": {**GOOD, "updates": {"w": 1.0}},
    "an update without a name": {**GOOD, "updates": {7: torch.ones(1)}},
    "provenance that is none": {**GOOD, "made_by": "me"},
    "very many units": plan_of(arange(HUGE), arange(HUGE)),
    "very many units of which the file has few decisions": plan_of(arange(9), arange(9)),
    "decisions about units that do not exist": plan_of(arange(1), keep=torch.tensor([255], dtype=torch.uint8)),
    "decisions that are numbers": plan_of(arange(1), keep=torch.tensor([1.0])),
    "no decisions": plan_of(arange(1), keep=None),
    "very many dimensions": plan_of(arange(*(HUGE,) * 2_000, repeat=(HUGE,) * 2_000)),
    "a negative size": plan_of(arange(-1)),
    "a size of zero": plan_of(arange(0)),
    "a size that is no number": plan_of(arange(1, split=(True,))),
    "steps that do not fit": plan_of(arange(1, split=(2,))),
    "an index and a scope that differ": plan_of(arange(2)),
    "a scope over two dimensions": plan_of(arange(1), arange(1, 1)),
    "no such kind": plan_of({"kind": "pickle", "shape": (1,)}),
    "an unknown role": plan_of(arange(1), index=[["w", None, "input", arange(1)]]),
    "an axis that is no number": plan_of(arange(1), index=[["w", "0", "out", arange(1)]]),
    "a parameter that is no name": plan_of(arange(1), index=[[None, None, "out", arange(1)]]),
    "no parameters": plan_of(arange(1), index=[]),
    "more kept than there are": plan_of(arange(1), keep_per_scope=2),
    "a reason that is none": plan_of(arange(1), frozen=1),
    "a kernel far larger than its patterns": plan_of(cover((1, 2**40), (2**40,), (0,), (1,)), arange(2)),
    "very many kernels": plan_of(cover((2**40, 2), (2,), (0,), (1,)), arange(2)),
    "patterns outside the kernel": plan_of(cover((1, 2), (2,), (0, 2**40), (1,)), arange(2)),
    "units that are no integers": plan_of(stored(torch.tensor([0.0]), 1, 1)),
    "units out of range": plan_of(stored(torch.tensor([5]), 1, 1)),
    "units of another shape": plan_of(stored(torch.tensor([[0]]), 1, 1)),
    "stored units that are very many": plan_of(stored(torch.tensor([0]), HUGE, 1), arange(HUGE)),
    "positions that are no integers": plan_of(embedded((torch.tensor([0.5]),), arange(1), 3)),
    "positions out of range": plan_of(embedded((torch.tensor([3]),), arange(1), 3)),
    "positions of two dimensions": plan_of(embedded((torch.tensor([[0]]),), arange(1), 3)),
    "maps inside maps without end": plan_of(nested(9)),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile") / "plan.safetensors"


def test_what_the_lies_are_made_of_is_a_plan(path: Path) -> None:
    assert load(GOOD, path)["w"].kept == 1


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused(lie: str, path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(sc.PlanError):
        load(LIES[lie], path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes


BIG = (2**20, 2**20)


@pytest.mark.parametrize(
    "index",
    [
        arange(*BIG, repeat=BIG),
        stored(torch.tensor([[0]]), 1, *BIG),
        embedded((torch.tensor([5]), torch.tensor([7])), arange(1, 1), *BIG),
    ],
)
def test_a_large_parameter_that_is_consistent_costs_nothing_until_it_meets_a_model(index: Tree, path: Path) -> None:
    plan = load(plan_of(index, keep=torch.zeros(1, dtype=torch.uint8)), path)
    assert "1048576x1048576" in str(plan)
    assert plan.weights_removed in (1, 2**40)
    with pytest.raises(sc.PlanError, match=r"which Linear does not have"):
        sc.mask(torch.nn.Linear(2, 2), plan)


# ---------------------------------------------------------------------------------------------------------- the header


@pytest.fixture(scope="module")
def good(path: Path) -> bytes:
    """The bytes of a plan that nothing is wrong with."""
    pruner(granularity.block(4, 1), allocation.uniform()).plan(network(), sc.Budget(sparsity=0.5)).save(path)
    return path.read_bytes()


def rewritten(content: bytes, change: Callable[[Tree], object]) -> bytes:
    """The file with a changed header and a length that is true."""
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["0"].update(data_offsets=[0, 2**62]),
        lambda header: header["0"].update(shape=[2**40]),
        lambda header: header["0"].update(shape=[2**40, 2**40]),
        lambda header: header["0"].update(dtype="F64"),
        lambda header: header.pop("0"),
        lambda header: header.pop("__metadata__"),
        lambda header: header["__metadata__"].update({KIND: "[" * 100_000}),
        lambda header: header["__metadata__"].update({KIND: '{"version": 1, "tree": ' + "9" * 5000 + "}"}),
        lambda header: header["__metadata__"].update({KIND: '{"version": 2, "tree": null}'}),
    ],
)
def test_headers_that_lie_are_refused(change: Callable[[Tree], object], path: Path, good: bytes) -> None:
    path.write_bytes(rewritten(good, change))
    with pytest.raises(sc.PlanError):
        sc.Plan.load(path)


@pytest.mark.parametrize("length", [0, 1, 2**20, 2**40, 2**63, 2**64 - 1])
def test_lengths_that_lie_are_refused(length: int, path: Path, good: bytes) -> None:
    path.write_bytes(struct.pack("<Q", length) + good[8:])
    with pytest.raises(sc.PlanError):
        sc.Plan.load(path)


@settings(max_examples=60)
@given(st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_refused(path: Path, good: bytes, part: float) -> None:
    path.write_bytes(good[: int(part * len(good))])
    with pytest.raises(sc.PlanError):
        sc.Plan.load(path)


@settings(max_examples=60)
@given(st.binary(min_size=1, max_size=50))
def test_a_file_with_more_at_the_end_is_refused(path: Path, good: bytes, more: bytes) -> None:
    path.write_bytes(good + more)
    with pytest.raises(sc.PlanError):
        sc.Plan.load(path)


@pytest.mark.parametrize("call", ["write", "fsync", "open"])
def test_whatever_fails_while_writing_the_old_plan_is_whole(
    call: str, path: Path, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(good)
    full = OSError(28, "No space left on device")

    def failing(*_: object) -> int:
        raise full

    class Full:
        def __init__(self, descriptor: int, *_: object) -> None:
            self.descriptor = descriptor

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            os.close(self.descriptor)

        write = failing

    with monkeypatch.context() as patch:
        patch.setattr(os, *(("fdopen", Full) if call == "write" else (call, failing)))
        with pytest.raises(sc.PlanError, match="No space left on device"):
            pruner().plan(network(), sc.Budget(sparsity=0.5)).save(path)
    assert path.read_bytes() == good
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_plan_is_not_written_to_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(sc.PlanError, match="cannot write"):
        pruner().plan(network(), sc.Budget(sparsity=0.5)).save(tmp_path / "none" / "plan.safetensors")
