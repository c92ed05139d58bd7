"""Schedules that are made of other schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence as Values
from functools import cached_property
from numbers import Real as AnyReal
from typing import Annotated, Any

from .. import checks
from ..checks import Boundaries, Fraction, Positive, Real
from ..functions import P
from ..number.scalar import ScheduledScalar
from .annealing import Constant
from .base import Schedule
from .curves import CurveName, along, mix
from .spans import (
    HOST_TOLERANCE,
    MOST_CYCLES,
    EqualSpans,
    Spans,
    edges_of_spans,
    inner,
    inner_spans,
    last_reached,
    piecewise,
    span_at,
)


def scalar(name: str, value: Any) -> ScheduledScalar:
    """Check that ``value`` is a scalar; a number becomes a ``Constant``."""
    if isinstance(value, ScheduledScalar):
        return value
    if isinstance(value, bool) or not isinstance(value, AnyReal):
        way_out = "Pass a schedule such as CosineAnnealing(1e-3), or a number."
        checks.fail(name, "a scheduled scalar or a number", value, way_out, wrong_type=True)
    return Constant(checks.real(name, value))


def scalars(name: str, value: Any) -> tuple[ScheduledScalar, ...]:
    """Check that ``value`` has at least one item, and only scalars and numbers."""
    if not (items := checks.each(name, value, scalar)):
        checks.fail(name, "at least one schedule", value, "Pass a list: [schedule, ...].")
    return items


Nested = Annotated[ScheduledScalar | float, scalar]
Several = Annotated[Values[ScheduledScalar | float], scalars]


class Sequence(Schedule):
    r"""Run schedules one after another, each over its own span of the run.

    .. math:: v(p) = v_i\left(\frac{p - b_i}{b_{i+1} - b_i}\right)
        \quad b_i \le p < b_{i+1}, \quad b_0 = 0, \quad b_{n} = 1

    At a boundary the next schedule starts with its value at progress 0. At progress 1 and
    after it, the value is that of the last schedule at 1, or at 0 if it begins there.

    Args:
        schedules: Scalars, expressions of scalars, or numbers. Only their formulas
            are used: updating the sequence does not change them.
        boundaries: The progresses at which the next schedule begins, one fewer than
            schedules: fractions of the run in increasing order. A schedule between two equal
            boundaries is skipped.

    Raises:
        ValueError: ``boundaries`` has the wrong length, is not in order or not in [0, 1].
        TypeError: A schedule is neither a scalar nor a number.

    Example:
        >>> from scalars import CosineAnnealing, Linear, Sequence
        >>> lr = Sequence([Linear(0.0, 1.0), 1.0, CosineAnnealing(1.0)], [0.1, 0.5])
        >>> [float(lr.update(p)) for p in (0, 0.05, 0.1, 0.5, 0.75, 1)]
        [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]

    Similar to PyTorch's ``SequentialLR`` and to ``join_schedules`` of MLX and optax. For a piece
    that follows the progress of the whole run, as "fixed" in fvcore, pass
    ``Truncated(schedule, b_end, b_begin)``.
    """

    schedules: Several
    boundaries: Boundaries

    monotone_pieces = True

    def check_together(self) -> None:
        """Check that there is a boundary between each two schedules."""
        checks.one_fewer("boundaries of Sequence", self.boundaries, self.schedules, "schedules")

    def value_at(self, progress: P) -> P:
        """Return the value of the schedule at ``progress``."""
        schedules: Any = self.schedules
        return piecewise(progress, self.boundaries, lambda i, p: schedules[i].value_at(p))

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        schedules: Any = self.schedules
        return edges_of_spans(self.boundaries, schedules)


class Warmup(Schedule):
    r"""Warm up to a schedule's first value, then run it over the rest of the run [1].

    .. math:: v(p) = s + (v_0 - s)\, g(p / f) \quad p < f, \qquad
        v(p) = v_{schedule}\left(\frac{p - f}{1 - f}\right) \quad p \ge f

    The value is ``start`` at progress 0, and the schedule's first value exactly at the end
    of the warm-up. At progress 1 and after it, the value is that of the schedule at 1. A
    ``ReduceOnPlateau`` in the schedule ignores metrics during the warm-up, as in timm.

    Args:
        schedule: A scalar, an expression of scalars, or a number.
        fraction: The length of the warm-up, a fraction of the run from 0 (no warm-up) to 1.
            ``Horizon.fraction(steps=...)`` converts steps.
        start: The value at progress 0. Default: ``0.0``.
        curve: The curve of the warm-up: "linear", "cosine", "one_minus_sqrt",
            "smoothstep", "polynomial" or "exponential". Default: ``"linear"``.
        warmup: An alias of ``fraction``, named as in the other schedules that warm up.

    Raises:
        ValueError: ``fraction`` is not in [0, 1], ``start`` is infinite or NaN, or
            the curve is unknown.
        TypeError: ``schedule`` is neither a scalar nor a number, or another argument
            is of the wrong type.

    Example:
        >>> from scalars import CosineAnnealing, Warmup
        >>> lr = Warmup(CosineAnnealing(1.0), 0.2)
        >>> [float(lr.update(p)) for p in (0, 0.1, 0.2, 0.6, 1)]
        [0.0, 0.5, 1.0, 0.5, 0.0]

    The schedule starts at the end of the warm-up. For a schedule that starts with the run, so
    that the warm-up overlaps its beginning, there are two ways:

    - ``Warmup(1.0, f) * schedule`` multiplies the two, like chained factors;
    - ``Warmup(Truncated(schedule, begin=f), f)`` rises along the curve to the value of the
      schedule at f, like detectron2 and OLMo.

        >>> from scalars import Linear, Truncated
        >>> below = Linear(1.0, 0.0)
        >>> [round((Warmup(1.0, 0.2) * below).at(p), 3) for p in (0, 0.1, 0.2, 0.6, 1)]
        [0.0, 0.45, 0.8, 0.4, 0.0]
        >>> laid_over = Warmup(Truncated(below, begin=0.2), 0.2)
        >>> [round(laid_over.at(p), 3) for p in (0, 0.1, 0.2, 0.6, 1)]
        [0.0, 0.4, 0.8, 0.4, 0.0]

    [1]: Goyal, P. et al., 2017. Accurate, large minibatch SGD: Training ImageNet in
    1 hour. arXiv:1706.02677.
    """

    schedule: Nested
    fraction: Fraction
    start: Real = 0.0
    curve: CurveName = "linear"

    monotone_pieces = True

    def __init__(
        self,
        schedule: ScheduledScalar | float,
        fraction: float | None = None,
        start: float = 0.0,
        curve: str = "linear",
        *,
        warmup: float | None = None,
    ) -> None:
        if (fraction is None) == (warmup is None):
            given = (fraction, warmup)
            way_out = (
                "Write Warmup(schedule, 0.1), or Warmup(schedule, horizon.fraction(steps=50)) for "
                "a number of steps."
            )
            checks.fail("fraction of Warmup", "given once", given, way_out, wrong_type=True)
        fraction = warmup if fraction is None else fraction
        vars(self).update(schedule=schedule, fraction=fraction, start=start, curve=curve)
        self.__post_init__()

    def value_at(self, progress: P) -> P:
        """Return the value of the warm-up, or that of the schedule after it."""
        schedule: Any = self.schedule

        def piece(i: int, p: P) -> P:
            if i:
                return schedule.value_at(p)  # type: ignore[no-any-return]
            return along(self.curve, self.start, schedule.value_at(0.0), p)

        return piecewise(progress, (self.fraction,), piece)

    def hearing(self, progress: float) -> tuple[Any, ...]:
        """Return the listeners that count metrics at ``progress``: plateaus only after warm-up."""
        over = span_at(progress, (self.fraction,)) > 0
        return tuple([one for one in self.listeners if over or not one.waits_for_warmup])

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        return edges_of_spans((self.fraction,), (None, self.schedule))


class WarmupStableDecay(Schedule):
    r"""Warm up, stay at the peak, and decay at the end: WSD [1].

    .. math:: v(p) = s + (k - s) p / w \quad p < w, \qquad k \quad p < 1 - d, \qquad
        k + (e - k)\, g\left(\frac{p - 1 + d}{d}\right) \quad p \ge 1 - d

    The value is ``start`` at progress 0, ``peak`` from the end of the warm-up to the
    beginning of the decay, and ``end`` at 1 and after it, unless the decay has length 0.

    Args:
        peak: The value between warm-up and decay.
        warmup: The length of the linear warm-up, a fraction of the run from 0 to 1.
        decay: The length of the decay, a fraction of the run from 0 to 1.
        start: The value at progress 0. Default: ``0.0``.
        end: The value at progress 1. Default: ``0.0``.
        curve: The curve of the decay: "linear", "cosine", "one_minus_sqrt", "smoothstep",
            "polynomial" or "exponential". Default: ``"linear"``.

    Raises:
        ValueError: A number is infinite or NaN, a length is not in [0, 1], warm-up and
            decay together are longer than the run, or the curve is unknown.
        TypeError: An argument is of the wrong type.

    Example:
        >>> from scalars import WarmupStableDecay
        >>> lr = WarmupStableDecay(1.0, warmup=0.1, decay=0.2, end=0.1)
        >>> [float(lr.update(p)) for p in (0, 0.05, 0.1, 0.8, 0.9, 1)]
        [0.0, 0.5, 1.0, 1.0, 0.55, 0.1]

    [1]: Hu, S. et al., 2024. MiniCPM: Unveiling the potential of small language models
    with scalable training strategies. For the "1-sqrt" decay: Hägele, A. et al., 2024.
    """

    peak: Real
    warmup: Fraction
    decay: Fraction
    start: Real = 0.0
    end: Real = 0.0
    curve: CurveName = "linear"

    monotone_pieces = True

    def check_together(self) -> None:
        """Check that warm-up and decay fit into the run."""
        if self.warmup + self.decay > 1 + HOST_TOLERANCE:
            rule = f"at most 1 - warmup, {1 - self.warmup}"
            way_out = "Shorten the warm-up or the decay."
            checks.fail("decay of WarmupStableDecay", rule, self.decay, way_out)

    def value_at(self, progress: P) -> P:
        """Return the value of the warm-up, the peak, or the value of the decay."""

        def piece(i: int, p: P) -> P:
            if i == 0:
                return along("linear", self.start, self.peak, p)
            return self.peak + 0 * p if i == 1 else along(self.curve, self.peak, self.end, p)

        return piecewise(progress, self._phase_ends, piece)

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        return inner(self._phase_ends)

    @property
    def decay_begin(self) -> float:
        """The progress at which the decay begins: jump there with ``Horizon.jump`` to cool down."""
        return max(self.warmup, 1 - self.decay)

    @cached_property
    def _phase_ends(self) -> tuple[float, float]:
        return self.warmup, self.decay_begin


class Repeat(Schedule):
    r"""Repeat a schedule, and scale each repetition by one more factor.

    .. math:: v(p) = d^i\, v_{schedule}(x)

    in repetition i, counted from 0, of which the fraction x is done. At the end of a
    repetition the next one begins. At progress 1 and after it, the value is that at the end of
    the last repetition.

    Args:
        schedule: A scalar, an expression of scalars, or a number.
        times: The number of repetitions, above 0 and up to 1,000,000. With 2.5 the third
            one ends in its middle.
        decay: The factor d on the value from one repetition to the next.
            Default: ``1.0``.
        growth: The factor on the length from one repetition to the next, above 0. Unless it
            is 1, there are at most 10,000 repetitions. Default: ``1.0``.

    Raises:
        ValueError: An argument is infinite, NaN or out of its range.
        TypeError: ``schedule`` is neither a scalar nor a number, or another argument is not
            a number.

    Example:
        >>> from scalars import Linear, Repeat
        >>> lr = Repeat(Linear(1.0, 0.0), times=2, decay=0.5)
        >>> [float(lr.update(p)) for p in (0, 0.25, 0.5, 0.75, 1)]
        [1.0, 0.5, 0.5, 0.25, 0.0]
        >>> [Repeat(Linear(1.0, 0.0), times=1.5).at(p) for p in (0, 1 / 3, 2 / 3, 1)]
        [1.0, 0.5, 1.0, 0.5]
        >>> [Repeat(Linear(1.0, 0.0), 2, growth=3).at(p) for p in (0, 0.125, 0.25, 0.625, 1)]
        [1.0, 0.5, 1.0, 0.5, 0.0]

    ``decay`` also scales the end of each repetition. To decay towards a floor, write
    ``floor + Repeat(schedule - floor, times, decay)``. To decay only the start, like timm and
    fairseq, add a part that decays and a part that does not: ``Repeat(CosineAnnealing(start),
    times, decay) + Repeat(CosineAnnealing(0.0, floor), times)``.

    Similar to timm's cycles and Hugging Face's ``cosine_with_restarts``.
    """

    schedule: Nested
    times: Positive
    decay: Real = 1.0
    growth: Positive = 1.0

    monotone_pieces = True

    def check_together(self) -> None:
        """Check that there are not too many repetitions, and that none is too short."""
        most = 1_000_000 if self.growth == 1 else MOST_CYCLES
        if self.times > most:
            rule = f"at most {most:,}" + (" if growth is not 1" if self.growth != 1 else "")
            checks.fail("times of Repeat", rule, self.times, "Pass a smaller number.")
        if min(end - begin for begin, end in self._spans.ends()) < HOST_TOLERANCE:
            rule = f"such that each repetition takes at least {HOST_TOLERANCE:g} of the run"
            checks.fail("growth of Repeat", rule, self.growth, "Reduce times or growth.")

    @cached_property
    def _spans(self) -> EqualSpans | Spans:
        if self.growth == 1:
            return EqualSpans(1 / self.times)
        return Spans.growing(self.times, self.growth)

    def value_at(self, progress: P) -> P:
        """Return decay^i schedule(x)."""
        schedule: Any = self.schedule
        i, x = self._spans.at(progress)
        value: P = schedule.value_at(x)
        return value if self.decay == 1 else self.decay**i * value

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        schedule: Any = self.schedule
        spans, within = self._spans.ends(), (0.0, *schedule.edges)
        return inner([begin + (end - begin) * edge for begin, end in spans for edge in within])


class Reversed(Schedule):
    r"""Run a schedule backwards.

    .. math:: v(p) = v_{schedule}(1 - p)

    The value is the schedule's last one at progress 0, and its first one at progress 1
    and after it.

    Args:
        schedule: A scalar, an expression of scalars, or a number.

    Raises:
        TypeError: ``schedule`` is neither a scalar nor a number.

    Example:
        >>> from scalars import Exponential, Reversed
        >>> [Reversed(Exponential(1.0, 0.01)).at(p) for p in (0, 0.5, 1)]
        [0.01, 0.1, 1.0]
    """

    schedule: Nested

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return schedule(1 - p)."""
        schedule: Any = self.schedule
        return schedule.value_at(1 - progress)  # type: ignore[no-any-return]

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        schedule: Any = self.schedule
        return tuple([1 - edge for edge in reversed(schedule.edges)])


