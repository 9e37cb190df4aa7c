"""Fashion-MNIST: its files are read strictly, its split never moves, and augmentation does what a slow loop does."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import TensorDataset

import secateur as sc
from secateur.tasks import evaluate, train
from secateur.tasks.fashion import DEVIATION, MEAN, NETWORKS, SIZE, _idx, fashion, flipped_and_shifted

SPLITS = ("train", "validation", "test")
BACKGROUND = -MEAN / DEVIATION  # what a pixel of 0 is once it is normalized

# ---------------------------------------------------------------------------------- the real data

# SHA-256 of the labels, a byte each, of the first 55,000 and the last 5,000 entries of
# train-labels-idx1-ubyte and of t10k-labels-idx1-ubyte, by `tail -c +9 | head -c 55000 | sha256sum` and the like.
LABELS = {
    "train": "86d34625a4382883890071b43577363871c22f515fa827b6549e137b925ce766",
    "validation": "b67d65ebc4e351eade72dbf9dd01254716ab5442572b267a0ac703ce51f00603",
    "test": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
}


def tensors(data: Any) -> tuple[Tensor, Tensor]:
    images, labels = data.tensors
    return images, labels


def test_the_split_is_fixed(fashion_mnist: Path) -> None:
    task = fashion()
    parts = {split: tensors(getattr(task, split)) for split in SPLITS}
    assert {split: tuple(images.shape) for split, (images, _) in parts.items()} == {
        "train": (55_000, 1, 28, 28),
        "validation": (5_000, 1, 28, 28),
        "test": (10_000, 1, 28, 28),
    }
    found = {split: hashlib.sha256(labels.to(torch.uint8).numpy()).hexdigest() for split, (_, labels) in parts.items()}
    assert found == LABELS
    assert {labels.dtype for _, labels in parts.values()} == {torch.int64}


def test_every_class_is_as_frequent_as_published(fashion_mnist: Path) -> None:
    """Xiao, Rasul, Vollgraf (2017), section 2: 6,000 images of each class to train on, 1,000 to test on."""
    task = fashion()
    train_, validation, test = (Counter(tensors(getattr(task, split))[1].tolist()) for split in SPLITS)
    assert train_ + validation == dict.fromkeys(range(10), 6_000)
    assert test == dict.fromkeys(range(10), 1_000)


def test_pixels_are_those_of_the_files_normalized(fashion_mnist: Path) -> None:
    task = fashion()
    with gzip.open(fashion_mnist / "train-images-idx3-ubyte.gz") as file:
        raw = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)[16:].view(60_000, 1, 28, 28)
    images, held_out = tensors(task.train)[0], tensors(task.validation)[0]
    for found, bytes_ in ((images[:100], raw[:100]), (images[-100:], raw[54_900:55_000]), (held_out, raw[55_000:])):
        assert torch.equal((found.double() * DEVIATION + MEAN).mul(255).round(), bytes_.double())
    pixels = raw.double() / 255
    # Both are given to four decimals.
    assert (round(pixels.mean().item(), 4), round(pixels.std(correction=0).item(), 4)) == (MEAN, DEVIATION)


def test_the_data_are_read_once(fashion_mnist: Path) -> None:
    one, two = fashion("lenet-5"), fashion("resnet-20", data_dir=fashion_mnist)
    assert tensors(one.train)[0].data_ptr() == tensors(two.train)[0].data_ptr()


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_has_a_task(fashion_mnist: Path, network: str) -> None:
    task, recipe = fashion(network), NETWORKS[network]
    assert (task.name, task.epochs, task.learning_rate) == (f"fashion {network}", recipe.epochs, recipe.learning_rate)
    assert task.augment is recipe.augment
    with torch.random.fork_rng(devices=[]):
        model = task.model().eval()
    assert model(task.example).shape == (1, 10)
    # Of the others the two orders in memory are one; those of MobileNet have one channel or one pixel.
    filters = [value for value in model.parameters() if value.dim() == 4 and min(value.shape[1:]) > 1]
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in filters)
    assert bool(filters) == (recipe.channels_last and network != "mobilenet-v1")


def test_a_network_learns(fashion_mnist: Path) -> None:
    task = fashion()
    few = {
        split: TensorDataset(*(tensor[:1000] for tensor in tensors(getattr(task, split))))
        for split in ("train", "test")
    }
    small: Any = dataclasses.replace(task, **few, validation=few["train"])
    model, _ = train(small, seed=0, epochs=2, progress=False)
    # Better than guessing one class of ten by five standard errors of that guess.
    assert evaluate(model, small) > 0.1 + 5 * math.sqrt(0.1 * 0.9 / 1000)


# ------------------------------------------------------------------------------------- refusals


def test_a_network_that_there_is_not_is_refused_before_any_data_are_looked_for(tmp_path: Path) -> None:
    with pytest.raises(sc.UnknownNameError, match="no network is named 'lenet5'; nearest: lenet-5"):
        fashion("lenet5", data_dir=tmp_path)


def test_without_the_data_the_way_to_them_is_said(tmp_path: Path) -> None:
    with pytest.raises(sc.DataError, match=r"not on this machine .*`secateur data fashion-mnist` fetches it \(31 MB"):
        fashion(data_dir=tmp_path)


def test_files_of_another_data_set_are_refused(tmp_path: Path) -> None:
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / f"{name}-ubyte.gz").write_bytes(packed(np.zeros((2, SIZE, SIZE), np.uint8)))
    with pytest.raises(sc.DataError, match=r"train-images-idx3-ubyte\.gz is no file of \(60000, 28, 28\) bytes"):
        fashion(data_dir=tmp_path)


# ------------------------------------------------------------------------------------ the format


def idx(array: np.ndarray[Any, Any], kind: int = 8) -> bytes:
    """Two zero bytes, the kind of number (8: bytes), the number of sizes, the sizes, high byte first, and the bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, kind, array.ndim]) + sizes + array.tobytes()


