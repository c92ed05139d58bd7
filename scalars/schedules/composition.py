"""Schedules made of schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence as Values
from functools import cached_property
from itertools import pairwise
from numbers import Real as AnyReal
from typing import Annotated, Any

from .. import checks
from ..checks import Boundaries, Fraction, Positive, Real
from ..functions import P, minimum
from ..number.scalar import ScheduledScalar
from .annealing import Constant
from .base import Schedule
from .curves import CurveName, along, mix
from .spans import (
    HOST_TOLERANCE,
    MOST_CYCLES,
    edges_of_spans,
    equal_spans,
    growing_spans,
    inner,
    inner_spans,
    piecewise,
    reached,
    span_at,
    span_of,
)


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
    if not (items := checks.each(name, value, scalar)):
        checks.fail(name, "at least one schedule", value, "Pass [schedule, ...].")
    return items


Nested = Annotated[ScheduledScalar | float, scalar]
Several = Annotated[Values[ScheduledScalar | float], scalars]


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
            fractions of the run in order, from 0 to 1. Between two that are equal there is
            no time: that schedule is left out.

    Raises:
        ValueError: ``boundaries`` are not such fractions, or not one fewer.
        TypeError: A schedule is neither a scalar nor a number.

    Example:
        >>> from scalars import CosineAnnealing, Linear, Sequence
        >>> lr = Sequence([Linear(0.0, 1.0), 1.0, CosineAnnealing(1.0)], [0.1, 0.5])
        >>> [float(lr.update(p)) for p in (0, 0.05, 0.1, 0.5, 0.75, 1)]
        [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]

    As PyTorch's ``SequentialLR`` and MLX's and optax's ``join_schedules``. A piece that keeps
    the clock of the run, as "fixed" in fvcore, is ``Truncated(schedule, b_end, b_begin)``.
    """

    schedules: Several
    boundaries: Boundaries

    monotone_pieces = True

    def check_together(self) -> None:
        """Check that there is a boundary between any two schedules."""
        checks.one_fewer("boundaries of Sequence", self.boundaries, self.schedules, "schedules")

    def value_at(self, progress: P) -> P:
        """Return the value of the schedule whose span holds ``progress``."""
        schedules: Any = self.schedules
        return piecewise(progress, self.boundaries, lambda i, p: schedules[i].value_at(p))

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        schedules: Any = self.schedules
        return edges_of_spans(self.boundaries, schedules)


class Warmup(Schedule):
    r"""Warm up to the first value of a schedule, then run it over what remains [1].

    .. math:: v(p) = s + (v_0 - s)\, g(p / f) \quad p < f, \qquad
        v(p) = v_{schedule}\left(\frac{p - f}{1 - f}\right) \quad p \ge f

    The value is ``start`` at progress 0, and the schedule's first value exactly where
    the warm-up ends. At 1 and after it, the schedule's value at 1 holds. A plateau does not
    count what it observes during the warm-up, as in timm.

    Args:
        schedule: A scalar, an expression of scalars, or a number.
        fraction: The length of the warm-up, as a fraction of the run from 0, none,
            to 1. ``Horizon.fraction(steps=...)`` converts steps.
        start: The value at progress 0. Default: ``0.0``.
        curve: The way up: "linear", "cosine", "one_minus_sqrt", "smoothstep",
            "polynomial" or "exponential". Default: ``"linear"``.
        warmup: Another name of ``fraction``, as in the other schedules that warm up.

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

    The schedule begins when the warm-up is over. If it runs on underneath instead, from the
    first step of the run, there are two ways to lay the warm-up over it:

    - ``Warmup(1.0, f) * schedule`` multiplies the two, as when factors are chained;
    - ``Warmup(Truncated(schedule, begin=f), f)`` goes straight to the value that the
      schedule has at f, as detectron2 and OLMo do.

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
            way_out = "Write Warmup(schedule, 0.1), or Warmup(schedule, warmup=0.1)."
            given = (fraction, warmup)
            checks.fail("fraction of Warmup", "given once", given, way_out, wrong_type=True)
        fraction = warmup if fraction is None else fraction
        vars(self).update(schedule=schedule, fraction=fraction, start=start, curve=curve)
        self.__post_init__()

    def value_at(self, progress: P) -> P:
        """Return the value on the way up, or the schedule's."""
        schedule: Any = self.schedule

        def piece(i: int, p: P) -> P:
            if i:
                return schedule.value_at(p)  # type: ignore[no-any-return]
            return along(self.curve, self.start, schedule.value_at(0.0), p)

        return piecewise(progress, (self.fraction,), piece)

    def hearing(self, progress: float) -> tuple[Any, ...]:
        """Return the listeners that count what is observed: no plateaus during the warm-up."""
        over = span_at(progress, (self.fraction,)) > 0
        return tuple([one for one in self.listeners if over or not one.waits_for_warmup])

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        return edges_of_spans((self.fraction,), (None, self.schedule))


