"""The curve of a scalar as lines to draw, and as a small SVG picture for notebooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

Point = tuple[float, float]
Line = list[Point]

NEAR = 1e-8
"""The distance within which two progresses count as one place: the width of a jump."""
WIDTH, HEIGHT, MARGIN = 180, 48, 3


def polylines(scalar: Any) -> list[Line]:
    """Return the curve of a scalar over a run as lines of (progress, value), cut at each jump.

    If the value jumps at progress 1, the last line is the single point after the jump.
    """
    at: Callable[[float], float] = scalar.at
    points = [(p, float(at(p))) for p in sorted({*scalar.knots, 1 - NEAR / 2})]
    values = [value for _, value in points]
    rounding = 1e-12 * (max(values) - min(values))
    pairs = list(pairwise(points))
    steepness = [abs(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs]
    lines = [[points[0]]]
    for i, (before, after) in enumerate(pairs):
        beside = [*steepness[max(i - 1, 0) : i], *steepness[i + 1 : i + 2]]
        if steepness[i] > 1.5 * min(beside) and (jump := _jump(at, before, after, rounding)):
            lines[-1].append(jump[0])
            lines.append([jump[1]])
        lines[-1].append(after)
    return [_thinned(line) for line in lines]


def _thinned(line: Line) -> Line:
    """Remove the points that are in the same place as the next point."""
    return [a for a, b in pairwise(line) if b[0] - a[0] > NEAR] + line[-1:]


def _jump(
    at: Callable[[float], float], before: Point, after: Point, rounding: float
) -> tuple[Point, Point] | None:
    """Return the points on both sides of a jump between two points, if there is one.

    Bisect towards the half with the larger change. At a jump the change stays the same; where
    the curve is only steep, it shrinks with the interval.
    """
    change = abs(after[1] - before[1])
    left = change
    if change <= rounding:
        return None
    while after[0] - before[0] > NEAR:
        middle = (before[0] + after[0]) / 2
        point = (middle, float(at(middle)))
        halves = ((before, point), (point, after))
        before, after = max(halves, key=lambda half: abs(half[1][1] - half[0][1]))
        left = abs(after[1] - before[1])
        if left <= change / 2:
            return None
    steep = abs(before[1] - at(max(0.0, before[0] - 100 * NEAR)))
    return (before, after) if left > steep + rounding else None


def written(numbers: Sequence[float]) -> list[str]:
    """Return numbers as texts with the fewest digits, at least three, that tell them apart."""
    sizes = [abs(x) for x in numbers]
    numbers = [x if abs(x) > 1e-9 * max(sizes) else 0.0 for x in numbers]
    least = min([size for size in sizes if size > 1e-9 * max(sizes)], default=0.0)
    plain = max(sizes) >= 1e-4 and max(sizes) <= 100 * least  # 0.00005 beside 0.0001
    texts: list[str] = []
    for digits in range(3, 18):
        texts = [_number(x, digits, plain) for x in numbers]
        if len(set(texts)) == len(set(numbers)):
            break
    return texts


def _number(x: float, digits: int, plain: bool) -> str:
    text = f"{x:.{digits}g}"
    if "e+" in text and abs(x) < 1e7:
        return f"{x:.0f}"
    if "e-" in text and plain:
        from decimal import Decimal

        return f"{Decimal(text):f}"
    return text


def extent(lines: Sequence[Line]) -> Point:
    """Return the smallest and the largest value of lines, equal if they differ by rounding."""
    values = [value for line in lines for _, value in line]
    low, high = min(values), max(values)
    return (low, low) if high - low <= 1e-12 * max(abs(low), abs(high)) else (low, high)


def html(title: str, scalar: Any) -> str:
    """Return ``title`` above an SVG picture of the values over a run, with their range."""
    from html import escape

    lines = polylines(scalar)
    low, high = extent(lines)
    room = HEIGHT - 2 * MARGIN

    def place(point: Point) -> Point:
        share = (point[1] - low) / (high - low) if high > low else 0.5
        return MARGIN + (WIDTH - 2 * MARGIN) * point[0], MARGIN + room * (1 - share)

    drawn = []
    for line in lines:
        places = [place(point) for point in line]
        if len(places) == 1:
            ((x, y),) = places
            drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="currentColor"/>')
        else:
            shown = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            drawn.append(
                f'<polyline points="{shown}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
            )
    ends = {high: 11, low: HEIGHT - 2} if high > low else {low: HEIGHT / 2 + 4}
    texts: list[tuple[float, float, str, str]] = [
        (WIDTH + 6, y, "start", text)
        for y, text in zip(ends.values(), written(list(ends)), strict=True)
    ]
    under = zip((MARGIN, WIDTH / 2, WIDTH - MARGIN), ("start", "middle", "end"), strict=True)
    for (x, anchor), text in zip(under, ("0", "progress", "1"), strict=True):
        texts.append((x, HEIGHT + 11, anchor, text))
    drawn += [
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="11" fill="currentColor">'
        f"{text}</text>"
        for x, y, anchor, text in texts
    ]
    return (
        f"<div><code>{escape(title)}</code><br>"
        f'<svg width="{WIDTH + 90}" height="{HEIGHT + 15}" role="img">{"".join(drawn)}</svg></div>'
    )
