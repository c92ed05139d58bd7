"""Spans of a run: the span at a progress, and the fraction of it that is done."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import mlx.core as mx

from ..functions import HOST, P, floor, library, maximum, minimum, where

HOST_TOLERANCE = 1e-9
GRAPH_TOLERANCE = 1e-6


def tolerance(progress: Any) -> float:
    """Return how far before a boundary it counts as reached, to allow for rounding.

    With floats, as 0.1 * 3 is not 0.3, and the steps in a run of a million are 1e-6 apart. A
    graph computes in float32, which separates the steps in a run of a hundred thousand.
    """
    return GRAPH_TOLERANCE if isinstance(progress, mx.array) else HOST_TOLERANCE


def clipped(x: Any) -> Any:
    """Return ``x`` clipped to [0, 1]."""
    if isinstance(x, HOST):  # the fast path of updates, as in the functions below
        return 0.0 if x < 0.0 else 1.0 if x > 1.0 else x
    return minimum(maximum(x, 0.0), 1.0)


def local(progress: Any, begin: float, end: float) -> Any:
    """Return the fraction of the span from ``begin`` to ``end`` that is done, from 0 to 1."""
    if begin == end:
        return 0.0 * progress
    done = progress - begin
    if isinstance(progress, HOST):
        length = end - begin
        return 0.0 if done <= 1e-15 else done / length if done < length else 1.0
    # Up to 1e-15 is rounding in a difference that should be 0: 1 - 0.77 is not 0.23.
    return clipped(where(done > 1e-15, done, 0.0 * done) / (end - begin))


def span_at(progress: float, boundaries: Sequence[float]) -> int:
    """Return the number of boundaries that have been reached."""
    return bisect_right(boundaries, progress + HOST_TOLERANCE)


def piecewise(progress: P, boundaries: Sequence[float], piece: Callable[[int, P], P]) -> P:
    """Return ``piece(i, progress in its span)`` where ``i`` boundaries have been reached.

    A boundary belongs to the piece after it; the last piece ends with the run. For a float
    one piece is evaluated; for an array all that may be needed are, and each element selects
    its own.
    """
    if isinstance(progress, HOST):
        i = span_at(progress, boundaries)
        begin = boundaries[i - 1] if i else 0.0
        end = boundaries[i] if i < len(boundaries) else 1.0
        return piece(i, local(progress, begin, end))
    first, last = 0, len(boundaries)
    if not isinstance(progress, mx.array) and progress.size:
        first, last = [span_at(p, boundaries) for p in (progress.min(), progress.max())]
    edges = (0.0, *boundaries, 1.0)
    value = piece(first, local(progress, edges[first], edges[first + 1]))
    for i in range(first + 1, last + 1):
        value_after = piece(i, local(progress, edges[i], edges[i + 1]))
        value = where(progress >= edges[i] - tolerance(progress), value_after, value)
    return value


def reached(progress: Any, every: float) -> Any:
    """Return the number of multiples of ``every`` that have been reached."""
    if isinstance(progress, HOST):
        return math.floor((progress + HOST_TOLERANCE) / every)
    return floor((progress + tolerance(progress)) / every)


def last_reached(progress: Any, every: float) -> Any:
    """Return the largest multiple of ``every`` that has been reached, at most 1."""
    return clipped(every * reached(progress, every))


class EqualSpans:
    """Spans of one length that follow each other; the end of the run may cut the last one.

    If a span ends with the run, it is complete at progress 1, and no other span begins there.
    """

    def __init__(self, length: float) -> None:
        count = 1 / length
        if abs(count - round(count)) < HOST_TOLERANCE * count:
            count = round(count)  # 1 / (1 / 49) is not 49
        self.length, self.count = length, count
        self._last = max(1, math.ceil(count)) - 1

    def at(self, progress: Any) -> tuple[Any, Any]:
        """Return the index of the span at ``progress``, and the fraction of it that is done."""
        if type(progress) is float or isinstance(progress, HOST):
            n = math.floor((progress + HOST_TOLERANCE) / self.length)
            n = n if n < self._last else self._last
            done = progress * self.count - n
            return n, 0.0 if done < 0.0 else done if done < 1.0 else 1.0
        i = minimum(reached(progress, self.length), self._last)
        return i, clipped(progress * self.count - i)

    def ends(self) -> list[tuple[float, float]]:
        """Return where spans begin and end; of many spans, only of some near both ends."""
        shown = (0, *inner_spans(self._last + 1))
        return [(i * self.length, (i + 1) * self.length) for i in shown]


def stretched(progress: Any, length: float) -> Any:
    """Return ``progress`` over the smallest multiple of ``length`` that is not below it."""
    if isinstance(progress, HOST):
        count = math.ceil((progress - HOST_TOLERANCE) / length)
        done = progress / (length * count if count > 1 else length)
        return done if done < 1.0 else 1.0
    spans = maximum(-floor((tolerance(progress) - progress) / length), 1)
    return clipped(progress / (length * spans))


class Spans:
    """Spans that follow each other and end at ``limits``, the last one at 1 or after it.

    As with ``EqualSpans``, no span begins at progress 1.
    """

    def __init__(self, limits: Sequence[float]) -> None:
        self.limits = (0.0, *limits)

    @classmethod
    def growing(cls, count: float, growth: float) -> Spans:
        """Return ``count`` spans that fill the run, each ``growth`` times as long as the last.

        If ``count`` is not whole, the last one ends after the run.
        """
        whole = math.ceil(count - HOST_TOLERANCE)
        longest = whole - 1 if growth > 1 else 0
        lengths = [growth ** (i - longest) for i in range(whole)]  # the longest is 1
        ends = list(accumulate(lengths))
        total = ends[-1] - (whole - count) * lengths[-1]
        return cls([end / total for end in ends])

    def at(self, progress: Any) -> tuple[Any, Any]:
        """Return the index of the span at ``progress``, and the fraction of it that is done."""
        limits = self.limits
        if isinstance(progress, HOST):
            n = bisect_right(limits, progress + HOST_TOLERANCE, 1, len(limits) - 1)
            return n - 1, local(progress, limits[n - 1], limits[n])
        module, just_after = library(progress), progress + tolerance(progress)
        i: Any
        if module is mx:
            i = mx.zeros(progress.shape, mx.int32)
            for begin in limits[1:-1]:
                i = i + (just_after >= begin)
        else:
            i = module.searchsorted(limits[1:-1], just_after, side="right")
        edges = module.array(limits, dtype=progress.dtype)
        done, length = progress - edges[i], edges[i + 1] - edges[i]
        empty = length == 0  # in float32, near the end of many ever shorter spans
        fraction = where(empty, 1.0, clipped(done / where(empty, 1.0, length)))
        return i.astype(progress.dtype), fraction

    def ends(self) -> list[tuple[float, float]]:
        """Return where each span begins and ends."""
        return list(pairwise(self.limits))


MOST_CYCLES = 10_000
MOST_SPANS = 256


def inner(edges: Iterable[float]) -> tuple[float, ...]:
    """Return the edges between 0 and 1, sorted, each once."""
    return tuple(sorted({edge for edge in edges if 0 < edge < 1}))


def inner_spans(count: int) -> Sequence[int]:
    """Return the indices of the spans after the first one; of many, only those near the ends.

    Spans that repeat with a factor have their smallest and largest values there.
    """
    return range(1, count) if count <= MOST_SPANS else (1, 2, count - 3, count - 2, count - 1)


def edges_of_spans(boundaries: Sequence[float], pieces: Sequence[Any]) -> tuple[float, ...]:
    """Return boundaries, and the edges of the pieces between them mapped to their spans.

    A piece that is ``None`` has no edges.
    """
    ends = (0.0, *boundaries, 1.0)
    moved = [
        begin + (end - begin) * edge
        for begin, end, piece in zip(ends, ends[1:], pieces, strict=False)
        if piece is not None
        for edge in piece.edges
    ]
    return inner([*boundaries, *moved])
