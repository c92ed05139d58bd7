"""Schedules that move once from a first value to a last one."""

from __future__ import annotations

import math
from typing import Annotated

from .. import checks
from ..checks import Positive, Real
from ..functions import P, cos, power, sqrt
from .base import Schedule
from .curves import geometric, mix
from .spans import HOST_TOLERANCE, inner, inner_spans, stretched


class Constant(Schedule):
    r"""Keep one value, for code that expects a schedule.

    .. math:: v(p) = c

    Args:
        value: The value at any progress.

    Raises:
        ValueError: ``value`` is infinite or NaN.
        TypeError: ``value`` is not a real number.

    Example:
        >>> from scalars import Constant
        >>> lr = Constant(0.1)
        >>> float(lr), float(lr.update(1))
        (0.1, 0.1)
    """

    value: Real

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return the value."""
        return self.value + 0 * progress


class Linear(Schedule):
    r"""Move from ``start`` to ``end`` along a straight line.

    .. math:: v(p) = s + (e - s) p

    The value is ``start`` at progress 0, ``end`` at 1, and stays at ``end`` after it.

    Args:
        start: Value at progress 0.
        end: Value at progress 1; it may be above, below or equal to ``start``.

    Raises:
        ValueError: An argument is infinite or NaN.
        TypeError: An argument is not a real number.

    Example:
        >>> from scalars import Linear
        >>> temperature = Linear(1.0, 0.2)
        >>> [float(temperature.update(p)) for p in (0, 0.25, 0.5, 1, 1.5)]
        [1.0, 0.8, 0.6, 0.2, 0.2]
    """

    start: Real
    end: Real

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return start + (end - start) p."""
        return mix(self.start, self.end, progress)