class Truncated(Schedule):
    r"""Run a part of a schedule, from one point of its own progress to another.

    .. math:: v(p) = v_{schedule}(b + (e - b)\, p)

    Args:
        schedule: A scalar, an expression of scalars, or a number.
        end: The progress e of the schedule at the end of the run, from 1e-6 to 1. Below 1
            the run ends before the schedule does. Default: ``1.0``.
        begin: The progress b of the schedule at the start of the run, from 0 to ``end``.
            Default: ``0.0``.

    Raises:
        ValueError: ``end`` or ``begin`` is out of its range.
        TypeError: ``schedule`` is neither a scalar nor a number, or another argument is not
            a number.

    Example:
        >>> from scalars import Linear, Truncated
        >>> [Truncated(Linear(1.0, 0.0), end=0.5).at(p) for p in (0, 0.5, 1)]
        [1.0, 0.75, 0.5]
        >>> [Truncated(Linear(1.0, 0.0), begin=0.5).at(p) for p in (0, 0.5, 1)]
        [0.5, 0.25, 0.0]

    For example, MLX's ``cosine_decay`` over N steps, in a run that ends earlier, after T steps,
    is ``Truncated(CosineAnnealing(start), end=T / N)``.
    """

    schedule: Nested
    end: Annotated[float, checks.span] = 1.0
    begin: Fraction = 0.0

    monotone_pieces = True

    def check_together(self) -> None:
        """Check that the part does not run backwards."""
        if self.begin > self.end:
            way_out = "To run backwards, swap the two and write Reversed(Truncated(...))."
            checks.fail("begin of Truncated", f"at most end, {self.end}", self.begin, way_out)

    def value_at(self, progress: P) -> P:
        """Return schedule(begin + (end - begin) p)."""
        schedule: Any = self.schedule
        return schedule.value_at(mix(self.begin, self.end, progress))  # type: ignore[no-any-return]

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        schedule: Any = self.schedule
        if not (length := self.end - self.begin):
            return ()
        return inner([(edge - self.begin) / length for edge in schedule.edges])


