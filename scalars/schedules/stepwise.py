"""Schedules that change at boundaries, or interpolate between points."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any

from .. import checks
from ..checks import Boundaries, Real
from ..functions import P
from .base import Schedule
from .curves import CurveName, along
from .spans import HOST_TOLERANCE, inner, inner_spans, piecewise, reached


def milestones(name: str, value: Any) -> tuple[float, ...]:
    """Check that ``value`` has at least one fraction of the run, in increasing order."""
    if not (numbers := checks.boundaries(name, value)):
        checks.fail(name, "at least one fraction of the run", value, "Pass a list such as [0.5].")
    return numbers


def numbers(name: str, value: Any) -> tuple[float, ...]:
    """Check that ``value`` has at least one number, and only finite real ones."""
    if not (items := checks.each(name, value, checks.real)):
        checks.fail(name, "at least one number", value, "Pass a list such as [16, 32].")
    return items


def pair(name: str, value: Any) -> tuple[float, float]:
    """Check that ``value`` is a progress and a number."""
    items = checks.sequence(name, value)
    if len(items) != 2:
        checks.fail(name, "a pair of numbers", value, "Pass a pair (progress, value).")
    progress = checks.fraction(f"the progress in {name}", items[0])
    return progress, checks.real(f"the value in {name}", items[1])


def pairs(name: str, value: Any) -> tuple[tuple[float, float], ...]:
    """Check that ``value`` has at least two (progress, value) pairs, in order of progress."""
    points = checks.each(name, value, pair)
    if len(points) < 2 or any(a[0] > b[0] for a, b in pairwise(points)):
        rule = "at least two (progress, value) pairs in order of their progress"
        checks.fail(name, rule, value, "Sort the pairs, or add one.")
    return points


class StepDecay(Schedule):
    r"""Multiply the value by a factor at equal intervals.

    .. math:: v(p) = s\, f^{\lfloor p / d \rfloor}

    The value is ``start`` at progress 0 and changes exactly at each multiple of
    ``every``, including progress 1 if it is a multiple. After progress 1 it is constant.

    Args:
        start: The value at progress 0.
        factor: The factor f at each change.
        every: The interval d, a fraction of the run from 1e-6 to 1.

    Raises:
        ValueError: An argument is infinite or NaN, or ``every`` is out of its range.
        TypeError: An argument is not a real number.

    Example:
        >>> from scalars import StepDecay
        >>> lr = StepDecay(1.0, factor=0.1, every=0.5)
        >>> [float(lr.update(p)) for p in (0, 0.499, 0.5, 1)]
        [1.0, 1.0, 0.1, 0.01]

    The same as PyTorch's ``StepLR`` and MLX's ``step_decay``.
    """

    start: Real
    factor: Real
    every: Annotated[float, checks.span]

    monotone_pieces = True

    def check_together(self) -> None:
        """Warn if the factor looks like a number of steps."""
        call = "StepDecay(start, factor, every)"
        checks.not_steps("factor of StepDecay", self.factor, self.start, call)

    def value_at(self, progress: P) -> P:
        """Return start factor^floor(p / every)."""
        return self.start * self.factor ** reached(progress, self.every)  # type: ignore[no-any-return]

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        count = int(1 / self.every + HOST_TOLERANCE)
        return tuple([i * self.every for i in inner_spans(count + 1) if i * self.every < 1])


class MultiStepDecay(Schedule):
    r"""Multiply the value by a factor at each milestone.

    .. math:: v(p) = s\, f^{n}, \qquad n = \#\{m : m \le p\}

    At a milestone the value is the new one. A milestone given twice counts twice.

    Args:
        start: The value before the first milestone.
        factor: The factor f at each milestone.
        milestones: At least one fraction of the run, in increasing order.

    Raises:
        ValueError: A number is infinite or NaN, or ``milestones`` is empty, not in order or
            not in [0, 1].
        TypeError: An argument is of the wrong type.

    Example:
        >>> from scalars import MultiStepDecay
        >>> lr = MultiStepDecay(1.0, factor=0.1, milestones=[0.5, 0.75])
        >>> [float(lr.update(p)) for p in (0, 0.5, 0.75, 1)]
        [1.0, 0.1, 0.01, 0.01]

    The same as PyTorch's ``MultiStepLR``.
    """

    start: Real
    factor: Real
    milestones: Annotated[Sequence[float], milestones]

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return start factor^(number of milestones reached)."""

        def piece(i: int, p: P) -> P:
            return self.start * self.factor**i + 0 * p

        return piecewise(progress, self.milestones, piece)

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        return inner(self.milestones)


