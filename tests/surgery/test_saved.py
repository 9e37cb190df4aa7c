"""Smaller models as files: the same bits in a new process, and nothing else than tensors and integers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
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
torch.set_num_threads(1)  # as the tests do: the order of sums depends on it
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
    "grown": (lambda tree: tree["integers"].append(["fc1", ["in_features"], 2**62]), "only makes integers smaller"),
    "below zero": (lambda tree: tree["integers"].append(["fc1", ["in_features"], -1]), "only makes integers smaller"),
    "of another class": (lambda tree: tree["classes"].update({"fc1": "Bilinear"}), "Bilinear there and Linear here"),
    "of more modules": (lambda tree: tree["classes"].update({"fc9": "Linear"}), "Linear there and nothing here"),
    "out of order": (lambda tree: tree["order"].update({"fc1.weight": (0, 0)}), "damaged"),
    "ordered by none": (lambda tree: tree["order"].update({"fc1.weight": "ab"}), "damaged"),
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


@pytest.mark.parametrize("mark", [2**48, -(2**61), 2**61 - 1])
def test_what_is_no_size_may_be_another_in_every_process(mark: int, tmp_path: Path) -> None:
    """A model may hold a hash of its settings, and hashes of text differ from process to process."""
    small, _ = smaller("mlp")
    fresh = ZOO["mlp"].build(seed=1)[0]
    small.fc1.marks, fresh.fc1.marks = {"hash": 5}, {"hash": mark}
    sc.save(small, tmp_path / "small.safetensors")
    assert sc.restore(tmp_path / "small.safetensors", fresh).fc1.marks == {"hash": mark}
    small.fc1.marks = {"hash": -mark}
    sc.save(small, tmp_path / "small.safetensors")
    assert sc.restore(tmp_path / "small.safetensors", fresh).fc1.marks == {"hash": mark}


def test_a_file_that_is_none(tmp_path: Path) -> None:
    model, _ = ZOO["mlp"].build()
    with pytest.raises(sc.PlanError, match="not read"):
        sc.restore(tmp_path / "nowhere", model)
    (tmp_path / "noise").write_bytes(b"\x08" * 100)
    with pytest.raises(sc.PlanError, match="not read"):
        sc.restore(tmp_path / "noise", model)
    with pytest.raises(sc.ModelError, match="not saved"):
        sc.save(model, tmp_path / "no" / "folder")


@pytest.mark.parametrize("name", ["mlp", "gru", "lstm", "weight norm", "tied embedding and head"])
def test_masked_and_dense_models_are_files_too(name: str, tmp_path: Path) -> None:
    model, example = ZOO[name].build()
    weights = sc.Pruner(criteria.magnitude(), granularity.weight(), allocation.uniform())
    for one in (model, sc.mask(model, weights.plan(model, sc.Budget(sparsity=0.5)))):
        sc.save(one, tmp_path / "model.safetensors")
        again = sc.restore(tmp_path / "model.safetensors", ZOO[name].build(seed=3)[0])
        for wanted, found in zip(outputs(one, example), outputs(again, example), strict=True):
            assert torch.equal(wanted, found)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.99])
def test_a_file_cut_short_is_refused(share: float, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    sc.save(smaller("mlp")[0], path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(sc.PlanError, match="not read"):
        sc.restore(path, ZOO["mlp"].build()[0])


def test_numbers_lie_in_memory_as_they_did(tmp_path: Path) -> None:
    """The order of sums may depend on it."""

    def made() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(16, 32, 3), nn.Conv2d(32, 8, 3))

    model, x = made(), torch.randn(2, 16, 12, 12)
    model[0].weight.data = model[0].weight.data.contiguous(memory_format=torch.channels_last)
    model[1].bias.data = torch.randn(16)[::2]
    sc.save(model, tmp_path / "model.safetensors")
    again = sc.restore(tmp_path / "model.safetensors", made())
    assert again[0].weight.stride() == model[0].weight.stride()
    assert torch.equal(again(x), model(x))


def test_settings_that_cannot_be_changed_are_replaced(tmp_path: Path) -> None:
    """The config is a frozen dataclass."""

    @dataclass(frozen=True)
    class Config:
        heads: int = 4

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config, self.enter, self.leave = Config(), nn.Linear(8, 16), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Any:
            x = self.enter(x).view(-1, self.config.heads, 4)
            return self.leave(torch.relu(x).flatten(1))

    model, x = Heads(), torch.randn(3, 8)
    pruner = sc.Pruner(criteria.random(), granularity.channel(x), allocation.uniform())
    small = sc.shrink(model, pruner.plan(model, sc.Budget(sparsity=0.5)))
    sc.save(small, tmp_path / "small.safetensors")
    again = sc.restore(tmp_path / "small.safetensors", Heads())
    assert (model.config.heads, small.config.heads, again.config.heads) == (4, 2, 2)
    assert torch.equal(again(x), small(x))


class Scaled(nn.Module):
    """Holds a tensor that is no buffer, and counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.scale, self.passes = nn.Linear(2, 2), torch.ones(2), 0

    def forward(self, x: Tensor) -> Any:
        self.passes += 1
        return self.fc(x) * self.scale


def test_what_a_file_cannot_give_is_asked_for(tmp_path: Path) -> None:
    model = Scaled()
    sc.save(model, tmp_path / "model.safetensors")
    with torch.device("meta"):
        empty = Scaled()
    with pytest.raises(sc.PlanError, match="'scale' of 'the model itself' is a tensor without values"):
        sc.restore(tmp_path / "model.safetensors", empty)
    model(torch.ones(1, 2))
    sc.save(model, tmp_path / "model.safetensors")
    with pytest.raises(sc.PlanError, match=r"passes is 1 in the file and 0 in the model.*set it first"):
        sc.restore(tmp_path / "model.safetensors", Scaled())


def test_lazy_models_have_no_sizes(tmp_path: Path) -> None:
    with pytest.raises(sc.ModelError, match="have no values"):
        sc.save(nn.LazyLinear(2), tmp_path / "model.safetensors")
    sc.save(nn.Linear(3, 2), tmp_path / "model.safetensors")
    changed(tmp_path / "model.safetensors", lambda tree: tree["classes"].update({"": "LazyLinear"}))
    with pytest.raises(sc.PlanError, match="no shape yet"):
        sc.restore(tmp_path / "model.safetensors", nn.LazyLinear(2))


class Caching(nn.Linear):
    """Keeps its weight transposed in eval mode."""

    cache: Tensor | None = None

    def train(self, mode: bool = True) -> Caching:
        self.cache = None
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if self.cache is None:
            self.cache = self.weight.detach().t()
        return x @ self.cache


def test_what_was_computed_from_old_weights_is_forgotten(tmp_path: Path) -> None:
    model, fresh, x = Caching(2, 2).eval(), Caching(2, 2).eval(), torch.ones(1, 2)
    fresh(x)
    sc.save(model, tmp_path / "model.safetensors")
    assert torch.equal(sc.restore(tmp_path / "model.safetensors", fresh)(x), model(x))
    assert not fresh.training


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
