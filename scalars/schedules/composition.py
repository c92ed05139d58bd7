"""Schedules made of schedules."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection
from collections.abc import Sequence as Values
from numbers import Real as AnyReal
from typing import Annotated, Any

import mlx.core as mx

from ..number import checks
from ..number.checks import Boundaries, Fraction, Real
from ..number.functions import HOST, P, maximum, minimum, where
from ..number.scalar import ScheduledScalar
from .annealing import Constant
from .base import Schedule
from .curves import CurveName, along


def scalar(name: str, value: Any) -> ScheduledScalar:
    """Check that ``value`` is a scalar; a number becomes a ``Constant``."""
    if isinstance(value, ScheduledScalar):
        return value
    if isinstance(value, bool) or not isinstance(value, AnyReal):
        way_out = "Pass one such as CosineAnnealing(1e-3), or a number."
        checks.fail(name, "a scheduled scalar or a number", value, way_out, wrong_type=True)
    return Constant(checks.real(name, value))


def scalars(name: str, value: Any) -> tuple[ScheduledScalar, ...]:
    """Check that ``value`` holds scalars or numbers, at least one."""
    items = checks.sequence(name, value)
    if not items:
        checks.fail(name, "at least one schedule", value, "Pass [schedule, ...].")
    return tuple([scalar(f"item {i} of {name}", item) for i, item in enumerate(items)])


Nested = Annotated[ScheduledScalar | float, scalar]
Several = Annotated[Collection[ScheduledScalar | float], scalars]

HOST_TOLERANCE = 1e-9
GRAPH_TOLERANCE = 1e-6


def reached(progress: Any, boundary: float) -> Any:
    """Return whether ``progress`` has come to ``boundary``, rounding errors aside.

    The steps of a run of a million are 1e-6 apart, and 0.1 * 3 is not 0.3: a
    boundary counts as reached from 1e-9 before it, or 1e-6 in a graph.
    """
    in_graph = isinstance(progress, mx.array)
    return progress >= boundary - (GRAPH_TOLERANCE if in_graph else HOST_TOLERANCE)


def local(progress: Any, begin: float, end: float) -> Any:
    """Return how much of the span from ``begin`` to ``end`` is done, from 0 to 1."""
    if begin == end:
        return 0.0 * progress
    return minimum(maximum((progress - begin) / (end - begin), 0.0), 1.0)


def piecewise(progress: P, boundaries: Values[float], piece: Callable[[int, P], P]) -> P:
    """Return ``piece(i, progress in its span)`` where ``i`` boundaries are reached.

    A boundary belongs to the piece after it. On the host one piece is evaluated;
    over an array all are, and each element takes its own.
    """
    edges = (0.0, *boundaries, 1.0)
    if isinstance(progress, HOST):
        i = bisect_right(boundaries, progress + HOST_TOLERANCE)
        return piece(i, local(progress, edges[i], edges[i + 1]))
    value = piece(0, local(progress, 0.0, edges[1]))
    for i, boundary in enumerate(boundaries, start=1):
        value_after = piece(i, local(progress, boundary, edges[i + 1]))
        value = where(reached(progress, boundary), value_after, value)
    return value


def knots_of(pieces: Any, boundaries: Values[float]) -> tuple[float, ...]:
    """Return the knots of each piece, moved to its span."""
    edges = (0.0, *boundaries, 1.0)
    knots = set(edges)
    for i, piece in enumerate(pieces):
        begin, end = edges[i], edges[i + 1]
        knots.update(begin + (end - begin) * knot for knot in piece.knots)
    return tuple(sorted(knots))


class Sequence(Schedule):
    r"""Run schedules one after the other, each over its own span of the run.

    .. math:: v(p) = v_i\left(\frac{p - b_i}{b_{i+1} - b_i}\right)
        \quad b_i \le p < b_{i+1}, \quad b_0 = 0, \quad b_{n} = 1

    At a boundary the next schedule starts, with its value at progress 0. At 1 and
    after it, the last schedule's value at 1 holds.

    Args:
        schedules: Scalars, expressions of scalars, or numbers. Only their formulas
            are used: updating the sequence leaves them as they are.
        boundaries: Where one ends and the next begins, one fewer than schedules:
            fractions of the run, above 0, below 1, increasing.

    Raises:
        ValueError: ``boundaries`` are not such fractions, or not one fewer.
        TypeError: A schedule is neither a scalar nor a number.

    Example:
        >>> from scalars import CosineAnnealing, Linear, Sequence
        >>> lr = Sequence([Linear(0.0, 1.0), 1.0, CosineAnnealing(1.0)], [0.1, 0.5])
        >>> [float(lr.update(p)) for p in (0, 0.05, 0.1, 0.5, 0.75, 1)]
        [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]

    As PyTorch's ``SequentialLR`` and MLX's and optax's ``join_schedules``.
    """

    schedules: Several
    boundaries: Boundaries

    def check_together(self) -> None:
        """Check that there is a boundary between any two schedules."""
        needed = len(self.schedules) - 1
        if len(self.boundaries) != needed:
            rule = f"one fewer than the schedules, {needed}"
            way_out = "A boundary stands between a schedule and the next."
            checks.fail("boundaries of Sequence", rule, self.boundaries, way_out)

    def value_at(self, progress: P) -> P:
        """Return the value of the schedule whose span holds ``progress``."""
        schedules: Any = self.schedules
        return piecewise(progress, self.boundaries, lambda i, p: schedules[i].value_at(p))

    @property
    def knots(self) -> tuple[float, ...]:
        """Increasing progresses from 0 to 1, close enough to draw the curve."""
        return knots_of(self.schedules, self.boundaries)


class Warmup(Schedule):
    r"""Warm up to the first value of a schedule, then run it over what remains [1].

    .. math:: v(p) = s + (v_0 - s)\, g(p / f) \quad p < f, \qquad
        v(p) = v_{schedule}\left(\frac{p - f}{1 - f}\right) \quad p \ge f

    The value is ``start`` at progress 0, and the schedule's first value exactly where
    the warm-up ends. At 1 and after it, the schedule's value at 1 holds.

    Args:
        schedule: A scalar, an expression of scalars, or a number.
        fraction: The length of the warm-up, as a fraction of the run from 0, none,
            to 1. ``Horizon.fraction(steps=...)`` converts steps.
        start: The value at progress 0. Default: ``0.0``.
        curve: The way up: "linear", "cosine", "one_minus_sqrt", "smoothstep",
            "polynomial" or "exponential". Default: ``"linear"``.

    Raises:
        ValueError: ``fraction`` is not in [0, 1], ``start`` is infinite or NaN, or
            there is no curve of that name.
        TypeError: ``schedule`` is neither a scalar nor a number, or another argument
            is of the wrong type.

    Example:
        >>> from scalars import CosineAnnealing, Warmup
        >>> lr = Warmup(CosineAnnealing(1.0), 0.2)
        >>> [float(lr.update(p)) for p in (0, 0.1, 0.2, 0.6, 1)]
        [0.0, 0.5, 1.0, 0.5, 0.0]

    [1]: Goyal, P. et al., 2017. Accurate, large minibatch SGD: Training ImageNet in
    1 hour. arXiv:1706.02677.
    """

    schedule: Nested
    fraction: Fraction
    start: Real = 0.0
    curve: CurveName = "linear"

    def value_at(self, progress: P) -> P:
        """Return the value on the way up, or the schedule's."""
        schedule: Any = self.schedule

        def piece(i: int, p: P) -> P:
            if i:
                return schedule.value_at(p)  # type: ignore[no-any-return]
            return along(self.curve, self.start, schedule.value_at(0.0), p)

        return piecewise(progress, (self.fraction,), piece)

    @property
    def knots(self) -> tuple[float, ...]:
        """Increasing progresses from 0 to 1, close enough to draw the curve."""
        return knots_of((self.schedule, self.schedule), (self.fraction,))
