"""Text charts for a terminal, with a panel of braille dots for each curve over one x axis."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise

from ..sketch import Line, extent, written
from .lines import WARMUP, Curve, above_0

COLORS = (94, 92, 91, 96, 95, 93)
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of a braille character: four rows of two dots."""
TALLEST = 13
IN_ASCII = str.maketrans("┤│└┴┘─┊…", "||+++-:.")


def chart(
    curves: Mapping[str, Curve],
    label: str,
    log: bool,
    color: bool,
    size: tuple[int, int] = (80, 24),
) -> str:
    """Return a chart of curves, with their names and ranges, that fits ``size``.

    ``size`` gives the columns and lines. One line stays free for the prompt. Each curve has at
    least one line of dots, even if the chart becomes too high.
    """
    width, height = size
    panels = {name: _scaled(curve.lines) if log else curve.lines for name, curve in curves.items()}
    if not any(panels.values()):
        raise ValueError("the values must be above 0 for a logarithmic axis. Remove --log.")
    labelled = sum(any(text for _, text in curve.marks) for curve in curves.values())
    rows = max(1, min(TALLEST, (height - 4 - labelled) // len(curves) - 1))
    rows -= rows > 6 and rows % 2 == 0  # an odd number has a middle row
    ticks = {name: _ticks(lines, rows, log) for name, lines in panels.items()}
    margin = max(len(text) for texts in ticks.values() for text in texts)
    columns = max(width - margin - 1, 2)
    end = max(line[-1][0] for curve in curves.values() for line in curve.lines)
    shown: list[str] = []
    for i, (name, curve) in enumerate(curves.items()):
        paint = f"\x1b[{COLORS[i % len(COLORS)]}m{{}}\x1b[0m" if color else "{}"
        room = max(width - len(curve.range) - 2, 1)
        title = name if len(name) <= room else f"{name[: room - 1]}…"
        range_ = curve.range.rjust(max(width - len(title), 0))
        shown.append(paint.format(title) + range_)
        places = {round(at / end * (columns - 1)): text for at, text in curve.marks}
        if any(places.values()) and rows > 1:
            shown.append(" " * (margin + 1) + _texts(places, columns))
        canvas = _canvas(panels[name], end, columns, rows)
        for text, cells in zip(ticks[name], canvas, strict=True):
            drawn = "".join(
                "┊" if cell == "⠀" and at in places else " " if cell == "⠀" else cell
                for at, cell in enumerate(cells)
            ).rstrip()
            shown.append(f"{text:>{margin}}{'┤' if text else '│'}{paint.format(drawn)}")
    return "\n".join([*shown, *_x_axis(end, label, columns, " " * margin)])


def print_text(text: str) -> None:
    """Print a text, with ASCII in place of signs that the terminal cannot show."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        plain = text.translate(IN_ASCII)
        plain = "".join("*" if 0x2800 <= ord(sign) <= 0x28FF else sign for sign in plain)
        text = plain.encode(encoding, "replace").decode(encoding)
    print(text)


def _scaled(lines: Sequence[Line]) -> list[Line]:
    """Return the logarithms of lines, without the values up to 0."""
    return [[(at, math.log10(value)) for at, value in line] for line in above_0(lines)]


def _ticks(lines: Sequence[Line], rows: int, log: bool) -> list[str]:
    """Return the labels beside the rows of a panel, from top to bottom."""
    texts = [""] * rows
    if not lines or rows == 1:
        return texts
    low, high = extent(lines)
    count = 5 if rows >= TALLEST else 3 if rows >= 7 else 2
    places = [i * (rows - 1) // (count - 1) for i in range(count)]
    if low == high:
        places = [rows // 2]
    values = [high - (high - low) * i / (rows - 1) for i in places]
    for i, text in zip(places, written([10**x for x in values] if log else values), strict=True):
        texts[i] = text
    return texts


def _canvas(lines: Sequence[Line], end: float, columns: int, rows: int) -> list[str]:
    """Return rows of braille characters that show the lines."""
    bits = [[0] * columns for _ in range(rows)]
    low, high = extent(lines) if lines else (0.0, 0.0)
    wide, tall = 2 * columns - 1, 4 * rows - 1

    def place(at: float, value: float) -> tuple[float, float]:
        share = (value - low) / (high - low) if high > low else 0.5
        return at / end * wide, (1 - share) * tall

    def dot(x: float, y: float) -> None:
        column, row = min(max(round(x), 0), wide), min(max(round(y), 0), tall)
        bits[row // 4][column // 2] |= DOTS[row % 4][column % 2]

    for line in lines:
        places = [place(*point) for point in line]
        if len(places) == 1:  # a single dot would be hard to see
            x, y = places[0]
            for step in (0, 1):
                dot(min(x, wide - 1) + step, min(y, tall - 1))
                dot(min(x, wide - 1) + step, min(y, tall - 1) + 1)
        for (x, y), (x_next, y_next) in pairwise(places):
            steps = max(1, math.ceil(max(abs(x_next - x), abs(y_next - y))))
            for i in range(steps + 1):
                dot(x + (x_next - x) * i / steps, y + (y_next - y) * i / steps)
    return ["".join(chr(0x2800 + one) for one in row) for row in bits]


def _texts(places: Mapping[int, str], columns: int) -> str:
    """Return a row with the texts at their places, as far as they fit."""
    row = ""
    for at, text in sorted(places.items()):
        begin = max(at - len(text), 0) if text == WARMUP else at
        if text and begin >= len(row) + bool(row) and begin + len(text) <= columns:
            row = row.ljust(begin) + text
    return row


def _x_axis(end: float, label: str, columns: int, indent: str) -> list[str]:
    """Return the line of the x axis, its numbers and its label."""
    count = 4 if columns >= 40 else 1
    values = [end * i / count for i in range(count + 1)]
    axis, numbers = ["─"] * columns, ""
    for i, text in enumerate(written(values)):
        at = round(i / count * (columns - 1))
        axis[at] = "┘" if i == count else "┴"
        begin = min(max(at - len(text) // 2, 0), columns - len(text))
        numbers = numbers.ljust(begin) + text
    unit = label.rjust(columns // 2 + len(label) // 2)
    return [f"{indent}└{''.join(axis)}", f"{indent} {numbers}", f"{indent} {unit}"]
