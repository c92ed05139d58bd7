"""The data of every plot: lines, marks and ranges of scalars by name over one x axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from .. import checks
from ..adaptive.base import Adaptive
from ..number.scalar import ScheduledScalar
from ..number.together import listeners_of
from ..schedules.composition import Sequence as Joined
from ..schedules.composition import Warmup, WarmupStableDecay
from ..schedules.cyclic import OneCycle
from ..sketch import NEAR, Line, Point, extent, polylines, written
from ..training.horizon import Horizon
from ..training.phases import Phases
from .axis import Axis, along, axis, places

WARMUP = "warm-up"
Marks = Sequence[tuple[float, str]]


class Curve(NamedTuple):
    """The plot of a scalar: its lines, marks on the x axis, and a note on its values."""

    lines: list[Line]
    marks: Marks = ()
    note: str = ""

    @property
    def range(self) -> str:
        """The smallest and the largest value, as a text."""
        if not self.lines:
            return "no finite number"
        low, high = extent(self.lines)
        ends = written([low, high])
        return (" to ".join(ends) if low != high else f"always {ends[0]}") + self.note


def curves_of(
    scalars: Any, horizon: Horizon | None = None, unit: str | None = None
) -> tuple[dict[str, Curve], str]:
    """Return the curves of scalars by name, and the label of the x axis."""
    named = named_scalars(scalars)
    x, label = axis(horizon, unit)
    phases = scalars.boundaries if isinstance(scalars, Phases) else ()
    curves = {}
    for name, scalar in named.items():
        lines = along(x, polylines(scalar))
        marks = [(place, text) for at, text in marks_of(scalar, phases) for place in places(x, at)]
        adaptive = listeners_of(scalar.leaves) or any(leaf.on_device for leaf in scalar.leaves)
        curves[name] = Curve(lines, marks, ", as observed so far" if adaptive else "")
    return curves, label


Recorded = tuple[Any, Any, float, int]
"""The x, the value, the progress and the step of a row; x and value may be ``None``."""


def recorded(
    rows: Iterable[Recorded],
    scalar: ScheduledScalar | None = None,
    horizon: Horizon | None = None,
) -> list[Line]:
    """Connect the points of recorded rows to lines.

    The lines are split at values that are not finite, and where the scalar jumps. Between two
    rows that are more than a step apart, and have the values of the scalar's formula, the formula
    is drawn.

    Args:
        rows: The rows, in order.
        scalar: The scalar in the column, or ``None`` for a metric or an unknown scalar.
        horizon: The horizon of the run if an optimizer drives it, or ``None``.
    """
    formula = [] if scalar is None else along(_axis_of(horizon), polylines(scalar))
    lines: list[Line] = []
    last: Recorded | None = None
    for row in rows:
        x, value, *_ = row
        if x is None or value is None:
            continue
        if not math.isfinite(value):
            last = None
            continue
        between = [] if last is None else _between(last, row, formula, scalar, horizon)
        if last is None:
            lines.append([])
        else:
            lines[-1] += between[0] if between else []
            lines += between[1:]
        lines[-1].append((x, value))
        last = row
    return lines


def _axis_of(horizon: Horizon | None) -> Axis:
    """Return the axis along which a formula is compared with rows: the progress, or the steps."""
    return axis(horizon, None if horizon is None else "steps")[0]


def _between(
    last: Recorded,
    row: Recorded,
    formula: Sequence[Line],
    scalar: ScheduledScalar | None,
    horizon: Horizon | None,
) -> list[Line]:
    """Return the points between two rows, in more than one line if the scalar jumps there.

    A run that goes back to an earlier step or progress begins a new line.
    """
    (x, value, begin, step), (x_end, value_end, end, step_end) = last, row
    ends = ((value, begin), (value_end, end))
    near = 2 * NEAR
    if horizon is not None:
        if scalar is not None and not (_is_of(horizon, last) and _is_of(horizon, row)):
            return []
        begin, end, near = step, step_end, near * horizon.total_steps
    if step_end < step or (scalar is not None and end < begin):
        return [[], []]
    if scalar is None or begin == end:
        return []
    follows = step_end > step + 1 and all(
        math.isclose(v, scalar.at(min(p, 1.0)), rel_tol=1e-6, abs_tol=1e-12) for v, p in ends
    )
    lines: list[Line] = []
    for line in formula:
        # A jump is found just after the boundary, at which the new value begins.
        if not lines or begin < line[0][0] - near <= end:
            lines.append([])
        inside = [point for point in line if begin < point[0] < end] if follows else []
        scale = (x_end - x) / (end - begin)
        lines[-1] += [(x + scale * (at - begin), v) for at, v in inside]
    return lines


def _is_of(horizon: Horizon, row: Recorded) -> bool:
    """Return whether a row has the progress of a horizon, and not of one that was replaced."""
    _, _, progress, step = row
    return math.isclose(horizon.progress(step), progress, rel_tol=1e-9, abs_tol=1e-12)


def recorded_marks(
    rows: Sequence[Recorded], scalar: ScheduledScalar, horizon: Horizon | None = None
) -> list[tuple[float, str]]:
    """Return the places of the marks of a scalar that recorded rows have passed."""
    parts = _axis_of(horizon)
    known = [(x, progress if horizon is None else step) for x, _, progress, step in rows]
    found = [
        (_place_of(at, known), text)
        for progress, text in marks_of(scalar)
        for at in places(parts, progress)
    ]
    return [(place, text) for place, text in found if place is not None]


def _place_of(at: float, rows: Iterable[tuple[Any, float]]) -> float | None:
    """Return the x at a progress or step, or ``None`` if the rows do not pass it."""
    before: tuple[float, float] | None = None
    for x, here in rows:
        if x is None:
            continue
        if here >= at - 1e-9:
            if before is None:
                return None
            share = (at - before[1]) / (here - before[1])
            return float(before[0] + share * (x - before[0]))
        before = x, here
    return None


def above_0(lines: Iterable[Line]) -> list[Line]:
    """Return the parts of lines above 0, for a logarithmic axis.

    If a line begins or ends at 0, rounding may leave its end slightly above 0. It is removed.
    """
    kept = [part for line in lines for part in _cut(line, lambda value: value > 0)]
    for line in kept:
        for end, beside in ((-1, -2), (0, 1)):
            if len(line) > 1 and line[end][1] < 1e-3 * line[beside][1]:
                line.pop(end)
    return kept


def _cut(line: Iterable[Point], keep: Callable[[float], bool]) -> list[Line]:
    """Split a line into the parts whose values are kept."""
    parts: list[Line] = [[]]
    for point in line:
        if keep(point[1]):
            parts[-1].append(point)
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]


def named_scalars(scalars: Any) -> dict[str, ScheduledScalar]:
    """Return the scalars by name; a single scalar is named by its ``repr``."""
    if isinstance(scalars, Phases):
        return dict(scalars.group)
    if isinstance(scalars, ScheduledScalar):
        return {repr(scalars): scalars}
    way_out = "Pass a schedule, or {name: schedule}."
    if not isinstance(scalars, Mapping):
        rule = "a scalar, a mapping from name to scalar, or Phases"
        checks.fail("scalars", rule, scalars, way_out, wrong_type=True)
    for name, scalar in scalars.items():
        if not isinstance(scalar, ScheduledScalar):
            checks.fail(f"scalars[{name!r}]", "a scalar", scalar, way_out, wrong_type=True)
    if not scalars:
        checks.fail("scalars", "at least one", scalars, way_out)
    return {str(name): scalar for name, scalar in scalars.items()}


def marks_of(scalar: ScheduledScalar, phases: Iterable[float] = ()) -> Marks:
    """Return the boundaries between the parts of a scalar with their labels, each place once."""
    marks = _marks(scalar, 0.0, 1.0)
    marks += [(at, f"phase {i}") for i, at in enumerate(phases, start=2)]
    named: dict[float, str] = {}
    for at, text in marks:
        named[round(at, 9)] = text or named.get(round(at, 9), "")
    return sorted(named.items())


def _marks(scalar: ScheduledScalar, begin: float, end: float) -> list[tuple[float, str]]:
    found: list[tuple[float, str]] = []
    length = end - begin
    for leaf in scalar.leaves:
        for first, last, inside, text in _spans(leaf):
            if 0 < last < 1:
                found.append((begin + length * last, text))
            if isinstance(inside, ScheduledScalar):
                found += _marks(inside, begin + length * first, begin + length * last)
    return found


def _spans(leaf: ScheduledScalar) -> Iterator[tuple[float, float, Any, str]]:
    """Yield begin, end, schedule and the label of the end for each span of a schedule."""
    if isinstance(leaf, Warmup):
        yield 0.0, leaf.fraction, None, WARMUP
        yield leaf.fraction, 1.0, leaf.schedule, ""
    elif isinstance(leaf, Joined):
        ends = pairwise((0.0, *leaf.boundaries, 1.0))
        for (first, last), inside in zip(ends, leaf.schedules, strict=True):
            yield first, last, inside, ""
    elif isinstance(leaf, WarmupStableDecay):
        yield 0.0, leaf.warmup, None, WARMUP
        yield leaf.warmup, 1 - leaf.decay, None, ""
    elif isinstance(leaf, OneCycle):
        yield 0.0, leaf.warmup, None, WARMUP
    elif isinstance(leaf, Adaptive):
        for inside in leaf.contained():
            yield 0.0, 1.0, inside, ""
