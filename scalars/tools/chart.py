"""Charts of text, for a terminal of 80 columns."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

MARKERS = ("⢕", "o", "x", "+", "*", "#")
COLORS = ("blue+", "green+", "red+", "cyan+", "magenta+", "orange+")
Curve = tuple[Sequence[float], Sequence[float]]


def chart(curves: Mapping[str, Curve], label: str, log: bool, color: bool, width: int = 80) -> str:
    """Return a chart of curves under their names; without color each has a sign of its own."""
    try:
        import plotext
    except ImportError as error:
        raise ImportError("charts need plotext: pip install 'mlx-scalars[plot]'") from error
    shown = {name: _points(*curve, log) for name, curve in curves.items()}
    numbers = [value for points in shown.values() for _, value in points]
    if not numbers:
        raise ValueError("the values must be above 0 for a logarithmic axis. Leave out --log.")
    plotext.clear_figure()
    for part in (plotext.canvas_color, plotext.axes_color, plotext.ticks_color):
        part("default")  # those of the terminal
    plotext.plotsize(width, 18)
    legend = []
    for i, (name, points) in enumerate(shown.items()):
        paint, sign = COLORS[i % len(COLORS)], MARKERS[0 if color else i % len(MARKERS)]
        marker = "braille" if sign == MARKERS[0] else sign
        if points:
            plotext.plot(*zip(*points, strict=True), marker=marker, color=paint)
        entry = f"  {sign} {name}"
        entry = entry if len(entry) <= width else f"{entry[: width - 3]}..."
        legend.append(plotext.colorize(entry, paint) if color else entry)
    _ticks(plotext, numbers, max(x[-1] for x, _ in curves.values()), log)
    plotext.xlabel(label)
    text: str = plotext.build()
    lines = (text if color else plotext.uncolorize(text)).rstrip("\n").split("\n")
    return "\n".join([*legend, *(line.rstrip() for line in lines)])


def _points(x: Sequence[float], y: Sequence[float], log: bool) -> list[tuple[float, float]]:
    if not log:
        return list(zip(x, y, strict=True))
    pairs = zip(x, y, strict=True)
    return [(at, math.log10(value)) for at, value in pairs if value > 0]


def _ticks(plotext: Any, numbers: Sequence[float], end: float, log: bool) -> None:
    """Label the axes with values: of small learning rates too."""
    low, high = min(numbers), max(numbers)
    if low == high:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
        plotext.ylim(low, high)
    ticks = [low + (high - low) * i / 4 for i in range(5)]
    plotext.yticks(ticks, [f"{10**tick if log else tick:.3g}" for tick in ticks])
    marks = [end * i / 4 for i in range(5)]
    plotext.xticks(marks, [f"{mark:.4g}" if end < 1e4 else f"{mark:.0f}" for mark in marks])


def print_text(text: str) -> None:
    """Print signs of all kinds; a terminal may know ASCII only."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))
