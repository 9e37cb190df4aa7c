"""Weights come back bit for bit, and a file that is damaged or of another model changes nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import secateur as sc
from secateur.weights import ABOUT, load_weights, save_weights
from tests.runs import bits

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The only file of a folder."""
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder" / "weights.safetensors"


def network(seed: int = 0) -> nn.Sequential:
    """A convolution, a batch norm with its buffers, a linear layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3))
    for buffer in model[1].buffers():
        buffer.add_(seed)
    return model


def tied(seed: int = 0) -> nn.Sequential:
    """Two layers of one weight."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    return model


def assert_refused(path: Path, error: type[sc.SecateurError], words: str, model: nn.Module | None = None) -> str:
    """Loading fails with these words and leaves the model as it was."""
    model = model or network(1)
    before = bits(model.state_dict())
    with pytest.raises(error, match=words) as raised:
        load_weights(model, path)
    assert bits(model.state_dict()) == before
    return str(raised.value)


# ------------------------------------------------------------------------------- there and back


@st.composite
def states(draw: st.DrawFn) -> dict[str, Tensor]:
    """Buffers of any bits, kind and size, also of none and in another order in memory."""
    made = {}
    for name in draw(st.sets(st.sampled_from("abcd"), max_size=3)):
        shape, dtype = draw(st.lists(st.integers(0, 3), max_size=4)), draw(st.sampled_from(DTYPES))
        generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
        size = math.prod(shape) * torch.empty(0, dtype=dtype).element_size()
        raw = torch.randint(2 if dtype is torch.bool else 256, (size,), generator=generator, dtype=torch.uint8)
        value = raw.view(dtype).reshape(shape)
        made[name] = value.transpose(0, -1) if shape and draw(st.booleans()) else value
    return made


def holding(state: Mapping[str, Tensor]) -> nn.Module:
    model = nn.Module()
    for name, value in state.items():
        model.register_buffer(name, value)
    return model


@settings(max_examples=100)
@given(state=states())
def test_what_is_saved_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, state: dict[str, Tensor]
) -> None:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(holding(state), path)
    model = holding({name: torch.zeros_like(value) for name, value in state.items()})
    assert load_weights(model, path) == {}
    assert bits(model.state_dict()) == bits(state)


@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("into", [torch.channels_last, torch.contiguous_format])
def test_the_order_in_memory_is_that_of_the_model_not_of_the_file(
    path: Path, order: torch.memory_format, into: torch.memory_format
) -> None:
    one = network(0).to(memory_format=order)  # type: ignore[call-overload]
    two = network(1).to(memory_format=into)  # type: ignore[call-overload]
    save_weights(one, path)
    load_weights(two, path)
    assert bits(two.state_dict()) == bits(one.state_dict())
    assert two[0].weight.is_contiguous(memory_format=into)
    assert load_file(path)["0.weight"].is_contiguous()


def test_a_file_is_what_any_other_tool_reads(path: Path) -> None:
    model = network()
    save_weights(model, path, {"epochs": 3})
    assert bits(load_file(path)) == bits({name: model.state_dict()[name] for name in load_file(path)})
    assert set(load_file(path)) == set(model.state_dict())
    save_file(network(2).state_dict(), path)  # and a file of another tool is read
    assert load_weights(model, path) == {}
    assert bits(model.state_dict()) == bits(network(2).state_dict())


def test_a_shared_weight_is_saved_under_both_names_and_stays_shared(path: Path) -> None:
    save_weights(tied(0), path)
    model = tied(1)
    load_weights(model, path)
    assert bits(model.state_dict()) == bits(tied(0).state_dict())
    assert model[0].weight is model[1].weight
    apart = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    load_weights(apart, path)
    assert torch.equal(apart[0].weight, apart[1].weight)


def test_a_view_is_saved_as_what_it_shows(path: Path) -> None:
    large = torch.arange(1000.0)
    save_weights(holding({"a": large[::100], "b": large[:10].view(2, 5).T, "c": large[3].expand(4)}), path)
    assert path.stat().st_size < 1000
    found = load_file(path)
    assert torch.equal(found["a"], torch.arange(0.0, 1000, 100))
    assert found["b"].tolist() == [[0, 5], [1, 6], [2, 7], [3, 8], [4, 9]]
    assert found["c"].tolist() == [3, 3, 3, 3]