def compressed(content: bytes) -> bytes:
    """gzip writes the second into its header: without one, the same bytes give the same file."""
    return gzip.compress(content, mtime=0)


def packed(array: np.ndarray[Any, Any]) -> bytes:
    return compressed(idx(array))


SMALL = np.arange(6, dtype=np.uint8).reshape(2, 3)


@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple), seed=st.integers(0, 99))
def test_an_array_comes_out_of_its_file(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, ...], seed: int
) -> None:
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path_factory.mktemp("idx") / "array.gz"
    path.write_bytes(packed(array))
    found = _idx(path, shape)
    assert np.array_equal(found, array)
    assert found.flags.writeable  # torch warns of memory that cannot be written to


def test_a_file_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "small.gz"
    path.write_bytes(compressed(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 0, 1, 2, 3, 4, 5])))
    assert _idx(path, (2, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]


OTHER_FILES = {
    "another shape": (packed(SMALL.T), r"is no file of \(2, 3\) bytes"),
    "flat": (packed(SMALL.ravel()), r"is no file of \(2, 3\) bytes"),
    "signed bytes": (compressed(idx(SMALL, kind=9)), r"is no file of \(2, 3\) bytes"),
    "a byte short": (compressed(idx(SMALL)[:-1]), r"is no file of \(2, 3\) bytes"),
    "a byte long": (compressed(idx(SMALL) + b"\0"), r"is no file of \(2, 3\) bytes"),
    "far too long": (compressed(idx(SMALL) + bytes(10**6)), r"is no file of \(2, 3\) bytes"),
    "nothing compressed": (compressed(b""), r"is no file of \(2, 3\) bytes"),
    "not compressed": (idx(SMALL), "is damaged"),
    "cut short": (packed(SMALL)[:-9], "is damaged"),
    "another checksum": (packed(SMALL)[:-8] + bytes(8), "is damaged"),
    "other contents": (packed(SMALL)[:10] + b"\xff" * 20, "is damaged"),
    "empty": (b"", r"is no file of \(2, 3\) bytes"),
}


@pytest.mark.parametrize(("content", "words"), OTHER_FILES.values(), ids=OTHER_FILES.keys())
def test_other_files_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "small.gz"
    path.write_bytes(content)
    with pytest.raises(sc.DataError, match=rf"small\.gz {words}.* Remove it\. `secateur data fashion-mnist` fetches"):
        _idx(path, (2, 3))


@settings(max_examples=200)
@given(data=st.data())
def test_a_flipped_bit_is_found_or_does_no_harm(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(packed(SMALL))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("idx") / "small.gz"
    path.write_bytes(content)
    try:
        found = _idx(path, (2, 3))
    except sc.DataError:
        return
    assert np.array_equal(found, SMALL)


# ---------------------------------------------------------------------------------- augmentation


def slowly(images: Tensor, seed: int, most: int) -> Tensor:
    """Pixel by pixel: down, right and mirrored as drawn."""
    generator = torch.Generator().manual_seed(seed)
    down, right = torch.randint(0, 2 * most + 1, (2, len(images), 1), generator=generator).squeeze(2).tolist()
    mirrored = torch.randint(0, 2, (len(images), 1), generator=generator).squeeze(1).tolist()
    out = torch.full_like(images, BACKGROUND)
    for number, (image, changed) in enumerate(zip(images[:, 0].tolist(), out[:, 0], strict=True)):
        for row in range(SIZE):
            for column in range(SIZE):
                there = row + down[number] - most
                across = (SIZE - 1 - column if mirrored[number] else column) + right[number] - most
                if 0 <= there < SIZE and 0 <= across < SIZE:
                    changed[row, column] = image[there][across]
    return out


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), most=st.integers(0, 4), samples=st.integers(0, 3))
def test_augmentation_is_that_of_a_slow_loop(seed: int, most: int, samples: int) -> None:
    images = torch.randn(samples, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed + 1))
    before, state = images.clone(), torch.get_rng_state()
    found = flipped_and_shifted(images, torch.Generator().manual_seed(seed), most=most)
    assert torch.equal(found, slowly(images, seed, most))
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_shift_and_mirror_is_drawn_as_often() -> None:
    """A bright dot at row 10, column 5 comes to 25 places and to their 25 mirror images."""
    samples = 10_000
    images = torch.full((samples, 1, SIZE, SIZE), BACKGROUND)
    images[:, 0, 10, 5] = 1
    changed = flipped_and_shifted(images, torch.Generator().manual_seed(0))
    places = Counter((row, column) for _, _, row, column in (changed == 1).nonzero().tolist())
    rows, columns = range(8, 13), [*range(3, 8), *range(SIZE - 8, SIZE - 3)]
    assert set(places) == {(row, column) for row in rows for column in columns}
    assert bool(((changed == 1) | (changed == BACKGROUND)).all())
    # 50 places of 200 each; five standard deviations of a binomial count.
    assert all(abs(count - 200) < 5 * math.sqrt(200 * 0.98) for count in places.values())


def test_what_comes_in_at_the_edge_is_background() -> None:
    found = flipped_and_shifted(torch.ones(8, 1, SIZE, SIZE), torch.Generator().manual_seed(3))
    assert set(found.unique().tolist()) == {1.0, torch.tensor(BACKGROUND).item()}
