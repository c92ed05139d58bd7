"""Schedules that go up and down."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Any

from .. import checks
from ..checks import Fraction, Positive, Real
from ..functions import P, cos, growth, minimum
from .base import Schedule
from .curves import CurveName, along, mix
from .spans import (
    HOST_TOLERANCE,
    MOST_CYCLES,
    EqualSpans,
    Spans,
    inner,
    piecewise,
)

MODES = ("triangular", "triangular2", "exp_range")


def mode(name: str, value: Any) -> str:
    """Check that ``value`` is a mode of ``Cyclic``."""
    return checks.one_of(name, value, MODES)


class CosineAnnealingWarmRestarts(Schedule):
    r"""Anneal along half a cosine in each of several cycles: SGDR [1].

    .. math:: v(p) = e + \frac{1}{2} (s d^i - e) (1 + \cos \pi x)

    in cycle i, of length :math:`l m^i`, of which the fraction x is done. A cycle starts
    exactly at the end of the one before. If a cycle ends at progress 1, the value there and
    after it is ``end``.

    Args:
        start: The value at the start of the first cycle.
        end: The value at the end of each cycle. Default: ``0.0``.
        first_cycle: The length l of the first cycle, a fraction of the run from 1e-6 to 1.
            Default: ``1.0``.
        cycle_mult: The factor m from the length of a cycle to that of the next, above 0.
            Default: ``1.0``.
        decay: The factor d from the start value of a cycle to that of the next.
            Default: ``1.0``.

    Raises:
        ValueError: An argument is infinite, NaN or out of its range, or the cycles shrink
            so much that 10,000 of them do not fill the run.
        TypeError: An argument is not a real number.

    Example:
        >>> from scalars import CosineAnnealingWarmRestarts
        >>> lr = CosineAnnealingWarmRestarts(1.0, first_cycle=0.25, cycle_mult=3.0, decay=0.5)
        >>> [float(lr.update(p)) for p in (0, 0.125, 0.25, 0.625, 1)]
        [1.0, 0.5, 0.5, 0.25, 0.0]

    [1]: Loshchilov, I. and Hutter, F., 2017. SGDR: Stochastic gradient descent with warm
    restarts. ICLR 2017. ``cycle_mult`` is PyTorch's ``T_mult``; ``decay`` is timm's.
    """

    start: Real
    end: Real = 0.0
    first_cycle: Annotated[float, checks.span] = 1.0
    cycle_mult: Positive = 1.0
    decay: Real = 1.0

    monotone_pieces = True

    def check_together(self) -> None:
        """Check that the cycles fill the run."""
        if self.cycle_mult != 1 and len(self._cycles.ends()) > MOST_CYCLES:
            rule = f"so large that at most {MOST_CYCLES:,} cycles fill the run"
            way_out = "Increase cycle_mult or first_cycle."
            checks.fail("cycle_mult of CosineAnnealingWarmRestarts", rule, self.cycle_mult, way_out)

    @cached_property
    def _cycles(self) -> EqualSpans | Spans:
        if self.cycle_mult == 1:
            return EqualSpans(self.first_cycle)
        edges, length = [self.first_cycle], self.first_cycle
        while edges[-1] < 1 - HOST_TOLERANCE and len(edges) <= MOST_CYCLES:
            length *= self.cycle_mult
            edges.append(edges[-1] + length)
        return Spans(edges)

    def value_at(self, progress: P) -> P:
        """Return the value in the cycle at ``progress``."""
        i, x = self._cycles.at(progress)
        top = self.start if self.decay == 1 else self.start * self.decay**i
        return mix(self.end, top, (1 + cos(math.pi * x)) / 2)  # type: ignore[no-any-return]

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        return inner([begin for begin, _ in self._cycles.ends()])


class Cyclic(Schedule):
    r"""Move up and down between two values: cyclical learning rates [1].

    .. math:: v(p) = a + (b - a)\, c\, t(x)

    where t rises from 0 to 1 over the first part of a cycle, and falls back to 0 over the
    rest; c is 1 in mode "triangular", :math:`2^{-i}` in cycle i in "triangular2", and
    :math:`\gamma^p` in "exp_range". After progress 1 the value stays that at 1.

    Args:
        low: The value a at both ends of a cycle.
        high: The value b at the top of the first cycle.
        cycle: The length of a cycle, a fraction of the run from 1e-6 to 1.
        rise: The fraction of a cycle in which the value rises, from 0, where it jumps up,
            to 1, where it jumps down. Default: ``0.5``.
        mode: "triangular", "triangular2" or "exp_range". Default: ``"triangular"``.
        gamma: The factor over the whole run in mode "exp_range", above 0. For a factor g at
            each of T steps, pass ``g**T``. Default: ``1.0``.

    Raises:
        ValueError: An argument is infinite, NaN or out of its range, or the mode is unknown.
        TypeError: An argument is of the wrong type.

    Example:
        >>> from scalars import Cyclic
        >>> lr = Cyclic(0.0, 1.0, cycle=0.5, mode="triangular2")
        >>> [float(lr.update(p)) for p in (0, 0.25, 0.5, 0.75, 1)]
        [0.0, 1.0, 0.0, 0.5, 0.0]

    [1]: Smith, L.N., 2017. Cyclical learning rates for training neural networks. WACV
    2017. The same as PyTorch's ``CyclicLR``.
    """

    low: Real
    high: Real
    cycle: Annotated[float, checks.span]
    rise: Fraction = 0.5
    mode: Annotated[str, mode] = "triangular"
    gamma: Positive = 1.0

    @cached_property
    def _cycles(self) -> EqualSpans:
        return EqualSpans(self.cycle)

    def value_at(self, progress: P) -> P:
        """Return low + (high - low) scale triangle."""
        i, x = self._cycles.at(progress)
        up = x / self.rise if self.rise else 1.0
        down = (1 - x) / (1 - self.rise) if self.rise < 1 else 1.0
        triangle: Any = minimum(up, down)
        if self.mode == "triangular2":
            triangle = triangle * 0.5**i
        elif self.mode == "exp_range":
            triangle = triangle * growth(self.gamma, progress)
        return self.low + (self.high - self.low) * triangle  # type: ignore[no-any-return]

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        cycles = self._cycles.ends()
        return inner([edge for a, b in cycles for edge in (a, a + (b - a) * self.rise)])

    @property
    def monotone(self) -> bool:
        """Whether ``edges`` are exact: with "exp_range" the peaks may be slightly off them."""
        return self.mode != "exp_range"


class OneCycle(Schedule):
    r"""Rise to a peak, then fall far below the start: the 1cycle policy [1].

    .. math:: s \to k \quad p < w, \qquad k \to e \quad p \ge w

    along ``curve``. With three phases, the value moves :math:`s \to k`, then :math:`k \to s`
    in the same time, then :math:`s \to e` over the rest. It is ``start`` at progress 0,
    ``peak`` exactly at the end of the warm-up, and ``end`` at 1 and after it, unless the last
    phase has length 0. For a momentum, which falls and rises again, pass a ``start`` above
    ``peak``.

    Args:
        peak: The value k at the end of the warm-up.
        start: The value s at progress 0. Default: ``None``, peak / 25.
        end: The value e at progress 1. Default: ``None``, start / 10,000.
        warmup: The length w of the first phase, a fraction of the run from 0 to 1, or to
            0.5 with three phases. Default: ``0.3``.
        curve: The curve of each phase: "cosine", "linear", "one_minus_sqrt", "smoothstep",
            "polynomial" or "exponential". Default: ``"cosine"``.
        three_phase: Whether to return to ``start`` before ``end``. Default: ``False``.

    Raises:
        ValueError: An argument is infinite, NaN or out of its range, or the curve is unknown.
        TypeError: An argument is of the wrong type.

    Example:
        >>> from scalars import OneCycle
        >>> lr, momentum = OneCycle(1.0), OneCycle(0.85, start=0.95, end=0.95)
        >>> [float(lr.update(p)) for p in (0, 0.3, 1)]
        [0.04, 1.0, 4e-06]
        >>> [float(momentum.update(p)) for p in (0, 0.3, 1)]
        [0.95, 0.85, 0.95]

    [1]: Smith, L.N. and Topin, N., 2018. Super-convergence: Very fast training of neural
    networks using large learning rates. PyTorch's ``OneCycleLR`` ends at its last step:
    use ``Horizon(total, endpoint=True)`` for the same values.
    """

    peak: Real
    start: checks.OptionalReal = None
    end: checks.OptionalReal = None
    warmup: Fraction = 0.3
    curve: CurveName = "cosine"
    three_phase: Annotated[bool, checks.flag] = False

    monotone_pieces = True

    def check_together(self) -> None:
        """Check that three phases fit into the run."""
        if self.start is not None:
            call = "OneCycle(peak, start, end)"
            checks.not_steps("start of OneCycle", self.start, self.peak, call)
        if self.three_phase and self.warmup > 0.5:
            way_out = "Shorten it: the second phase is as long as the warm-up."
            checks.fail("warmup of OneCycle", "at most 0.5 in three phases", self.warmup, way_out)

    def value_at(self, progress: P) -> P:
        """Return the value on the curve of the phase at ``progress``."""
        values = self._values

        def piece(i: int, p: P) -> P:
            return along(self.curve, values[i], values[i + 1], p)

        return piecewise(progress, self._phase_ends, piece)

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        return inner(self._phase_ends)

    @cached_property
    def _values(self) -> tuple[float, ...]:
        start = self.peak / 25 if self.start is None else self.start
        end = start / 1e4 if self.end is None else self.end
        return (start, self.peak, start, end) if self.three_phase else (start, self.peak, end)

    @cached_property
    def _phase_ends(self) -> tuple[float, ...]:
        return (self.warmup, 2 * self.warmup) if self.three_phase else (self.warmup,)