def test_complex_numbers_that_are_only_marked_as_conjugate_are_saved_as_such(path: Path) -> None:
    value = torch.tensor([1 + 2j, 3 - 4j])
    save_weights(holding({"conjugate": value.conj(), "negative": value.conj().imag}), path)
    found = load_file(path)
    assert found["conjugate"].tolist() == [1 - 2j, 3 + 4j]
    assert found["negative"].tolist() == [-2, 4]


def test_a_model_goes_on_training_with_its_own_parameters(path: Path) -> None:
    """An optimizer made before holds on to them."""
    save_weights(network(0), path)
    model = network(1)
    before = [id(parameter) for parameter in model.parameters()]
    load_weights(model, path)
    assert [id(parameter) for parameter in model.parameters()] == before
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_weights_of_another_precision_are_converted(path: Path) -> None:
    save_weights(network(0).half(), path)
    model = network(1)
    load_weights(model, path)
    assert model[3].weight.dtype is torch.float32
    assert torch.equal(model[3].weight, network(0)[3].weight.half().float())


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60)
@given(about=st.dictionaries(st.text(max_size=5), plain, max_size=3))
def test_what_is_known_of_the_weights_comes_back(tmp_path_factory: pytest.TempPathFactory, about: Any) -> None:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(nn.Linear(1, 1), path, about)
    assert load_weights(nn.Linear(1, 1), path) == about


def test_a_file_is_replaced_whole(path: Path) -> None:
    save_weights(network(0), path, {"seed": 0})
    save_weights(network(1), path)
    model = network(2)
    assert load_weights(model, path) == {}
    assert bits(model.state_dict()) == bits(network(1).state_dict())
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# -------------------------------------------------------------------------------- what is refused


class Remembers(nn.Linear):
    """A layer whose state is more than tensors."""

    def get_extra_state(self) -> Any:
        return {"calls": 3}

    def set_extra_state(self, state: Any) -> None:
        """Nothing."""


@pytest.mark.parametrize("about", [{"weight": torch.zeros(1)}, {"a set": {1}}, {(1, 2): 3}])
def test_what_is_no_plain_json_is_not_saved(path: Path, about: Any) -> None:
    save_weights(network(0), path)
    with pytest.raises(sc.RunError, match=r"what is to be kept with the weights is no plain JSON .* expected"):
        save_weights(network(1), path, about)
    assert load_weights(network(0), path) == {}


def test_a_state_of_more_than_tensors_is_refused(path: Path) -> None:
    with pytest.raises(sc.ModelError, match=r"the state of Remembers holds a dict at _extra_state; expected dense"):
        save_weights(Remembers(2, 2), path)
    assert not path.exists()
    save_weights(nn.Linear(2, 2), path)
    assert_refused(path, sc.ModelError, "the state of Remembers holds a dict at _extra_state", Remembers(2, 2))


def test_numbers_that_safetensors_lacks_are_refused(path: Path) -> None:
    with pytest.raises(sc.ModelError, match=r"the state of Module holds numbers of torch\.complex128, which safet"):
        save_weights(holding({"a": torch.zeros(2, dtype=torch.complex128)}), path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (nn.Linear(2, 2, device="meta"), "a tensor without values at weight"),
        (holding({"a": torch.eye(3).to_sparse()}), r"a tensor of torch\.sparse_coo at a"),
    ],
    ids=["meta", "sparse"],
)
def test_tensors_that_are_not_dense_are_refused(path: Path, model: nn.Module, what: str) -> None:
    with pytest.raises(sc.ModelError, match=f"holds {what}; expected dense tensors"):
        save_weights(model, path)
    save_weights(holding({}), path)
    with pytest.raises(sc.ModelError, match=f"holds {what}; expected dense tensors"):
        load_weights(model, path)


@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")  # torch warns of each that is made
def test_a_lazy_model_is_refused(path: Path) -> None:
    with pytest.raises(sc.ModelError, match=r"holds a lazy tensor without a size yet at weight; .* run a lazy model"):
        save_weights(nn.LazyLinear(2), path)


def test_a_folder_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(sc.RunError, match=r"cannot write .*none/w\.safetensors"):
        save_weights(network(), path.parent / "none" / "w.safetensors")


def test_no_file_is_no_weights(path: Path) -> None:
    assert_refused(
        path, sc.RunError, r"weights\.safetensors cannot be read as safetensors \(.*\); expected a file of weights"
    )
    assert_refused(path.parent, sc.RunError, "cannot be read as safetensors")


OTHERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "another size": (
        lambda: nn.Sequential(*list(network())[:3], nn.Linear(4, 5)),
        r"does not fit Sequential: 2 tensors differ \(3\.bias: file \(5,\), model \(3,\); 3\.weight: file \(5, 4\), ",
    ),
    "a layer less": (lambda: network()[:3], r"2 tensors differ \(3\.bias: file None, model \(3,\); 3\.weight: file No"),
    "a layer more": (
        lambda: nn.Sequential(*network(), nn.Linear(3, 1)),
        r"2 tensors differ \(4\.bias: file \(1,\), model None; 4\.weight: file \(1, 3\), model None\)",
    ),
    "other names": (lambda: nn.ModuleDict({"net": network()}), r"18 tensors differ .* Give the weights of this model"),
    "nothing": (nn.Module, r"9 tensors differ \(0\.bias: file None, model \(4,\); "),
}


@pytest.mark.parametrize("name", OTHERS)
def test_weights_of_another_model_are_refused(path: Path, name: str) -> None:
    other, words = OTHERS[name]
    save_weights(other(), path)
    said = assert_refused(path, sc.ModelError, words)
    assert said.count("model ") <= 3  # only the first differences are named


@pytest.mark.parametrize(
    ("kind", "words"), [(torch.complex64, "complex"), (torch.int32, "integers"), (torch.bool, "bool")]
)
def test_weights_of_another_kind_of_number_are_refused(path: Path, kind: torch.dtype, words: str) -> None:
    state = {name: value.to(kind) if name == "3.weight" else value for name, value in network().state_dict().items()}
    save_file(state, path)
    assert_refused(path, sc.ModelError, rf"1 tensors differ \(3\.weight: file \(3, 4\) {words}, model \(3, 4\)\)")


def test_numbers_that_torch_cannot_convert_change_nothing(path: Path) -> None:
    """Two numbers of 4 bits in a byte: torch has the kind, and no way to convert it."""
    entries = {"a": entry(offsets=(0, 4)), "b": entry("F4", (8,), (4, 8))}
    path.write_bytes(crafted(entries, bytes(8)))
    model = holding({"a": torch.ones(1), "b": torch.ones(load_file(path)["b"].shape)})
    assert_refused(path, sc.ModelError, r"holds numbers that torch cannot convert \(.*\)", model)


def crafted(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 100,
        crafted(b"{"),
        crafted(b"[" * 100_000),
        crafted([]),
        crafted({"a": entry()}),  # no data
        crafted({"a": entry()}, bytes(8)),  # too much of it
        crafted({"a": entry(offsets=(4, 0))}, bytes(4)),
        crafted({"a": entry(offsets=(0, 2**63))}, bytes(4)),
        crafted({"a": entry(shape=(2**40, 2**40))}, bytes(4)),
        crafted({"a": entry(shape=(-1,))}, bytes(4)),
        crafted({"a": entry("F3")}, bytes(4)),
        crafted({"a": entry(), "b": entry()}, bytes(4)),  # the same bytes twice
        crafted({"__metadata__": {ABOUT: "{"}}),
        crafted({"__metadata__": {ABOUT: "[" * 100_000}}),
        crafted({"__metadata__": {ABOUT: 3}}),
        crafted({"__metadata__": {ABOUT: "9" * 10_000}}),
        b"PK\x03\x04 what torch.save writes",
    ],
)
def test_damaged_and_hostile_files_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert_refused(path, sc.RunError, r"cannot be read as safetensors \(.*\); expected a file of weights")


@pytest.mark.parametrize("text", ["[1, 2]", "3", "null", '"words"'])
def test_what_is_known_of_the_weights_is_a_mapping_or_nothing(path: Path, text: str) -> None:
    save_file(network().state_dict(), path, {ABOUT: text})
    assert load_weights(network(1), path) == {}


@settings(max_examples=200)
@given(data=st.data())
def test_no_damage_does_more_than_raise_or_change_numbers(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(network(), path, {"epochs": 3})
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    at = data.draw(st.integers(0, header - 1) | st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    model = network(1)
    before, kinds = bits(model.state_dict()), {name: value.dtype for name, value in model.state_dict().items()}
    try:
        load_weights(model, path)
    except (sc.RunError, sc.ModelError):
        assert bits(model.state_dict()) == before
    assert {name: value.dtype for name, value in model.state_dict().items()} == kinds
