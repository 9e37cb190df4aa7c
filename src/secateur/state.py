"""Nested state (models, optimizers, random generators) in one file: safetensors and JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from secateur.errors import RunError
from secateur.files import atomic_write

State: TypeAlias = Any
"""A tree: dict, list and tuple, nested; at the leaves Tensor, int, float, bool, str or None."""

STATE = "secateur.state"
"""The kind of file that a training state is; a plan is another."""
_VERSION = 1
_HEADER_LIMIT = 100_000_000  # bytes; what safetensors itself accepts when it reads


def save_state(path: Path | str, tree: State, kind: str = STATE) -> None:
    """Save a tree of tensors and plain values as one safetensors file, atomically.

    The tensors are the file's tensors, named ``0``, ``1``, ... in the order in which they are met;
    the tree around them is JSON in the file's metadata. Reading gives the same bits: integer keys
    stay integers, tuples stay tuples, and infinities and NaN survive. What is not kept: subclasses
    (an ``OrderedDict`` comes back as a dict, a named tuple as a tuple, a Parameter as a Tensor),
    devices (tensors come back on the CPU), and sharing (two views of one memory come back as two
    tensors).

    Args:
        path: The file; an earlier one of this name is replaced only by a complete new one.
        tree: Dicts (keys: str, int, float, bool or None), lists and tuples of tensors, int,
            float, bool, str and None.
        kind: What the file is, written into it; `load_state` refuses a file of another kind.

    Raises:
        RunError: If something in the tree is of another type, with its place in the tree, or if
            the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_state(Path(folder, "s.safetensors"), {0: (torch.arange(3), 0.1), "epoch": 7})
        ...     load_state(Path(folder, "s.safetensors"))
        {0: (tensor([0, 1, 2]), 0.1), 'epoch': 7}
    """
    atomic_write(Path(path), _to_bytes(tree, kind))


def load_state(path: Path | str, kind: str = STATE) -> State:
    """Load what `save_state` saved.

    Nothing in the file is executed, and memory is taken in proportion to the file's own size,
    whatever its header claims.

    Args:
        path: The file.
        kind: What it was saved as.

    Returns:
        The tree, its tensors on the CPU.

    Raises:
        RunError: If there is no such file, if it is damaged, or if something else wrote it.
    """
    try:
        return _from_bytes(_bytes_of(Path(path)), kind)
    except OSError as error:
        raise RunError(
            f"cannot read {path}: {error.strerror or error}; expected a file that save_state wrote. Check the path"
        ) from error
    except _UNREADABLE as error:
        raise RunError(
            f"{path} is not a {kind} file, or is damaged ({type(error).__name__}: {error});"
            f" expected safetensors with {kind!r} in its metadata. Give the right path, or delete the"
            " file and make it anew"
        ) from error


# What hostile bytes can provoke in safetensors, json, torch and the decoder below.
_UNREADABLE = (
    SafetensorError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,  # RecursionError too
    TypeError,
    ValueError,
)


def _to_bytes(tree: State, kind: str) -> bytes:
    encoder = _Encoder()
    try:
        skeleton = json.dumps({"version": _VERSION, "tree": encoder.node(tree, ())})
        content = tensor_bytes(encoder.tensors, {kind: skeleton})
    except (RecursionError, ValueError) as error:  # a cycle; an integer of thousands of digits
        raise RunError(
            f"the state cannot be written as JSON ({error}); expected a finite tree of dicts,"
            " lists and tuples. Take out what refers to itself, and keep numbers in tensors"
        ) from error
    header = int.from_bytes(content[:8], "little")
    if header > _HEADER_LIMIT:
        raise RunError(
            f"the state has {header} bytes of structure beside its tensors; expected at most"
            f" {_HEADER_LIMIT}. Put long lists of numbers into tensors"
        )
    return content


def _bytes_of(path: Path) -> bytes:
    with path.open("rb") as file:
        # A large file of another kind is turned down before it is read.
        header, size = int.from_bytes(file.read(8), "little"), os.fstat(file.fileno()).st_size
        if not 0 < header <= min(_HEADER_LIMIT, size - 8):
            raise ValueError(f"a header of {header} bytes in a file of {size}")
        file.seek(0)
        return file.read()


def _from_bytes(content: bytes, kind: str) -> State:
    tensors = load_tensors(content)  # checks the header against the number of bytes there are
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    skeleton = json.loads(header.get("__metadata__", {})[kind])
    if skeleton["version"] != _VERSION:
        raise ValueError(f"version {skeleton['version']!r}, where {_VERSION} is known")
    decoder = _Decoder(tensors)
    tree = decoder.node(skeleton["tree"])
    if decoder.tensors:
        raise ValueError(f"tensors that the tree does not mention: {sorted(decoder.tensors)[:3]}")
    return tree


@dataclass(frozen=True)
class _Encoder:
    """Turns a tree into JSON, and collects its tensors by name."""

    tensors: dict[str, Tensor] = field(default_factory=dict)

    def node(self, value: State, place: tuple[str, ...]) -> Any:
        if isinstance(value, Tensor):
            return {"tensor": self._keep(value, place)}
        if isinstance(value, Mapping):
            return {"dict": list(self._items(value, place))}
        if isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [self.node(v, (*place, str(i))) for i, v in enumerate(value)]}
        return _scalar(value, place)

    def _items(self, value: Mapping[Any, State], place: tuple[str, ...]) -> Iterator[list[Any]]:
        for key, inner in value.items():
            inside = (*place, str(key))
            yield [_scalar(key, inside), self.node(inner, inside)]

    def _keep(self, tensor: Tensor, place: tuple[str, ...]) -> str:
        if tensor.is_meta or tensor.is_nested or tensor.layout is not torch.strided or tensor.dtype not in _DTYPES:
            kind = "meta" if tensor.is_meta else "nested" if tensor.is_nested else str(tensor.layout)
            raise _refused(f"a {kind} tensor of {tensor.dtype}", place)
        name = str(len(self.tensors))
        # A copy of its own: safetensors refuses views and tensors that share memory.
        plain = tensor.detach().cpu().resolve_conj().resolve_neg()
        self.tensors[name] = plain.clone(memory_format=torch.contiguous_format)
        return name


@dataclass(frozen=True)
class _Decoder:
    """Turns JSON back into a tree; takes each tensor it uses out of `tensors`."""

    tensors: dict[str, Tensor]

    def node(self, value: Any) -> State:
        if not isinstance(value, dict):
            return _plain(value)
        ((kind, inside),) = value.items()
        if kind == "dict":
            return {self._key(key): self.node(inner) for key, inner in inside}
        if kind in ("list", "tuple"):
            nodes = [self.node(inner) for inner in inside]
            return nodes if kind == "list" else tuple(nodes)
        if kind == "tensor":
            return _checked(self.tensors.pop(inside))
        if kind == "float" and inside in ("inf", "-inf", "nan"):
            return float(inside)
        raise ValueError(f"unknown node {kind!r}")

    def _key(self, value: Any) -> Any:
        return float(value["float"]) if isinstance(value, dict) else _plain(value)


def _scalar(value: Any, place: tuple[str, ...]) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):  # JSON has no infinities: {"float": "inf"}
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    raise _refused(f"a {type(value).__name__}", place)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"unknown value of type {type(value).__name__}")


def _checked(tensor: Tensor) -> Tensor:
    # A bool with a byte other than 0 and 1 computes differently from place to place.
    if tensor.dtype is torch.bool and bool((tensor.view(torch.uint8) > 1).any()):
        raise ValueError("a bool tensor with values other than 0 and 1")
    return tensor


def _refused(what: str, place: tuple[str, ...]) -> RunError:
    return RunError(
        f"the state has {what} at {'/'.join(place) or 'its root'}; expected dense tensors, int,"
        " float, bool, str, None, and dicts, lists and tuples of them. Convert it in state_dict()"
    )


_DTYPES = frozenset(
    {
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.uint16,
        torch.uint32,
        torch.uint64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.complex64,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
    }
)