class WarmupStableDecay(Schedule):
    r"""Warm up, keep the peak, and decay at the end: WSD [1].

    .. math:: v(p) = s + (k - s) p / w \quad p < w, \qquad k \quad p < 1 - d, \qquad
        k + (e - k)\, g\left(\frac{p - 1 + d}{d}\right) \quad p \ge 1 - d

    The value is ``start`` at progress 0, ``peak`` from the end of the warm-up to the
    beginning of the decay, and ``end`` at 1 and after it.

    Args:
        peak: The value between warm-up and decay.
        warmup: The length of the linear warm-up, a fraction of the run; 0 is none.
        decay: The length of the decay, a fraction of the run; 0 is none.
        start: The value at progress 0. Default: ``0.0``.
        end: The value at progress 1. Default: ``0.0``.
        curve: The way down: "linear", "cosine", "one_minus_sqrt", "smoothstep",
            "polynomial" or "exponential". Default: ``"linear"``.

    Raises:
        ValueError: A number is infinite or NaN, a length is not in [0, 1], the two
            together are longer than the run, or there is no curve of that name.
        TypeError: An argument is of the wrong type.

    Example:
        >>> from scalars import WarmupStableDecay
        >>> lr = WarmupStableDecay(1.0, warmup=0.1, decay=0.2, end=0.1)
        >>> [float(lr.update(p)) for p in (0, 0.05, 0.1, 0.8, 0.9, 1)]
        [0.0, 0.5, 1.0, 1.0, 0.55, 0.1]

    [1]: Hu, S. et al., 2024. MiniCPM: Unveiling the potential of small language models
    with scalable training strategies. The "1-sqrt" way down: Hägele, A. et al., 2024.
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
            rule = f"at most what the warm-up leaves, {1 - self.warmup}"
            checks.fail("decay of WarmupStableDecay", rule, self.decay, "Shorten one of them.")

    def value_at(self, progress: P) -> P:
        """Return the value on the way up, the peak, or the value on the way down."""

        def piece(i: int, p: P) -> P:
            if i == 0:
                return along("linear", self.start, self.peak, p)
            return self.peak + 0 * p if i == 1 else along(self.curve, self.peak, self.end, p)

        return piecewise(progress, self._phase_ends(), piece)

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        return inner(self._phase_ends())

    @property
    def decay_begin(self) -> float:
        """The progress at which the decay begins: where ``Horizon.jump`` goes to cool down."""
        return max(self.warmup, 1 - self.decay)

    def _phase_ends(self) -> tuple[float, float]:
        return self.warmup, self.decay_begin


class Repeat(Schedule):
    r"""Run a schedule several times, each time scaled once more.

    .. math:: v(p) = d^i\, v_{schedule}(x)

    in the i-th time from 0, with x the part of it that is done. Where a run of the schedule
    ends the next begins; at progress 1 and after it the value is that at the end of the last.

    Args:
        schedule: A scalar, an expression of scalars, or a number.
        times: How often it runs, above 0 and up to 1,000,000. Of 2.5 times, the third one
            is cut off in its middle.
        decay: The factor d of the whole value from one time to the next.
            Default: ``1.0``.
        growth: How much longer each time is than the one before, above 0; unless it is 1,
            there are at most 10,000 times. Default: ``1.0``.

    Raises:
        ValueError: An argument is infinite, NaN or out of its range.
        TypeError: ``schedule`` is neither a scalar nor a number, or another argument not a
            number.

    Example:
        >>> from scalars import Linear, Repeat
        >>> lr = Repeat(Linear(1.0, 0.0), times=2, decay=0.5)
        >>> [float(lr.update(p)) for p in (0, 0.25, 0.5, 0.75, 1)]
        [1.0, 0.5, 0.5, 0.25, 0.0]
        >>> [Repeat(Linear(1.0, 0.0), times=1.5).at(p) for p in (0, 1 / 3, 2 / 3, 1)]
        [1.0, 0.5, 1.0, 0.5]
        >>> [Repeat(Linear(1.0, 0.0), 2, growth=3).at(p) for p in (0, 0.125, 0.25, 0.625, 1)]
        [1.0, 0.5, 1.0, 0.5, 0.0]

    The decay lowers the end of each time too. If it has a floor to keep, write
    ``floor + Repeat(schedule - floor, times, decay)``; where only the start decays, as in timm
    and in fairseq, add what decays and what does not: ``Repeat(CosineAnnealing(start), times,
    decay) + Repeat(CosineAnnealing(0.0, floor), times)``.

    As timm's cycles and Hugging Face's ``cosine_with_restarts``.
    """

    schedule: Nested
    times: Positive
    decay: Real = 1.0
    growth: Positive = 1.0

    monotone_pieces = True

    def check_together(self) -> None:
        """Check that each time takes a part of the run that can be told from the next."""
        most = 1_000_000 if self.growth == 1 else MOST_CYCLES
        if self.times > most:
            rule = f"at most {most:,}" + (" if times grow" if self.growth != 1 else "")
            checks.fail("times of Repeat", rule, self.times, "Repeat it less often.")
        spans = [end - begin for begin, end in pairwise((0.0, *self._ends))]
        if min(spans) < HOST_TOLERANCE:
            rule = f"such that each time takes at least {HOST_TOLERANCE:g} of the run"
            checks.fail("growth of Repeat", rule, self.growth, "Repeat it less often.")

    @cached_property
    def _ends(self) -> tuple[float, ...]:
        """Where the times end if they differ; the last one at the end of the run, or after it."""
        if self.growth == 1:
            return (1 / self.times,)
        return growing_spans(self.times, self.growth)

    def value_at(self, progress: P) -> P:
        """Return decay^i schedule(x)."""
        schedule: Any = self.schedule
        ends = self._ends
        i, x = equal_spans(progress, ends[0]) if self.growth == 1 else span_of(progress, ends)
        return self.decay**i * schedule.value_at(x)  # type: ignore[no-any-return]

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        schedule: Any = self.schedule
        within = (0.0, *schedule.edges)
        if self.growth == 1:
            starts = [0, *inner_spans(math.ceil(self.times - HOST_TOLERANCE))]
            return inner([(i + edge) / self.times for i in starts for edge in within])
        spans = pairwise((0.0, *self._ends))
        return inner([begin + (end - begin) * edge for begin, end in spans for edge in within])


class Reversed(Schedule):
    r"""Run a schedule backwards.

    .. math:: v(p) = v_{schedule}(1 - p)

    The value is the schedule's last one at progress 0, and its first one at 1 and
    after it.

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
    r"""Run a part of a schedule: what it is between two points of its own progress.

    .. math:: v(p) = v_{schedule}(b + (e - b)\, p)

    Args:
        schedule: A scalar, an expression of scalars, or a number.
        end: The progress e of the schedule at the end of the run, above 0 and up to 1. Below
            1 the run ends before the schedule does. Default: ``1.0``.
        begin: The progress b of the schedule at progress 0, from 0 to ``end``.
            Default: ``0.0``.

    Raises:
        ValueError: ``end`` or ``begin`` is not in its range.
        TypeError: ``schedule`` is neither a scalar nor a number, or another argument is no
            number.

    Example:
        >>> from scalars import Linear, Truncated
        >>> [Truncated(Linear(1.0, 0.0), end=0.5).at(p) for p in (0, 0.5, 1)]
        [1.0, 0.75, 0.5]
        >>> [Truncated(Linear(1.0, 0.0), begin=0.5).at(p) for p in (0, 0.5, 1)]
        [0.5, 0.25, 0.0]

    A ``cosine_decay`` of MLX over N steps, in a run of T steps that ends before:
    ``Truncated(CosineAnnealing(start), end=T / N)``.
    """

    schedule: Nested
    end: Annotated[float, checks.span] = 1.0
    begin: Fraction = 0.0

    monotone_pieces = True

    def check_together(self) -> None:
        """Check that the part does not run backwards."""
        if self.begin > self.end:
            way_out = "Reversed(Truncated(...)) runs backwards."
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
    r"""Hold a schedule between equal distances, as if stepped once per epoch.

    .. math:: v(p) = v_{schedule}(d \lfloor p / d \rfloor)

    The value changes exactly at each multiple of ``every``, at progress 1 too if it is one;
    then it stays. ``Staircase(schedule, horizon.fraction(epochs=1))`` is the schedule as if it
    were stepped at the end of each epoch.

    Args:
        schedule: A scalar, an expression of scalars, or a number.
        every: The distance d between two changes, a fraction of the run from 1e-6 to 1.

    Raises:
        ValueError: ``every`` is out of its range.
        TypeError: ``schedule`` is neither a scalar nor a number, or ``every`` is no number.

    Example:
        >>> from scalars import Linear, Staircase
        >>> lr = Staircase(Linear(1.0, 0.0), every=0.25)
        >>> [lr.at(p) for p in (0, 0.2, 0.25, 0.7, 0.75, 0.99, 1)]
        [1.0, 1.0, 0.75, 0.5, 0.25, 0.25, 0.0]

    PyTorch's schedulers, stepped after each epoch; ``staircase=True`` in Keras and DeepSpeed.
    """

    schedule: Nested
    every: Annotated[float, checks.span]

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return schedule(every floor(p / every))."""
        schedule: Any = self.schedule
        return schedule.value_at(minimum(self.every * reached(progress, self.every), 1.0))  # type: ignore[no-any-return]

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        schedule: Any = self.schedule
        count = int(1 / self.every + HOST_TOLERANCE)
        changes = [*inner_spans(count + 1)]
        # Of many steps, those after which what is below turns.
        changes += [math.ceil(edge / self.every - HOST_TOLERANCE) for edge in schedule.edges]
        return inner([i * self.every for i in changes])


class Warp(Schedule):
    r"""Run a schedule on a clock that is slow at first (a power above 1) or fast.

    .. math:: v(p) = v_{schedule}(p^k)

    The ends are those of the schedule.

    Args:
        schedule: A scalar, an expression of scalars, or a number.
        power: The exponent k, above 0.

    Raises:
        ValueError: ``power`` is not a finite number above 0.
        TypeError: ``schedule`` is neither a scalar nor a number, or ``power`` no number.

    Example:
        >>> from scalars import Linear, Warp
        >>> [Warp(Linear(1.0, 0.0), power=2).at(p) for p in (0, 0.5, 1)]
        [1.0, 0.75, 0.0]

    timm's k-decay: Zhang, T. and Li, W., 2020. kDecay: Just adding k-decay items on
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