class Staircase(Schedule):
    r"""Update a schedule only at equal intervals, for example once per epoch.

    .. math:: v(p) = v_{schedule}(d \lfloor p / d \rfloor)

    The value changes exactly at each multiple of ``every``, including progress 1 if it is a
    multiple. After progress 1 it is constant. ``Staircase(schedule,
    horizon.fraction(epochs=1))`` is the schedule as if stepped at the end of each epoch.

    Args:
        schedule: A scalar, an expression of scalars, or a number.
        every: The interval d between two changes, a fraction of the run from 1e-6 to 1.

    Raises:
        ValueError: ``every`` is out of its range.
        TypeError: ``schedule`` is neither a scalar nor a number, or ``every`` is not a number.

    Example:
        >>> from scalars import Linear, Staircase
        >>> lr = Staircase(Linear(1.0, 0.0), every=0.25)
        >>> [lr.at(p) for p in (0, 0.2, 0.25, 0.7, 0.75, 0.99, 1)]
        [1.0, 1.0, 0.75, 0.5, 0.25, 0.25, 0.0]

    The same as PyTorch's schedulers when stepped after each epoch, and ``staircase=True`` in
    Keras and DeepSpeed.
    """

    schedule: Nested
    every: Annotated[float, checks.span]

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return schedule(every floor(p / every))."""
        schedule: Any = self.schedule
        return schedule.value_at(last_reached(progress, self.every))  # type: ignore[no-any-return]

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        schedule: Any = self.schedule
        count = int(1 / self.every + HOST_TOLERANCE)
        changes = [*inner_spans(count + 1)]
        # inner_spans may skip steps: add the first step after each edge of the schedule.
        changes += [math.ceil(edge / self.every - HOST_TOLERANCE) for edge in schedule.edges]
        return inner([i * self.every for i in changes])


class Warp(Schedule):
    r"""Run a schedule slower at first (a power above 1), or faster (below 1).

    .. math:: v(p) = v_{schedule}(p^k)

    The values at progress 0 and 1 are those of the schedule.

    Args:
        schedule: A scalar, an expression of scalars, or a number.
        power: The exponent k, above 0.

    Raises:
        ValueError: ``power`` is not a finite number above 0.
        TypeError: ``schedule`` is neither a scalar nor a number, or ``power`` is not a number.

    Example:
        >>> from scalars import Linear, Warp
        >>> [Warp(Linear(1.0, 0.0), power=2).at(p) for p in (0, 0.5, 1)]
        [1.0, 0.75, 0.0]

    The same as timm's k-decay: Zhang, T. and Li, W., 2020. kDecay: Just adding k-decay items on
    learning-rate schedule to improve neural networks. arXiv:2004.05909.
    """

    schedule: Nested
    power: Positive

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return schedule(p^power)."""
        schedule: Any = self.schedule
        return schedule.value_at(progress**self.power)  # type: ignore[no-any-return]

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        schedule: Any = self.schedule
        return inner([edge ** (1 / self.power) for edge in schedule.edges])
