"""Schedules that move once, from a first value to a last one."""

from __future__ import annotations

import math

from ..number import checks
from ..number.checks import Positive, Real
from ..number.functions import P, cos, power
from .base import Schedule
from .curves import geometric, mix


class Constant(Schedule):
    r"""Keep one value: a schedule where code expects one.

    .. math:: v(p) = c

    Args:
        value: The value, at any progress.

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
        >>> [float(temperature.update(p)) for p in (0, 0.25, 0.5, 1, 2)]
        [1.0, 0.8, 0.6, 0.2, 0.2]
    """

    start: Real
    end: Real

    def value_at(self, progress: P) -> P:
        """Return start + (end - start) p."""
        return mix(self.start, self.end, progress)


class Polynomial(Schedule):
    r"""Move from ``start`` to ``end`` along a power of what remains of the run [1].

    .. math:: v(p) = e + (s - e) (1 - p)^k

    The value is ``start`` at progress 0, ``end`` at 1, and stays at ``end`` after it.

    Args:
        start: Value at progress 0.
        end: Value at progress 1.
        power: The exponent k, above 0: 1 is a straight line; the larger, the
            earlier the fall. Default: ``2.0``.

    Raises:
        ValueError: An argument is infinite or NaN, or ``power`` is not above 0.
        TypeError: An argument is not a real number.

    Example:
        >>> from scalars import Polynomial
        >>> lr = Polynomial(1.0, 0.0, power=2)
        >>> [float(lr.update(p)) for p in (0, 0.25, 0.5, 1, 2)]
        [1.0, 0.5625, 0.25, 0.0, 0.0]

    [1]: Chen, L.-C. et al., 2017. DeepLab: Semantic image segmentation with deep
    convolutional nets, atrous convolution, and fully connected CRFs. TPAMI.
    """

    start: Real
    end: Real
    power: Positive = 2.0

    def value_at(self, progress: P) -> P:
        """Return end + (start - end) (1 - p)^power."""
        return mix(self.end, self.start, power(1 - progress, self.power))


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
        >>> [float(lr.update(p)) for p in (0, 0.25, 0.5, 1, 2)]
        [0.1, 0.0868, 0.055, 0.01, 0.01]
        >>> lr
        CosineAnnealing(start=0.1, end=0.01)

    [1]: Loshchilov, I. and Hutter, F., 2017. SGDR: Stochastic gradient descent with
    warm restarts. ICLR 2017. The exponent is that of optax's ``cosine_decay_schedule``.
    """

    start: Real
    end: Real = 0.0
    power: Positive = 1.0

    def value_at(self, progress: P) -> P:
        """Return end + (start - end) ((1 + cos(pi p)) / 2)^power."""
        return mix(self.end, self.start, power((1 + cos(math.pi * progress)) / 2, self.power))


class Exponential(Schedule):
    r"""Move from ``start`` to ``end`` by an equal factor in equal time.

    .. math:: v(p) = s \left(\frac{e}{s}\right)^p

    The value is ``start`` at progress 0, ``end`` at 1, and stays at ``end`` after it.

    Args:
        start: Value at progress 0, not 0.
        end: Value at progress 1, not 0 and of the sign of ``start``.

    Raises:
        ValueError: An argument is 0, infinite or NaN, or the signs differ.
        TypeError: An argument is not a real number.

    Example:
        >>> from scalars import Exponential
        >>> lr = Exponential(1.0, 0.01)
        >>> [float(lr.update(p)) for p in (0, 0.5, 1, 2)]
        [1.0, 0.1, 0.01, 0.01]

    The formula is that of fast.ai's ``SchedExp``; PyTorch's ``ExponentialLR(gamma)``
    over T steps ends at ``start * gamma**T``.
    """

    start: Real
    end: Real

    def check_together(self) -> None:
        """Check that the factor from one end to the other is positive."""
        for name in ("start", "end"):
            if getattr(self, name) == 0:
                way_out = "Pass a small number such as 1e-8, or use Linear."
                checks.fail(f"{name} of Exponential", "not 0: no factor reaches it", 0, way_out)
        if (self.start > 0) != (self.end > 0):
            way_out = "Use Linear to go through 0."
            checks.fail(
                "end of Exponential", f"of the sign of start, {self.start!r}", self.end, way_out
            )

    def value_at(self, progress: P) -> P:
        """Return start (end / start)^p."""
        return geometric(self.start, self.end, progress)
