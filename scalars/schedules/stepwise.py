"""Schedules that change at boundaries, or between points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any

from .. import checks
from ..checks import Boundaries, Real
from ..functions import P
from .base import Schedule
from .curves import CurveName, along
from .spans import HOST_TOLERANCE, inner, inner_spans, piecewise, reached


def milestones(name: str, value: Any) -> tuple[float, ...]:
    """Check that ``value`` holds fractions of the run in order, at least one."""
    if not (numbers := checks.boundaries(name, value)):
        checks.fail(name, "at least one fraction of the run", value, "Pass [0.5, 0.75].")
    return numbers


def numbers(name: str, value: Any) -> tuple[float, ...]:
    """Check that ``value`` holds finite real numbers, at least one."""
    if not (items := checks.each(name, value, checks.real)):
        checks.fail(name, "at least one number", value, "Pass [number, ...].")
    return items


def pair(name: str, value: Any) -> tuple[float, float]:
    """Check that ``value`` is a progress and a number."""
    items = checks.sequence(name, value)
    if len(items) != 2:
        checks.fail(name, "a pair of numbers", value, "Write (progress, value).")
    progress = checks.fraction(f"the progress in {name}", items[0])
    return progress, checks.real(f"the value in {name}", items[1])


def pairs(name: str, value: Any) -> tuple[tuple[float, float], ...]:
    """Check that ``value`` holds (progress, value) pairs, at least two, in order."""
    points = checks.each(name, value, pair)
    if len(points) < 2 or any(a[0] > b[0] for a, b in pairwise(points)):
        rule = "at least two pairs, of a progress that does not decrease"
        checks.fail(name, rule, value, "Give them in order.")
    return points


class StepDecay(Schedule):
    r"""Multiply by a factor at equal distances.

    .. math:: v(p) = s\, f^{\lfloor p / d \rfloor}

    The value is ``start`` at progress 0 and changes exactly at each multiple of
    ``every``, at progress 1 too if it is one; then it stays.

    Args:
        start: Value at progress 0.
        factor: The factor f at each step.
        every: The distance d, a fraction of the run above 0 and up to 1.

    Raises:
        ValueError: An argument is infinite or NaN, or ``every`` is out of its range.
        TypeError: An argument is not a real number.

    Example:
        >>> from scalars import StepDecay
        >>> lr = StepDecay(1.0, factor=0.1, every=0.5)
        >>> [float(lr.update(p)) for p in (0, 0.499, 0.5, 1)]
        [1.0, 1.0, 0.1, 0.01]

    PyTorch's ``StepLR``, MLX's ``step_decay``.
    """

    start: Real
    factor: Real
    every: Annotated[float, checks.span]

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return start factor^floor(p / every)."""
        return self.start * self.factor ** reached(progress, self.every)  # type: ignore[no-any-return]

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value only rises or only falls."""
        count = int(1 / self.every + HOST_TOLERANCE)
        return tuple([i * self.every for i in inner_spans(count + 1) if i * self.every < 1])


class MultiStepDecay(Schedule):
    r"""Multiply by a factor at each milestone.

    .. math:: v(p) = s\, f^{n}, \qquad n = \#\{m : m \le p\}

    At a milestone the new value holds. One that is there twice counts twice.

    Args:
        start: The value before the first milestone.
        factor: The factor f at each milestone.
        milestones: Fractions of the run in order, at least one.

    Raises:
        ValueError: A number is infinite or NaN, or ``milestones`` are not in order, not
            in [0, 1] or none.
        TypeError: An argument is of the wrong type.

    Example:
        >>> from scalars import MultiStepDecay
        >>> lr = MultiStepDecay(1.0, factor=0.1, milestones=[0.5, 0.75])
        >>> [float(lr.update(p)) for p in (0, 0.5, 0.75, 1)]
        [1.0, 0.1, 0.01, 0.01]

    PyTorch's ``MultiStepLR``.
    """

    start: Real
    factor: Real
    milestones: Annotated[Sequence[float], milestones]

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return start factor^(milestones reached)."""

        def piece(i: int, p: P) -> P:
            return self.start * self.factor**i + 0 * p

        return piecewise(progress, self.milestones, piece)

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value only rises or only falls."""
        return inner(self.milestones)


class PiecewiseConstant(Schedule):
    r"""Take one value after the other.

    .. math:: v(p) = v_n, \qquad n = \#\{b : b \le p\}

    At a boundary the new value holds. Whole numbers stay whole: ``int(s)``.

    Args:
        values: Numbers, at least one.
        boundaries: Where the next value begins, one fewer than values: fractions of the
            run in order, from 0 to 1. A value between two that are equal is left out.

    Raises:
        ValueError: A value is infinite or NaN, or ``boundaries`` are not such fractions,
            or not one fewer.
        TypeError: An argument is of the wrong type.

    Example:
        >>> from scalars import PiecewiseConstant
        >>> batch_size = PiecewiseConstant([16, 32, 64], [0.5, 0.75])
        >>> [int(batch_size.update(p)) for p in (0, 0.5, 0.75, 1)]
        [16, 32, 64, 64]

    Keras's ``PiecewiseConstantDecay`` (which keeps the old value at a boundary) and
    fvcore's ``MultiStepParamScheduler``.
    """

    values: Annotated[Sequence[float], numbers]
    boundaries: Boundaries

    def check_together(self) -> None:
        """Check that there is a boundary between any two values."""
        checks.one_fewer("boundaries of PiecewiseConstant", self.boundaries, self.values, "values")

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return the value whose span holds ``progress``."""
        values: Any = self.values
        return piecewise(progress, self.boundaries, lambda i, p: values[i] + 0 * p)

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value only rises or only falls."""
        return inner(self.boundaries)


class PiecewiseInterpolate(Schedule):
    r"""Go from point to point.

    .. math:: v(p) = v_i + (v_{i+1} - v_i)\, g\left(\frac{p - p_i}{p_{i+1} - p_i}\right)
        \qquad p_i \le p < p_{i+1}

    Before the first point its value holds, after the last one the last one's. Between two
    points at the same progress the value jumps; there the later one's holds.

    Args:
        points: (progress, value) pairs, at least two, in the order of their progress, which
            is in [0, 1].
        curve: The way between two points: "linear", "cosine", "one_minus_sqrt",
            "smoothstep", "polynomial" or "exponential". Default: ``"linear"``.

    Raises:
        ValueError: A number is infinite or NaN, a progress is out of [0, 1] or decreases,
            there are fewer than two points, or no curve of that name.
        TypeError: An argument is of the wrong type.

    Example:
        >>> from scalars import PiecewiseInterpolate
        >>> lr = PiecewiseInterpolate([(0.0, 0.0), (0.2, 1.0), (1.0, 0.5)])
        >>> [float(lr.update(p)) for p in (0, 0.1, 0.2, 0.6, 1)]
        [0.0, 0.5, 1.0, 0.75, 0.5]

    ignite's ``PiecewiseLinear``, optax's ``piecewise_interpolate_schedule``.
    """

    points: Annotated[Sequence[tuple[float, float]], pairs]
    curve: CurveName = "linear"

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return the value on the way between the points around ``progress``."""
        progresses = [point[0] for point in self.points]
        ends = [point[1] for point in (self.points[0], *self.points, self.points[-1])]

        def piece(i: int, p: P) -> P:
            return along(self.curve, ends[i], ends[i + 1], p)

        return piecewise(progress, progresses, piece)

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value only rises or only falls."""
        return inner([progress for progress, _ in self.points])