class Polynomial(Schedule):
    r"""Move from ``start`` to ``end`` along a power of the remaining fraction of the run [1].

    .. math:: v(p) = e + (s - e) (1 - p)^k

    The value is ``start`` at progress 0, ``end`` at 1, and stays at ``end`` after it.

    Args:
        start: Value at progress 0.
        end: Value at progress 1.
        power: The exponent k, above 0. 1 gives a straight line; a larger exponent moves
            the change towards the start. Default: ``2.0``.
        cycle: The progress c at which the value first reaches ``end``, from 1e-6 to 1. After
            c the value continues as if the decay took 2c, after 2c as if it took 3c: p in the
            formula becomes :math:`p / (c \lceil p / c \rceil)`. Default: ``1.0``.

    Raises:
        ValueError: An argument is infinite, NaN or out of its range.
        TypeError: An argument is not a real number.

    Example:
        >>> from scalars import Polynomial
        >>> lr = Polynomial(1.0, 0.0, power=2)
        >>> [float(lr.update(p)) for p in (0, 0.25, 0.5, 1, 1.5)]
        [1.0, 0.5625, 0.25, 0.0, 0.0]
        >>> lr = Polynomial(1.0, 0.0, power=1, cycle=0.5)
        >>> [float(lr.update(p)) for p in (0, 0.25, 0.5, 0.6, 0.8, 1)]
        [1.0, 0.5, 0.0, 0.4, 0.2, 0.0]

    ``cycle`` corresponds to ``cycle=True`` in Keras, TensorFlow, PaddlePaddle and NeMo: the value
    is ``end`` exactly at the end of a cycle, and jumps after it.

    [1]: Chen, L.-C. et al., 2017. DeepLab: Semantic image segmentation with deep
    convolutional nets, atrous convolution, and fully connected CRFs. TPAMI.
    """

    start: Real
    end: Real
    power: Positive = 2.0
    cycle: Annotated[float, checks.span] = 1.0

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return end + (start - end) (1 - p)^power, with p stretched after the first cycle."""
        done = progress if self.cycle == 1 else stretched(progress, self.cycle)
        return mix(self.end, self.start, power(1 - done, self.power))

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        count = math.ceil(1 / self.cycle - HOST_TOLERANCE)
        return inner([i * self.cycle for i in inner_spans(count)])


class CosineAnnealing(Schedule):
    r"""Anneal from ``start`` to ``end`` along half a cosine [1].

    .. math:: v(p) = e + (s - e) \left(\frac{1 + \cos \pi p}{2}\right)^k

    The value is ``start`` at progress 0, ``end`` at 1, and stays at ``end`` after it.

    Args:
        start: Value at progress 0.
        end: Value at progress 1. Default: ``0.0``.
        power: The exponent k, above 0; 1 is the plain cosine. Default: ``1.0``.

    Raises:
        ValueError: An argument is infinite or NaN, or ``power`` is not above 0.
        TypeError: An argument is not a real number.

    Example:
        >>> from scalars import CosineAnnealing
        >>> lr = CosineAnnealing(0.1, end=0.01)
        >>> [float(lr.update(p)) for p in (0, 0.25, 0.5, 1, 1.5)]
        [0.1, 0.0868, 0.055, 0.01, 0.01]
        >>> lr
        CosineAnnealing(start=0.1, end=0.01)

    [1]: Loshchilov, I. and Hutter, F., 2017. SGDR: Stochastic gradient descent with
    warm restarts. ICLR 2017. The exponent is that of optax's ``cosine_decay_schedule``.
    """

    start: Real
    end: Real = 0.0
    power: Positive = 1.0

    monotone_pieces = True

    def check_together(self) -> None:
        """Warn if the end looks like a number of steps."""
        call = "CosineAnnealing(start, end)"
        checks.not_steps("end of CosineAnnealing", self.end, self.start, call)

    def value_at(self, progress: P) -> P:
        """Return end + (start - end) ((1 + cos(pi p)) / 2)^power."""
        fall = (1 + cos(math.pi * progress)) / 2
        return mix(self.end, self.start, fall if self.power == 1 else power(fall, self.power))


class Exponential(Schedule):
    r"""Move from ``start`` to ``end`` by equal factors in equal times.

    .. math:: v(p) = s \left(\frac{e}{s}\right)^p

    The value is ``start`` at progress 0, ``end`` at 1, and stays at ``end`` after it.

    Args:
        start: Value at progress 0, not 0.
        end: Value at progress 1, not 0, with the sign of ``start``.

    Raises:
        ValueError: An argument is 0, infinite or NaN, the signs differ, or ``end / start`` is
            too large or too small for a float.
        TypeError: An argument is not a real number.

    Example:
        >>> from scalars import Exponential
        >>> lr = Exponential(1.0, 0.01)
        >>> [float(lr.update(p)) for p in (0, 0.5, 1, 1.5)]
        [1.0, 0.1, 0.01, 0.01]

    The same formula as fast.ai's ``SchedExp``. PyTorch's ``ExponentialLR(gamma)`` over T steps
    ends at ``start * gamma**T``; if that is too small for a float, write
    ``start * gamma ** Linear(0, T)``.
    """

    start: Real
    end: Real

    def check_together(self) -> None:
        """Check that ``end / start`` exists, is positive and is in the range of floats."""
        for name in ("start", "end"):
            if getattr(self, name) == 0:
                way_out = "Pass a small number such as 1e-8, or use Linear."
                checks.fail(f"{name} of Exponential", "other than 0", 0, way_out)
        if (self.start > 0) != (self.end > 0):
            rule = f"of the same sign as start, {self.start!r}"
            checks.fail("end of Exponential", rule, self.end, "Use Linear to cross 0.")
        if not 0 < (ratio := self.end / self.start) < math.inf:
            way_out = "Choose a start and an end that are closer to each other."
            checks.fail("end / start of Exponential", "in the range of floats", ratio, way_out)

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return start (end / start)^p."""
        return geometric(self.start, self.end, progress)


timescale = checks.bounded(
    "a finite real number above 0",
    lambda x: x > 0,
    "Pass the length of the warm-up, or that of 10,000 steps, as a fraction of the run.",
)


