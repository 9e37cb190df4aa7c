"""What a record knows of the integers that a forward pass gave to torch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import secateur as sc
from secateur.dependency import (
    Size,
    record,
    sizes_in,
)
from secateur.dependency.numbers import Number
from tests.dependency.test_record import MODELS, made
from tests.noted import check_promise, noted, seen, text, types_in

# -------------------------------------------------------------------------------------- whole blocks


class Attention(nn.Module):
    """As in many a vision transformer."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        B, N, C = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, C)
        return torch.as_tensor(self.proj(x))


@pytest.mark.parametrize("compute", [False, True])
def test_attention_says_what_its_heads_are_made_of(compute: bool) -> None:
    model = nn.Sequential(nn.Identity(), Attention())
    found = record(model, torch.zeros(2, 5, 12), compute=compute)
    check_promise(found)
    assert seen(found, "size") == [
        ("size", 0, "size0"),
        ("size", 1, "size1"),
        ("size", 2, "3"),
        ("size", 3, "1.num_heads"),
        ("size", 4, "(size2 // 1.num_heads)"),
        ("size", 0, "size0"),
        ("size", 1, "size1"),
        ("size", 2, "size2"),
    ]
    assert [text(use.expression) for use in found.sizes if use.kind == "index"] == ["0", "1", "2"]
    inputs = found.numbers("input")
    borrowed = next(use for use in found.sizes if "//" in text(use.expression))
    assert sizes_in(borrowed.expression)[0].value in inputs
    assert borrowed.module == "1"
    assert found.values[borrowed.value].shape == (2, 5, 3, 3, 4)
    # the number of that value is what the view made
    assert borrowed.value in found.calls[borrowed.call].results
    assert borrowed.line.rpartition(":")[0] == __file__