class PiecewiseConstant(Schedule):
    r"""Take one value after another, each between two boundaries.

    .. math:: v(p) = v_n, \qquad n = \#\{b : b \le p\}

    At a boundary the value is the new one. ``int(scalar)`` of a whole number is exact.

    Args:
        values: At least one number.
        boundaries: The progresses at which the next value begins, one fewer than values:
            fractions of the run in increasing order. A value between two equal boundaries
            is skipped.

    Raises:
        ValueError: A value is infinite or NaN, or ``boundaries`` has the wrong length, is
            not in order or not in [0, 1].
        TypeError: An argument is of the wrong type.

    Example:
        >>> from scalars import PiecewiseConstant
        >>> batch_size = PiecewiseConstant([16, 32, 64], [0.5, 0.75])
        >>> [int(batch_size.update(p)) for p in (0, 0.5, 0.75, 1)]
        [16, 32, 64, 64]

    The same as fvcore's ``MultiStepParamScheduler``, and as Keras's ``PiecewiseConstantDecay``,
    except that Keras keeps the old value at a boundary.
    """

    values: Annotated[Sequence[float], numbers]
    boundaries: Boundaries

    def check_together(self) -> None:
        """Check that there is a boundary between each two values."""
        checks.one_fewer("boundaries of PiecewiseConstant", self.boundaries, self.values, "values")

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return the value at ``progress``."""
        values: Any = self.values
        return piecewise(progress, self.boundaries, lambda i, p: values[i] + 0 * p)

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        return inner(self.boundaries)


class PiecewiseInterpolate(Schedule):
    r"""Interpolate between points.

    .. math:: v(p) = v_i + (v_{i+1} - v_i)\, g\left(\frac{p - p_i}{p_{i+1} - p_i}\right)
        \qquad p_i \le p < p_{i+1}

    Before the first point the value is that of the first point, and after the last point that
    of the last one. Between two points at the same progress the value jumps to the later one.

    Args:
        points: At least two (progress, value) pairs, in order of their progress, which is in
            [0, 1].
        curve: The curve between two points: "linear", "cosine", "one_minus_sqrt",
            "smoothstep", "polynomial" or "exponential". Default: ``"linear"``.

    Raises:
        ValueError: A number is infinite or NaN, a progress is out of [0, 1] or out of order,
            there are fewer than two points, or the curve is unknown.
        TypeError: An argument is of the wrong type.

    Example:
        >>> from scalars import PiecewiseInterpolate
        >>> lr = PiecewiseInterpolate([(0.0, 0.0), (0.2, 1.0), (1.0, 0.5)])
        >>> [float(lr.update(p)) for p in (0, 0.1, 0.2, 0.6, 1)]
        [0.0, 0.5, 1.0, 0.75, 0.5]

    The same as ignite's ``PiecewiseLinear`` and optax's ``piecewise_interpolate_schedule``.
    """

    points: Annotated[Sequence[tuple[float, float]], pairs]
    curve: CurveName = "linear"

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return the value on the curve between the points around ``progress``."""
        ends = self._ends

        def piece(i: int, p: P) -> P:
            return along(self.curve, ends[i], ends[i + 1], p)

        return piecewise(progress, self._progresses, piece)

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        return inner(self._progresses)

    @cached_property
    def _progresses(self) -> tuple[float, ...]:
        return tuple([progress for progress, _ in self.points])

    @cached_property
    def _ends(self) -> tuple[float, ...]:
        """The values at the ends of the spans: before the first point, between, and after."""
        return tuple([value for _, value in (self.points[0], *self.points, self.points[-1])])