class InverseSqrt(Schedule):
    r"""Decay with the inverse square root of the progress [1].

    .. math:: v(p) = \frac{s}{\sqrt{1 + p / \tau}}

    The value is ``start`` at progress 0 and half of it at ``3 * timescale``. After
    progress 1 it stays that at 1.

    Args:
        start: Value at progress 0.
        timescale: The time :math:`\tau` at which the decay sets in, a fraction of the run
            above 0; it may be above 1. It is often the length of the warm-up, or without a
            warm-up that of 10,000 steps, as in transformers.

    Raises:
        ValueError: An argument is infinite or NaN, or ``timescale`` is not above 0.
        TypeError: An argument is not a real number.

    Example:
        >>> from scalars import InverseSqrt
        >>> lr = InverseSqrt(1.0, timescale=0.25)
        >>> [float(lr.update(p)) for p in (0, 0.75, 1, 1.5)]
        [1.0, 0.5, 0.4472, 0.4472]

    [1]: Vaswani, A. et al., 2017. Attention is all you need. NeurIPS 2017. The formula has the
    form of Hugging Face's ``get_inverse_sqrt_schedule`` and timm's ``rsqrt``.
    """

    start: Real
    timescale: Annotated[float, timescale]

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return start / sqrt(1 + p / timescale)."""
        return self.start / sqrt(1 + progress / self.timescale)


class InverseTime(Schedule):
    r"""Decay with the inverse of the progress.

    .. math:: v(p) = \frac{s}{1 + r p}

    The value is ``start`` at progress 0. After progress 1 it stays that at 1.

    Args:
        start: Value at progress 0.
        rate: The rate r, above -1. The value at progress 1 is ``start / (1 + rate)``.

    Raises:
        ValueError: An argument is infinite or NaN, or ``rate`` is not above -1.
        TypeError: An argument is not a real number.

    Example:
        >>> from scalars import InverseTime
        >>> lr = InverseTime(1.0, rate=3.0)
        >>> [float(lr.update(p)) for p in (0, 1 / 3, 1, 1.5)]
        [1.0, 0.5, 0.25, 0.25]

    The same as Keras's ``InverseTimeDecay`` and thinc's ``decaying``.
    """

    start: Real
    rate: Real

    def check_together(self) -> None:
        """Check that the divisor is above 0 during the whole run."""
        if self.rate <= -1:
            way_out = "Pass a number such as 3.0."
            checks.fail("rate of InverseTime", "above -1", self.rate, way_out)

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return start / (1 + rate p)."""
        return self.start / (1 + self.rate * progress)


class Tanh(Schedule):
    r"""Decay along a hyperbolic tangent, which is flat, then steep, then flat [1].

    .. math:: v(p) = e + \frac{1}{2} (s - e) (1 - \tanh(l (1 - p) + u p))

    The value is close to ``start`` at progress 0 and close to ``end`` at 1: with the defaults
    within 1e-6 and 0.25 % of the difference. After progress 1 it stays that at 1.

    Args:
        start: The limit of the curve that the value is close to at progress 0.
        end: The limit of the curve that the value is close to at progress 1.
            Default: ``0.0``.
        lower: The argument l of the tangent at progress 0. Default: ``-7.0``.
        upper: The argument u of the tangent at progress 1. Default: ``3.0``.

    Raises:
        ValueError: An argument is infinite or NaN.
        TypeError: An argument is not a real number.

    Example:
        >>> from scalars import Tanh
        >>> lr = Tanh(1.0)
        >>> [float(lr.update(p)) for p in (0, 0.7, 1, 1.5)]
        [1.0, 0.5, 0.00247, 0.00247]

    [1]: Hsueh, B. et al., 2019. Stochastic gradient descent with hyperbolic-tangent decay
    on classification. WACV 2019.
    """

    start: Real
    end: Real = 0.0
    lower: Real = -7.0
    upper: Real = 3.0

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return end + (start - end) (1 - tanh(z)) / 2, which is 1 / (1 + e^2z)."""
        z = self.lower * (1 - progress) + self.upper * progress
        fall: P = 1 / (1 + math.exp(2) ** z)
        return mix(self.end, self.start, fall)


class Rex(Schedule):
    r"""Decay slowly at first and steeply at the end: reflected exponential [1].

    .. math:: v(p) = e + (s - e) \frac{1 - p}{1 - p / 2}

    The value is ``start`` at progress 0, ``end`` at 1, and stays at ``end`` after it.

    Args:
        start: Value at progress 0.
        end: Value at progress 1. Default: ``0.0``.

    Raises:
        ValueError: An argument is infinite or NaN.
        TypeError: An argument is not a real number.

    Example:
        >>> from scalars import Rex
        >>> lr = Rex(1.0)
        >>> [float(lr.update(p)) for p in (0, 0.5, 1, 1.5)]
        [1.0, 0.667, 0.0, 0.0]

    [1]: Chen, J., Wolfe, C. and Kyrillidis, A., 2022. REX: Revisiting budgeted training
    with an improved schedule. MLSys 2022.
    """

    start: Real
    end: Real = 0.0

    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return end + (start - end) (1 - p) / (1 - p / 2)."""
        return mix(self.end, self.start, (1 - progress) / (1 - progress / 2))
