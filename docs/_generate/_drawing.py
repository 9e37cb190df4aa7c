"""Drawings of units: a weight as a grid of cells, each with its integer, one colour per unit or scope."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from secateur import granularity
from secateur.index_maps import Cover
from secateur.units import Units

CELL, GAP, MARGIN, LABEL = 30, 14, 10, 20
COLOURS = (
    "#cfe3f6", "#ffe0b8", "#d3ecd0", "#f7cfd0", "#e1d5ef", "#f3ecc0", "#cdeeee", "#f4d3e6",
    "#dcdcdc", "#e6d3bd", "#d9e4ff", "#e4f2bf",
)  # fmt: skip


def linear() -> nn.Module:
    """The 4 x 4 weight."""
    return nn.Linear(4, 4)


def convolution() -> nn.Module:
    """The 2 x 4 x 3 x 3 weight."""
    return nn.Conv2d(4, 2, 3)


def units_of(chosen: Any, layer: nn.Module) -> Units:
    """The units of a layer, also where the granularity does not fit it."""
    found = granularity.weight_layers(layer)
    return chosen.function._units(next(iter(found)))


@dataclass
class Canvas:
    """SVG text, growing."""

    parts: list[str] = field(default_factory=list)
    width: int = 0
    height: int = 0

    def cell(self, x: int, y: int, number: int, colour: str) -> None:
        """One weight."""
        self._grow(x + CELL, y + CELL)
        blank = number < 0
        fill = "#ffffff" if blank else colour
        self.parts.append(f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="{fill}" stroke="#8a8f98"/>')
        if not blank:
            self.text(x + CELL // 2, y + CELL // 2 + 5, str(number))

    def text(self, x: int, y: int, words: str, *, small: bool = False) -> None:
        """A few words, centred."""
        size, colour = (11, "#5b616b") if small else (14, "#1f2328")
        self._grow(x, y)
        self.parts.append(
            f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="middle">{words}</text>'
        )

    def frame(self, x: int, y: int, columns: int, rows: int) -> None:
        """A heavy line around cells."""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{columns * CELL}" height="{rows * CELL}" '
            'fill="none" stroke="#1f2328" stroke-width="2"/>'
        )

    def _grow(self, x: int, y: int) -> None:
        self.width, self.height = max(self.width, x), max(self.height, y)

    def svg(self, title: str) -> str:
        """The whole drawing."""
        width, height = self.width + MARGIN, self.height + MARGIN
        size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"'
        style = ' font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace">'
        back = f'<title>{title}</title>\n<rect width="{width}" height="{height}" rx="6" fill="#ffffff"/>'
        return "\n".join([head + style, back, *self.parts, "</svg>"]) + "\n"


def draw_linear(units: Units, title: str) -> str:
    """The 4 x 4 weight: rows are outputs, columns inputs."""
    canvas, numbers, colours = Canvas(), *_painted(units)
    for column in range(4):
        canvas.text(MARGIN + LABEL + column * CELL + CELL // 2, MARGIN + 12, f"x{column}", small=True)
    for row in range(4):
        canvas.text(MARGIN + 8, MARGIN + LABEL + row * CELL + 19, f"y{row}", small=True)
    _kernel(canvas, MARGIN + LABEL, MARGIN + LABEL, numbers, colours)
    return canvas.svg(title)


def draw_convolution(units: Units, title: str) -> str:
    """The 2 x 4 x 3 x 3 weight: a row of four kernels for each output."""
    canvas, numbers, colours = Canvas(), *_painted(units)
    step = 3 * CELL + GAP
    for row in range(2):
        canvas.text(MARGIN + 14, MARGIN + LABEL + row * step + 50, f"out {row}", small=True)
        for column in range(4):
            x, y = MARGIN + 2 * LABEL + column * step, MARGIN + LABEL + row * step
            if row == 0:
                canvas.text(x + 3 * CELL // 2, MARGIN + 12, f"in {column}", small=True)
            _kernel(canvas, x, y, numbers[row, column], colours[row, column])
    return canvas.svg(title)


def draw_patterns(cover: Cover, title: str) -> str:
    """The first kernel, once for each pattern it may keep."""
    canvas = Canvas()
    step = 3 * CELL + GAP
    for pattern, layer in enumerate(cover.numbers()[:, 0, 0]):
        x, y = MARGIN + pattern % 4 * step, MARGIN + LABEL + pattern // 4 * (step + LABEL)
        canvas.text(x + 3 * CELL // 2, y - 6, f"pattern {pattern}", small=True)
        _kernel(canvas, x, y, layer, torch.full_like(layer, pattern))
    return canvas.svg(title)


def _kernel(canvas: Canvas, x: int, y: int, numbers: Tensor, colours: Tensor) -> None:
    rows, columns = numbers.shape
    for row, column in _cells(rows, columns):
        colour = COLOURS[int(colours[row, column]) % len(COLOURS)]
        canvas.cell(x + column * CELL, y + row * CELL, int(numbers[row, column]), colour)
    canvas.frame(x, y, columns, rows)


def _cells(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    return ((row, column) for row in range(rows) for column in range(columns))


def _painted(units: Units) -> tuple[Tensor, Tensor]:
    """The integers, and what gives each its colour: the scope where scopes are many, else the unit."""
    (index,) = units.index.values()
    numbers = index.numbers().expand(index.shape)
    by_scope = units.scope.n_units > 1
    return numbers, units.scope.numbers()[numbers] if by_scope else numbers


DRAWN: dict[str, Any] = {
    "weight": granularity.weight(),
    "vector-row": granularity.vector("row"),
    "vector-column": granularity.vector("column"),
    "pattern-2-4": granularity.pattern(2, 4),
    "kernel": granularity.kernel(),
    "filter": granularity.filter(),
    "input-channel": granularity.input_channel(),
    "block-2-1": granularity.block(2, 1),
    "block-2-2": granularity.block(2, 2),
}


def pictures() -> dict[str, str]:
    """Every picture of the page, by file name."""
    drawn = {}
    for name, chosen in DRAWN.items():
        for kind, layer, draw in (("linear", linear(), draw_linear), ("conv", convolution(), draw_convolution)):
            units = units_of(chosen, layer)
            if not units.frozen:
                drawn[f"{name}-{kind}.svg"] = draw(units, f"{chosen}: units of a {kind} weight")
    units = units_of(granularity.kernel_pattern(), convolution())
    cover = cast(Cover, next(iter(units.index.values())))
    drawn["kernel-pattern.svg"] = draw_patterns(cover, "kernel_pattern: the eight units of the first kernel")
    return drawn
