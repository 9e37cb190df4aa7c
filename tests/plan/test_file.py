import errno
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import secateur as sc
from secateur import allocation, granularity
from secateur.index_maps import Arange, Stored
from tests.small import FIXED, GRANULARITIES, network, pruner, same_masks


def a_plan(name: str) -> sc.Plan:
    budget = None if name in FIXED else sc.Budget(sparsity=0.6)
    plan = pruner((GRANULARITIES | FIXED)[name], allocation.uniform()).plan(network(), budget)
    return sc.Plan(plan.parts, {"0.weight": torch.randn(8, 1, 3, 3)}, plan.made_by)


@pytest.mark.parametrize("name", [*GRANULARITIES, *FIXED])
def test_a_saved_plan_comes_back_whole(name: str, tmp_path: Path) -> None:
    plan = a_plan(name)
    plan.save(tmp_path / "plan.safetensors")
    again = sc.Plan.load(tmp_path / "plan.safetensors")
    assert same_masks(plan, again)
    assert str(plan) == str(again)
    assert again.made_by == plan.made_by
    assert torch.equal(again.updates["0.weight"], plan.updates["0.weight"])


def test_stored_and_embedded_units_come_back(tmp_path: Path) -> None:
    axis = sc.ParameterAxis("0.weight", 0)
    stored = Stored((4, 2), torch.tensor([[0], [1], [0], [-1]]), 2)
    units = sc.Units({axis: stored}, Arange((2,), repeat=(2,)), {axis: "out"}, note="a pair")
    first = sc.Plan((sc.Part("pair", units, torch.tensor([True, False])),))
    smaller = pruner(granularity.weight(), allocation.uniform()).plan(
        torch.nn.Sequential(torch.nn.Linear(2, 3)), sc.Budget(sparsity=0.5)
    )
    plan = first.then(smaller)
    plan.save(tmp_path / "plan.safetensors")
    again = sc.Plan.load(tmp_path / "plan.safetensors")
    assert same_masks(plan, again)
    assert str(plan) == str(again)
    assert again.parts[0].units.role == {axis: "out"}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plans") / "good.safetensors"
    a_plan("2:4").save(path)
    return path


@settings(max_examples=150)
@given(data=st.data())
def test_damaged_files_give_a_plan_error_and_nothing_else(good: Path, data: st.DataObject) -> None:
    content = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "digits"]))
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        if kind == "flip" and content:
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del content[at : at + data.draw(st.integers(1, 200))]
        elif kind == "insert":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        else:
            content[at : at + 12] = b"999999999999"
    path = good.with_name("damaged.safetensors")
    path.write_bytes(bytes(content))
    try:
        plan = sc.Plan.load(path)
    except sc.PlanError:
        return
    assert isinstance(str(plan.made_by), str)  # damage that says nothing wrong, e.g. inside a value


@given(content=st.binary(max_size=200))
def test_random_bytes_give_a_plan_error(good: Path, content: bytes) -> None:
    path = good.with_name("random.safetensors")
    path.write_bytes(content)
    with pytest.raises(sc.PlanError):
        sc.Plan.load(path)


def test_a_missing_file_and_a_file_of_another_kind(tmp_path: Path) -> None:
    from secateur.state import save_state

    with pytest.raises(sc.PlanError, match="No such file"):
        sc.Plan.load(tmp_path / "none.safetensors")
    save_state(tmp_path / "state.safetensors", {"step": 1})
    with pytest.raises(sc.PlanError, match=r"secateur\.plan"):
        sc.Plan.load(tmp_path / "state.safetensors")


def test_a_full_disk_leaves_the_old_plan_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.safetensors"
    a_plan("filter").save(path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(sc.PlanError, match="No space left"):
        a_plan("weight").save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.safetensors"]
