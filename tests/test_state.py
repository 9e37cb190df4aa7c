"""What is saved comes back bit for bit, and no file, however it is damaged, does more than raise a RunError."""

import enum
import json
import math
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

import secateur.state
from secateur.errors import RunError
from secateur.state import STATE, load_state, save_state

DTYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
]
LAYOUTS: list[Callable[[Tensor], Tensor]] = [
    lambda tensor: tensor,
    lambda tensor: tensor.transpose(0, -1) if tensor.ndim else tensor,
    lambda tensor: tensor[..., ::2] if tensor.ndim else tensor,
    lambda tensor: tensor.unsqueeze(0).expand(2, *tensor.shape),
    lambda tensor: tensor.conj(),
    lambda tensor: tensor.conj().imag if tensor.is_complex() else tensor,  # a view with a negative bit
]


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any bits, so NaN of every kind, infinities and numbers too small to be normal among them."""
    shape, dtype = draw(st.lists(st.integers(0, 3), max_size=3)), draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    size = math.prod(shape) * torch.empty(0, dtype=dtype).element_size()
    raw = torch.randint(2 if dtype is torch.bool else 256, (size,), generator=generator, dtype=torch.uint8)
    return draw(st.sampled_from(LAYOUTS))(raw.view(dtype).reshape(shape))


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
keys = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
trees = st.recursive(
    st.one_of(scalars, tensors()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
    ),
    max_leaves=8,
)


def bits(tree: Any) -> Any:
    """A tree as something that `==` compares bit by bit, NaN and -0.0 too, and the types with it."""
    if isinstance(tree, Tensor):
        flat = tree.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format).reshape(-1)
        return tree.dtype, tuple(tree.shape), flat.view(torch.uint8).tolist()
    if isinstance(tree, dict):
        return dict, [(type(key), repr(key), bits(value)) for key, value in tree.items()]
    if isinstance(tree, list | tuple):
        return type(tree), [bits(value) for value in tree]
    return type(tree), repr(tree)


def crafted(skeleton: Any, tensors: dict[str, Any] | None = None, data: bytes = b"") -> bytes:
    """A file whose structure is whatever one likes: JSON text, or what is to become JSON."""
    text = skeleton if isinstance(skeleton, str) else json.dumps(skeleton)
    header = json.dumps({"__metadata__": {STATE: text}, **(tensors or {})}).encode()
    return len(header).to_bytes(8, "little") + header + data


def tree_of(node: Any) -> dict[str, Any]:
    return {"version": 1, "tree": node}


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


def came_back(folder: Path, tree: Any) -> Any:
    save_state(folder / "tree.safetensors", tree)
    return load_state(folder / "tree.safetensors")


# ------------------------------------------------------------------------------ there and back


@settings(max_examples=120)
@given(tree=trees)
def test_what_is_saved_comes_back_bit_for_bit(folder: Path, tree: Any) -> None:
    twice = {"once": tree, "again": [tree]}  # with that every tensor shares its memory with another
    assert bits(came_back(folder, twice)) == bits(twice)


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, -0.0, 5e-324, 2**63, -(2**200), True])
def test_numbers_come_back_as_leaf_and_as_key(folder: Path, number: float) -> None:
    tree = {number: number, "inf": [number]}
    assert bits(came_back(folder, tree)) == bits(tree)


def test_keys_that_look_alike_stay_apart(folder: Path) -> None:
    tree = {1: "int", "1": "text", None: "none", "None": "text", 0.5: "float", "0.5": "text", "float": {"tensor": "0"}}
    assert bits(came_back(folder, tree)) == bits(tree)


def test_tensors_that_share_memory_come_back_apart(folder: Path) -> None:
    base = torch.arange(6.0)
    found = came_back(folder, {"all": base, "half": base[::2], "again": base})
    assert torch.equal(found["half"], torch.tensor([0.0, 2.0, 4.0]))
    found["again"][0] = 9
    assert found["all"][0] == 0


class Pair(NamedTuple):
    x: int
    y: Tensor


class Level(enum.IntEnum):
    HIGH = 3


def test_subclasses_come_back_plain(folder: Path) -> None:
    weight = nn.Parameter(torch.ones(2))
    tree = [OrderedDict(a=1), Pair(1, weight), Level.HIGH, np.float64(0.5), np.str_("text")]
    found = came_back(folder, tree)
    assert bits(found) == bits([{"a": 1}, (1, torch.ones(2)), 3, 0.5, "text"])
    assert not found[1][1].requires_grad


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adadelta, torch.optim.SGD])
def test_an_optimizer_comes_back(folder: Path, kind: Callable[..., torch.optim.Optimizer]) -> None:
    model = nn.Linear(3, 2)
    optimizer = kind(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    found = came_back(folder, optimizer.state_dict())
    assert bits(found) == bits(optimizer.state_dict())
    kind(model.parameters()).load_state_dict(found)


def test_random_generators_come_back(folder: Path) -> None:
    generator = torch.Generator().manual_seed(5)
    state = came_back(folder, {"state": generator.get_state()})["state"]
    expected = torch.rand(3, generator=generator)
    assert torch.equal(torch.rand(3, generator=torch.Generator().set_state(state)), expected)


def test_the_file_is_safetensors_that_anything_can_read(folder: Path) -> None:
    save_state(folder / "plain.safetensors", {"weights": [torch.arange(3.0)], math.inf: math.nan})
    content = (folder / "plain.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["0"]["dtype"] == "F32"
    tree = json.loads(header["__metadata__"][STATE], parse_constant=pytest.fail)["tree"]  # Infinity and NaN are no JSON
    assert tree == {"dict": [["weights", {"list": [{"tensor": "0"}]}], [{"float": "inf"}, {"float": "nan"}]]}


# --------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("thing", "what"),
    [
        (object(), "a object at its root"),
        ({"deep": [0, {2: {1, 2}}]}, "a set at deep/1/2"),
        ([b"bytes"], "a bytes at 0"),
        ((np.int64(3),), "a int64 at 0"),
        ({"array": np.ones(2)}, "a ndarray at array"),
        ({(1, 2): 3}, r"a tuple at \(1, 2\)"),
        ({"a": torch.eye(2).to_sparse()}, "a torch.sparse_coo tensor of torch.float32 at a"),
        ({"a": torch.empty(2, device="meta")}, "a meta tensor of torch.float32 at a"),
        ({"a": torch.ones(2, dtype=torch.complex128)}, "tensor of torch.complex128 at a"),
    ],
)
def test_what_is_no_state_is_refused_with_its_place(folder: Path, thing: object, what: str) -> None:
    path = folder / "thing.safetensors"
    save_state(path, "earlier")
    with pytest.raises(RunError, match=f"the state has .*{what}; expected dense tensors"):
        save_state(path, thing)
    assert load_state(path) == "earlier"


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")  # torch's note on its own prototype
def test_nested_tensors_are_refused(folder: Path) -> None:
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    with pytest.raises(RunError, match=r"a nested tensor of torch\.float32 at a"):
        save_state(folder / "nested.safetensors", {"a": nested})


def circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


@pytest.mark.parametrize("tree", [circle(), {"digits": 10**5000}], ids=["circle", "digits"])
def test_what_json_cannot_say_is_refused(folder: Path, tree: Any) -> None:
    with pytest.raises(RunError, match=r"cannot be written as JSON .*; expected a finite tree"):
        save_state(folder / "never.safetensors", tree)
    assert not (folder / "never.safetensors").exists()


def test_structure_that_could_not_be_read_back_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secateur.state, "_HEADER_LIMIT", 1000)
    save_state(folder / "tree.safetensors", torch.zeros(10_000))
    with pytest.raises(RunError, match="bytes of structure beside its tensors; expected at most 1000"):
        save_state(folder / "tree.safetensors", [0] * 1000)


def test_kinds_are_not_mixed_up(folder: Path) -> None:
    path = folder / "one.safetensors"
    save_state(path, {"a": 1}, kind="one")
    assert load_state(path, kind="one") == {"a": 1}
    for other in ("two", STATE, "", "__metadata__"):
        with pytest.raises(RunError, match=f"is not a {other} file"):
            load_state(path, kind=other)
    save_file({"weight": torch.ones(2)}, path)  # what other programs write, with and without metadata
    with pytest.raises(RunError, match=r"is not a secateur\.state file"):
        load_state(path)
    save_file({"weight": torch.ones(2)}, path, {"format": "pt"})
    with pytest.raises(RunError, match=r"is not a secateur\.state file"):
        load_state(path)


@pytest.mark.parametrize(("name", "reason"), [("none", "No such file"), (".", "Is a directory"), ("a\0b", "null byte")])
def test_what_cannot_be_opened_is_named(folder: Path, name: str, reason: str) -> None:
    with pytest.raises(RunError, match=reason):
        load_state(folder / name)


# ----------------------------------------------------------------------------------- damage

ONE = {"0": entry("F32", [1], 0, 4)}
BOOL = {"0": entry("BOOL", [2], 0, 2)}
GOOD = {
    "a tensor": crafted(tree_of({"tensor": "0"}), ONE, bytes(4)),
    "two truths": crafted(tree_of({"tensor": "0"}), BOOL, b"\0\1"),
}
HOSTILE = {
    "empty": b"",
    "seven bytes": b"\1" * 7,
    "only a length": (100).to_bytes(8, "little"),
    "a length of everything": b"\xff" * 8 + b"{}",
    "a length of 99 MB": (99_000_000).to_bytes(8, "little") + b"{}",
    "zeros": bytes(5000),
    "not JSON": (4).to_bytes(8, "little") + b"{{{{",
    "JSON of another kind": (2).to_bytes(8, "little") + b"[]",
    "no metadata": (2).to_bytes(8, "little") + b"{}",
    "a petabyte": crafted(tree_of({"tensor": "0"}), {"0": entry("F32", [2**48], 0, 2**50)}, bytes(8)),
    "a petabyte that claims eight bytes": crafted(
        tree_of({"tensor": "0"}), {"0": entry("F32", [2**48], 0, 8)}, bytes(8)
    ),
    "sizes that overflow": crafted(tree_of({"tensor": "0"}), {"0": entry("F32", [2**32, 2**32], 0, 0)}),
    "offsets that overflow": crafted(tree_of({"tensor": "0"}), {"0": entry("U8", [1], 2**64 - 1, 2**64)}, bytes(8)),
    "a size below zero": crafted(tree_of({"tensor": "0"}), {"0": entry("F32", [-1], 0, 4)}, bytes(4)),
    "an unknown dtype": crafted(tree_of({"tensor": "0"}), {"0": entry("F33", [1], 0, 4)}, bytes(4)),
    "overlapping tensors": crafted(tree_of([]), {"0": entry("U8", [4], 0, 4), "1": entry("U8", [4], 2, 6)}, bytes(6)),
    "bytes of no tensor": crafted(tree_of(1), {}, bytes(64)),
    "a truth of seven": crafted(tree_of({"tensor": "0"}), BOOL, b"\0\7"),
    "a tensor that is not there": crafted(tree_of({"tensor": "7"}), ONE, bytes(4)),
    "a tensor twice": crafted(tree_of({"list": [{"tensor": "0"}, {"tensor": "0"}]}), ONE, bytes(4)),
    "a tensor left over": crafted(tree_of(3), ONE, bytes(4)),
    "a tensor by a list": crafted(tree_of({"tensor": ["0"]}), ONE, bytes(4)),
    "another version": crafted({"version": 2, "tree": 3}),
    "a version in text": crafted({"version": "1", "tree": 3}),
    "no version": crafted({"tree": 3}),
    "no tree": crafted({"version": 1}),
    "no structure": crafted("null"),
    "no JSON inside": crafted("{version: 1}"),
    "an empty node": crafted(tree_of({})),
    "a node of two kinds": crafted(tree_of({"list": [], "tuple": []})),
    "a node of no kind": crafted(tree_of({"set": []})),
    "a bare list": crafted(tree_of([])),
    "a list of a number": crafted(tree_of({"list": 3})),
    "a dict of singles": crafted(tree_of({"dict": [["key"]]})),
    "a dict by a list": crafted(tree_of({"dict": [[["key"], 1]]})),
    "a dict by a number that is none": crafted(tree_of({"dict": [[{"float": "one"}, 1]]})),
    "a dict by a node": crafted(tree_of({"dict": [[{"list": []}, 1]]})),
    "a float in words": crafted(tree_of({"float": "1.5"})),
    "a float of a list": crafted(tree_of({"float": ["inf"]})),
    "too deep for JSON": crafted("[" * 100_000),
    "too deep for us": crafted('{"version": 1, "tree": ' + '{"list": [' * 50_000 + "]}" * 50_000 + "}"),
    "digits": crafted('{"version": 1, "tree": ' + "1" * 5000 + "}"),
}


@pytest.mark.parametrize("name", GOOD)
def test_the_crafted_files_are_like_real_ones(folder: Path, name: str) -> None:
    (folder / "good.safetensors").write_bytes(GOOD[name])
    assert isinstance(load_state(folder / "good.safetensors"), Tensor)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(folder: Path, name: str) -> None:
    path = folder / "hostile.safetensors"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(RunError, match=r"is not a secateur\.state file, or is damaged"):
        load_state(path)


def test_a_hostile_file_takes_no_memory(tmp_path: Path) -> None:
    """All of them, and a file of 64 GB of zeros, in a process that may take 256 MB more than it has."""
    for number, content in enumerate([*HOSTILE.values(), *GOOD.values()]):
        (tmp_path / f"{number:03}").write_bytes(content)
    with (tmp_path / "zeros").open("wb") as file:
        file.truncate(2**36)  # a hole: nothing is written to the disk
    script = "\n".join(
        [
            "import resource, sys",
            "from pathlib import Path",
            "from secateur.errors import RunError",
            "from secateur.state import load_state",
            "pages = int(Path('/proc/self/statm').read_text().split()[0])",
            "limit = pages * resource.getpagesize() + 2**28",
            "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))",
            "for path in sorted(Path(sys.argv[1]).iterdir()):",
            "    try:",
            "        load_state(path)",
            "        print('fine')",
            "    except RunError as error:",
            "        print(type(error.__cause__).__name__)",
        ]
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcomes = done.stdout.split()
    assert len(outcomes) == len(HOSTILE) + len(GOOD) + 1
    assert outcomes.count("fine") == len(GOOD)
    assert "MemoryError" not in outcomes


@pytest.fixture(scope="module")
def content(folder: Path) -> bytes:
    """A small file with something of everything."""
    path = folder / "whole.safetensors"
    tree = {"w": torch.arange(3.0), "b": torch.tensor([True, False]), 7: (None, 0.5, math.inf), "l": [[], -1, {}]}
    save_state(path, tree)
    return path.read_bytes()


def check_refused_or_read(path: Path, content: bytes) -> bool:
    path.write_bytes(content)
    try:
        load_state(path)
    except RunError:
        return True
    return False


def test_every_truncation_is_refused(folder: Path, content: bytes) -> None:
    path = folder / "cut.safetensors"
    assert not check_refused_or_read(path, content)
    assert all(check_refused_or_read(path, content[:length]) for length in range(len(content)))


def test_every_byte_may_be_wrong(folder: Path, content: bytes) -> None:
    """Nothing but RunError, whatever stands in whatever place; in a weight or a name it may go unnoticed."""
    path = folder / "wrong.safetensors"
    refused = [
        check_refused_or_read(path, content[:at] + bytes([byte]) + content[at + 1 :])
        for at in range(len(content))
        for byte in {content[at] ^ 1, content[at] ^ 128, *b"9{"} - {content[at]}
    ]
    assert sum(refused) > len(refused) / 2


@settings(max_examples=150)
@given(data=st.data())
def test_bytes_that_were_moved_about_give_a_run_error_or_a_tree(
    folder: Path, content: bytes, data: st.DataObject
) -> None:
    spots = st.integers(0, len(content))
    start, end = sorted((data.draw(spots), data.draw(spots)))
    middle = data.draw(st.one_of(st.binary(max_size=9), st.just(content[start:end] * 2), st.just(b"99999999999999")))
    check_refused_or_read(folder / "moved.safetensors", content[:start] + middle + content[end:])


@settings(max_examples=150)
@given(content=st.binary(max_size=200), header=st.binary(max_size=40))
def test_random_bytes_are_refused(folder: Path, content: bytes, header: bytes) -> None:
    path = folder / "random.safetensors"
    assert check_refused_or_read(path, content)
    assert check_refused_or_read(path, len(header).to_bytes(8, "little") + header + content)
