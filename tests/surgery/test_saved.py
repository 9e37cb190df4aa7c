"""Smaller models as files: the same bits in a new process, and nothing else than tensors and integers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, criteria, granularity
from secateur.batches import call
from secateur.dependency import integers, tensors_in
from secateur.state import load_state, save_state
from secateur.surgery.saved import KIND
from tests.zoo.table import ZOO


def outputs(model: nn.Module, example: Any) -> list[Tensor]:
    with torch.no_grad():
        return list(tensors_in(call(model, example)))


def smaller(name: str) -> tuple[nn.Module, Any]:
    model, example = ZOO[name].build()
    groups = granularity.channel(example)
    if all(units.frozen for units in groups(model).values()):
        return model, example
    pruner = sc.Pruner(criteria.random(), groups, allocation.uniform())
    return sc.shrink(model, pruner.plan(model, sc.Budget(sparsity=0.4)), prove=False), example


def ties(model: nn.Module) -> int:
    return len(list(model.named_parameters(remove_duplicate=False))) - len(list(model.parameters()))


@pytest.mark.parametrize("name", ZOO)
def test_a_model_comes_back_with_the_same_bits(name: str, tmp_path: Path) -> None:
    small, example = smaller(name)
    sc.save(small, tmp_path / "small.safetensors")
    fresh, _ = ZOO[name].build(seed=1)
    again = sc.restore(tmp_path / "small.safetensors", fresh)
    assert again is fresh
    assert integers(again) == integers(small)
    for one, other in zip(outputs(small, example), outputs(again, example), strict=True):
        assert torch.equal(one, other)
    ties = [
        len(list(model.named_parameters(remove_duplicate=False))) - len(list(model.parameters()))
        for model in (small, again)
    ]
    assert ties[0] == ties[1]


NEW_PROCESS = """
import torch, secateur as sc
from tests.zoo.table import ZOO
model, example = ZOO["shuffle by view and transpose"].build(seed=5)
again = sc.restore("small.safetensors", model)
torch.save(again(torch.load("example.pt")), "output.pt")
"""


def test_a_new_process_gives_the_same_bits(tmp_path: Path) -> None:
    small, example = smaller("shuffle by view and transpose")
    sc.save(small, tmp_path / "small.safetensors")
    torch.save(example, tmp_path / "example.pt")
    root = Path(__file__).resolve().parents[2]
    code = f"import sys; sys.path.insert(0, {str(root)!r})" + NEW_PROCESS
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert torch.equal(torch.load(tmp_path / "output.pt"), small(example))


def test_a_model_without_memory_takes_on_the_file(tmp_path: Path) -> None:
    small, example = smaller("conv-bn-relu chain")
    sc.save(small, tmp_path / "small.safetensors")
    fresh, _ = ZOO["conv-bn-relu chain"].build(seed=1)
    again = sc.restore(tmp_path / "small.safetensors", fresh.to("meta"))
    assert torch.equal(again(example), small(example))
    with pytest.raises(sc.ModelError, match="have no values"):
        sc.save(fresh.to("meta"), tmp_path / "other.safetensors")


def changed(path: Path, change: Any) -> None:
    tree: Any = load_state(path, kind=KIND)
    change(tree)
    save_state(path, tree, kind=KIND)


BAD = {
    "larger": (lambda tree: tree["tensors"].update({"fc1.weight": torch.zeros(999, 8)}), "smaller tensors"),
    "of another kind": (
        lambda tree: tree["tensors"].update({"fc1.weight": torch.zeros(4, 8).int()}),
        "smaller tensors",
    ),
    "fewer": (lambda tree: tree["tensors"].pop("fc1.weight"), "another model"),
    "more": (lambda tree: tree["tensors"].update({"evil": torch.zeros(1)}), "another model"),
    "no tensor": (lambda tree: tree["tensors"].update({"fc1.weight": "text"}), "damaged"),
    "no integers": (lambda tree: tree.pop("integers"), "damaged"),
    "hidden": (lambda tree: tree["integers"].append(["", ["__class__"], 1]), "damaged"),
    "no integer": (lambda tree: tree["integers"].append(["fc1", ["in_features"], "8"]), "damaged"),
    "no path": (lambda tree: tree["integers"].append(["fc1", [], 8]), "damaged"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_do_not_fit_are_refused_and_nothing_is_touched(name: str, tmp_path: Path) -> None:
    change, words = BAD[name]
    small, _ = smaller("mlp")
    path = tmp_path / "small.safetensors"
    sc.save(small, path)
    changed(path, change)
    fresh, _ = ZOO["mlp"].build(seed=1)
    before, held = {key: value.clone() for key, value in fresh.state_dict().items()}, integers(fresh)
    with pytest.raises(sc.PlanError, match=words):
        sc.restore(path, fresh)
    assert integers(fresh) == held
    assert all(torch.equal(before[key], value) for key, value in fresh.state_dict().items())


def test_an_integer_that_the_model_lacks_is_left_out(tmp_path: Path) -> None:
    small, _ = smaller("mlp")
    path = tmp_path / "small.safetensors"
    sc.save(small, path)
    changed(path, lambda tree: tree["integers"].append(["fc1", ["nothing"], 8]))
    assert not hasattr(sc.restore(path, ZOO["mlp"].build(seed=1)[0]).get_submodule("fc1"), "nothing")


def test_a_file_that_is_none(tmp_path: Path) -> None:
    model, _ = ZOO["mlp"].build()
    with pytest.raises(sc.PlanError, match="not read"):
        sc.restore(tmp_path / "nowhere", model)
    (tmp_path / "noise").write_bytes(b"\x08" * 100)
    with pytest.raises(sc.PlanError, match="not read"):
        sc.restore(tmp_path / "noise", model)
    with pytest.raises(sc.ModelError, match="not saved"):
        sc.save(model, tmp_path / "no" / "folder")


def test_masked_and_dense_models_are_files_too(tmp_path: Path) -> None:
    model, example = ZOO["mlp"].build()
    sc.save(model, tmp_path / "dense.safetensors")
    again = sc.restore(tmp_path / "dense.safetensors", ZOO["mlp"].build(seed=3)[0])
    assert torch.equal(again(example), model(example))


class Growing(nn.Module):
    """A table that follows the length of its inputs."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(3, 8), nn.Linear(8, 2)
        self.register_buffer("table", torch.zeros(1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > len(self.table):
            self.table = torch.arange(1.0, 1 + len(x))[:, None]
        return torch.as_tensor(self.fc2(self.fc1(x) * self.table[: len(x)]))


def test_a_table_that_has_grown_fits_a_new_model(tmp_path: Path) -> None:
    example = torch.ones(5, 3)
    grown = Growing()
    wanted = grown(example)
    sc.save(grown, tmp_path / "grown.safetensors")
    assert torch.equal(sc.restore(tmp_path / "grown.safetensors", Growing())(example), wanted)