def test_a_config_names_the_first_module_that_holds_it() -> None:
    class Block(nn.Module):
        def __init__(self, config: Any) -> None:
            super().__init__()
            self.config = config
            self.linear = nn.Linear(config.width, config.width)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.linear(x)).view(-1, self.config.heads, self.config.width // self.config.heads)

    config = SimpleNamespace(heads=2, width=8)
    model = nn.Sequential(Block(config), nn.Flatten(1), Block(config))
    found = record(model, torch.zeros(3, 8))
    check_promise(found)
    assert seen(found, "size") == 2 * [
        ("size", 1, "0.config.heads"),
        ("size", 2, "(0.config.width // 0.config.heads)"),
    ]
    assert vars(config) == {"heads": 2, "width": 8}
    assert types_in(config) == {SimpleNamespace, int}


class Rotated(nn.Module):
    """Partial rotation, a list of splits, the last n, a class attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.splits = [6, 4]
        self.rotary = 3
        self.n = 2
        self.linear = nn.Linear(4, sum(self.splits))

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.linear(x).split([self.splits[0], self.splits[1]], dim=-1)
        turned, passed = one[..., : self.rotary], one[..., self.rotary :]
        one = torch.cat([-turned, passed], -1)
        return torch.cat([one, two], dim=-1)[:, -self.n :]


def test_splits_and_slices_name_their_attributes() -> None:
    found = record(Rotated(), torch.zeros(2, 5, 4))
    check_promise(found)
    assert seen(found) == [
        ("size", 2, "splits.0"),
        ("size", 2, "splits.1"),
        ("stop", 2, "rotary"),
        ("start", 2, "rotary"),
        ("start", 1, "(0 - n)"),
    ]
    sources = [found.values[use.value].shape for use in found.sizes]
    assert sources == [(2, 5, 6), (2, 5, 4), (2, 5, 6), (2, 5, 6), (2, 5, 10)]


def test_grouped_layers_name_their_groups() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2, padding=1, padding_mode="circular"),
        nn.GroupNorm(4, 8),
        nn.ChannelShuffle(2),
        nn.ConvTranspose2d(8, 8, 3, groups=8),
    )
    found = record(model, torch.zeros(1, 4, 5, 5))
    check_promise(found)
    assert seen(found, "groups") == [
        ("groups", 1, name) for name in ("0.groups", "1.num_groups", "2.groups", "3.groups")
    ]
    unbatched = record(nn.Conv1d(4, 4, 3, groups=2), torch.zeros(4, 5))
    assert seen(unbatched, "groups") == [("groups", 0, "groups")]


def test_norms_name_the_sizes_they_normalize() -> None:
    found = record(nn.Sequential(nn.LayerNorm((3, 4)), nn.RMSNorm(4)), torch.zeros(2, 3, 4))
    check_promise(found)
    assert seen(found) == [
        ("size", 1, "0.normalized_shape.0"),
        ("size", 2, "0.normalized_shape.1"),
        ("size", 2, "1.normalized_shape.0"),
    ]
    assert found.sizes[0].value in found.numbers("input")


def test_an_assignment_names_the_tensor_before_it() -> None:
    def forward(module: Any, x: Tensor) -> Tensor:
        y = x * 2
        y[:, : module.n] = 0
        y[module.n - 1] = x[0]
        return y

    found = noted(forward, 2, 3, n=2)
    assert seen(found) == [("stop", 1, "n"), ("index", 0, "0"), ("index", 0, "(n - 1)")]
    source = found.calls[0].results[0]
    assert [use.value for use in found.sizes if use.kind != "index"] == [source]
    assert found.sizes[-1].value == source


def test_a_parameter_has_sizes_too() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.zeros(1, 7, 4))

        def forward(self, x: Tensor) -> Tensor:
            return (x + self.table[:, : x.shape[1]]).view(-1, self.table.shape[-1])

    found = record(Positions(), torch.zeros(2, 5, 4))
    check_promise(found)
    stop, view = found.sizes
    assert (stop.value, view.expression) == (0, Size(0, 2))
    assert stop.expression == Size(found.numbers("input")[0], 1)


def test_a_tensor_not_seen_yet_has_plain_sizes() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.zeros(4)

        def forward(self, x: Tensor) -> Tensor:
            assert type(self.table.shape[0]) is int
            return (x + self.table).view(-1, self.table.shape[0])

    assert seen(record(Constant(), torch.zeros(2, 5, 4)))[-1] == ("size", 1, "size0")


def test_sizes_stay_sizes_in_the_model() -> None:
    def forward(_: Any, x: Tensor) -> Tensor:
        shape = x.shape
        assert type(shape) is type(shape[1:]) is type(shape + torch.Size([1])) is torch.Size
        assert type(shape[1:][0]) is type((shape + shape)[3]) is type((shape * 2)[0]) is Number
        assert shape.numel() == 6
        assert shape == (2, 3)
        assert isinstance(x.size(-1), int)
        assert f"{shape} {x.size(0)}" == "torch.Size([2, 3]) 2"
        return x

    noted(forward, 2, 3)


def test_a_cache_of_an_earlier_recording_does_not_speak_for_this_one() -> None:
    @functools.cache
    def half(size: int) -> int:
        return size // 2

    def forward(module: Any, x: Tensor) -> Tensor:
        return x.view(-1, half(module.width))

    assert seen(noted(forward, 2, 6, width=6)) == [("size", 1, "(width // 2)")]
    assert seen(noted(forward, 2, 6, width=6)) == [("size", 1, "3")]


# ------------------------------------------------------------------------------- nothing is disturbed


class Counts(nn.Module):
    """Keeps what it reads, and may fail."""

    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.width = 4
        self.sizes = [2, 2]
        self.config = SimpleNamespace(heads=2)
        self.fails = fails

    def forward(self, x: Tensor) -> Tensor:
        self.last = x.shape
        self.cache = {(self.width, x.shape[0]): [self.width // 2]}
        self.sizes.append(self.width)
        self.config.rows = x.shape[0]
        if self.fails:
            raise RuntimeError("no")
        return torch.as_tensor(self.linear(x))


@pytest.mark.parametrize("compute", [None, False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_no_number_stays_in_the_model(fails: bool, compute: bool | None) -> None:
    model = Counts(fails)
    if fails:
        with pytest.raises(sc.ModelError, match="Counts failed on the example"):
            record(model, torch.zeros(3, 4), compute=compute)
    else:
        check_promise(record(model, torch.zeros(3, 4), compute=compute))
    assert type(model.width) is int
    assert type(model.linear.in_features) is int
    assert model.last == (3, 4)
    assert model.cache == {(4, 3): [2]}
    assert model.config == SimpleNamespace(heads=2, rows=3)
    assert model.sizes[:3] == [2, 2, 4]
    assert Number not in types_in(model)
    assert not torch.overrides._get_current_function_mode_stack()


def test_a_model_that_wants_plain_integers_is_recorded_with_them() -> None:
    def forward(module: Any, x: Tensor) -> Tensor:
        if type(module.n) is not int:
            raise TypeError(module.n)
        return x.view(module.n, x.shape[1])

    assert seen(noted(forward, 2, 3, n=2)) == [("size", 0, "2"), ("size", 1, "3")]


@pytest.mark.parametrize("name", MODELS)
def test_the_models_of_other_tests_keep_their_promise(name: str) -> None:
    check_promise(record(*made(name)))


def recurrent(kind: Any) -> nn.Module:
    return kind(4, 6, num_layers=2, batch_first=True, bidirectional=True)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Of a residual network, with a bottleneck of groups."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.GroupNorm(groups, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, groups=groups)
        self.conv2 = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.as_tensor(self.conv2(self.norm2(F.relu(self.norm1(self.conv1(x))))))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "encoder": (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2), (5, 2, 8)),
    "lstm": (lambda: recurrent(nn.LSTM), (2, 5, 4)),
    "gru": (lambda: recurrent(nn.GRU), (2, 5, 4)),
    "rnn": (lambda: recurrent(nn.RNN), (2, 5, 4)),
    "blocks": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), Block(8, 2), nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(5)),
        (2, 3, 10, 10),
    ),
    "pixels": (
        lambda: nn.Sequential(nn.PixelUnshuffle(2), nn.PixelShuffle(2), nn.Upsample(size=(6, 5)), nn.Unfold(2)),
        (1, 3, 4, 4),
    ),
    "pools": (
        lambda: nn.Sequential(nn.AvgPool2d(2), nn.AdaptiveAvgPool2d((2, 2)), nn.Softmax(1), nn.ZeroPad2d(1)),
        (1, 3, 8, 8),
    ),
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")  # torch's word on such layers
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("compute", [False, True])
def test_torch_layers_take_numbers(name: str, compute: bool) -> None:
    network, shape = NETWORKS[name]
    model = network().eval()
    inputs = torch.randn(shape)
    with torch.no_grad():
        model(inputs)
    found = record(model, inputs, compute=compute)
    check_promise(found)
    assert Number not in types_in(model)
    if name in ("lstm", "gru", "rnn"):
        texts = [text(use.expression) for use in found.sizes]
        assert any("num_layers" in one for one in texts)
        assert "hidden_size" in texts or not texts


def test_attention_of_torch_notes_its_width_and_its_heads() -> None:
    model = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.zeros(2, 5, 8)
    found = record(model, (x, x, x))
    check_promise(found)
    told = [(use.kind, text(use.expression), found.values[use.value].shape[use.dim]) for use in found.sizes]
    assert told == [("size", "embed_dim", 8), ("heads", "num_heads", 8)]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # models hold such functions nevertheless
def test_scripted_functions_take_numbers() -> None:
    @torch.jit.script
    def halves(x: Tensor, n: int) -> Tensor:
        return x.view(n, -1)

    assert noted(lambda m, x: halves(x, m.n), 2, 3, n=3).sizes == ()
