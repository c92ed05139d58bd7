"""The x axis of the plots: which progress a run has where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from .. import checks
from ..sketch import NEAR, Line, extent
from ..training.horizon import Horizon, check_horizon, path

UNITS = ("steps", "epochs", "fraction")


class Part(NamedTuple):
    """A part of the x axis, along which the progress grows linearly or stays the same."""

    x: float
    x_end: float
    progress: float
    progress_end: float

    def place(self, progress: float) -> float:
        """Return the x at a progress of this part."""
        share = (progress - self.progress) / (self.progress_end - self.progress)
        return self.x + share * (self.x_end - self.x)

    def lines(self, curve: Iterable[Line]) -> list[Line]:
        """Return the lines of a curve over this part, with x instead of the progress."""
        begin, end = self.progress, self.progress_end
        cut = [(line, _within(line, begin, end)) for line in curve]
        if begin == end:  # the progress stays at the end of the run
            value = [inside for _, inside in cut if inside][-1][-1][1]
            return [[(self.x, value), (self.x_end, value)]]
        # A line that only touches an end of this part belongs to another one.
        inside = [part for line, part in cut if part and (len(part) > 1 or len(line) == 1)]
        return [[(self.place(at), value) for at, value in part] for part in inside]


Axis = Sequence[Part]


def axis(horizon: Horizon | None, unit: str | None) -> tuple[Axis, str]:
    """Return the x axis of a run in a unit, and its label."""
    if horizon is not None:
        check_horizon(horizon)
    per_epoch = None if horizon is None else horizon.steps_per_epoch
    if unit is None:
        unit = "fraction" if horizon is None else "steps" if per_epoch is None else "epochs"
    checks.one_of("unit", unit, UNITS)
    if unit == "fraction":
        return [Part(0.0, 1.0, 0.0, 1.0)], "progress"
    if horizon is None:
        checks.fail("unit", "'fraction' without a horizon", unit, "Pass Horizon(total_steps).")
    if unit == "epochs" and per_epoch is None:
        way_out = "Pass Horizon(total_steps, steps_per_epoch=...)."
        checks.fail("unit", "'steps' without steps_per_epoch", unit, way_out)
    scale, label = (1, "step") if unit == "steps" else (per_epoch or 1, "epoch")
    parts = [
        Part(step / scale, step_end / scale, done, done_at_end)
        for (step, done), (step_end, done_at_end) in path(horizon)
    ]
    return parts, label


def along(axis: Axis, curve: Sequence[Line]) -> list[Line]:
    """Return the lines of a curve along an axis."""
    joined: list[Line] = []
    low, high = extent(curve)
    near = 2 * NEAR * (axis[-1].x_end - axis[0].x), 1e-9 * (high - low)
    for line in [line for part in axis for line in part.lines(curve)]:
        if joined and all(
            abs(b - a) <= d for a, b, d in zip(joined[-1][-1], line[0], near, strict=True)
        ):
            joined[-1] += line[1:]
        else:
            joined.append(line)
    return joined


def places(axis: Axis, progress: float) -> list[float]:
    """Return the x at which a run reaches a progress: none, one, or more if it jumps back."""
    found = [
        part.place(progress)
        for part in axis
        if part.progress < part.progress_end and part.progress <= progress <= part.progress_end
    ]
    return [x for x in dict.fromkeys(found) if x > axis[0].x]


def _within(line: Line, begin: float, end: float) -> Line:
    """Return the part of a line from one progress to another, or nothing."""
    inside = [point for point in line if begin <= point[0] <= end]
    cut = [
        (at, a[1] + (at - a[0]) / (b[0] - a[0]) * (b[1] - a[1]))
        for a, b in pairwise(line)
        for at in {begin, end}
        if a[0] < at < b[0]
    ]
    return sorted(inside + cut)
