"""A schedule that is defined by a function of the user."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real as AnyReal
from typing import Annotated, Any

import mlx.core as mx

from .. import checks
from ..functions import HOST, P, library
from .base import Schedule


class LambdaValue(Schedule):
    r"""Compute the value with a function of the progress.

    .. math:: v(p) = f(p)

    The function is called with a progress in [0, 1]; above 1 the value stays that at 1.
    It must be pure. For ``at`` of an ``mx.array`` it must use operators or functions of this
    package, such as ``scalars.cos`` in place of ``math.cos``. These also accept floats and
    compute in double precision.

    Args:
        function: A function from a progress to a finite real number. The schedule can be
            pickled if the function is defined in a module, but not if it is a ``lambda``.

    Raises:
        TypeError: ``function`` is not callable, or returns something other than a number.
        ValueError: ``function`` returns infinity or NaN.

    Example:
        >>> from scalars import LambdaValue
        >>> wd = LambdaValue(lambda progress: (1 - progress) * 0.09 + 0.01)
        >>> [float(wd.update(p)) for p in (0, 0.5, 1, 1.5)]
        [0.1, 0.055, 0.01, 0.01]
        >>> from scalars import exp
        >>> sampling = LambdaValue(lambda progress: 4 / (4 + exp(8 * progress)))
        >>> [round(float(sampling.update(p)), 3) for p in (0, 0.5, 1)]
        [0.8, 0.068, 0.001]
    """

    function: Annotated[Callable[[Any], Any], checks.function]

    def value_at(self, progress: P) -> P:
        """Return function(p), checked to be a finite real number."""
        if isinstance(progress, HOST):
            return self._number_at(progress)
        value: Any
        if isinstance(progress, mx.array):
            value = self.function(progress)
            if not isinstance(value, (mx.array, AnyReal)):
                way_out = "Use operators and MLX functions, which accept an mx.array."
                checks.fail("function(progress)", "an mx.array", value, way_out, wrong_type=True)
            return value  # type: ignore[return-value]
        return self._numbers_at(progress, library(progress))  # type: ignore[no-any-return]

    def _numbers_at(self, progress: Any, numpy: Any) -> Any:
        """Return the values at a NumPy array, with one call if it agrees with calls on floats."""
        flat = progress.ravel()
        some = slice(None, None, max(1, flat.size // 4))
        expected = numpy.array([self._number_at(p) for p in flat[some].tolist()])
        try:
            with numpy.errstate(all="ignore"):
                given = self.function(progress)
            close = 1e-6 if isinstance(given, mx.array) else 1e-14
            values = numpy.asarray(given, dtype=numpy.float64)
            fits = values.shape == progress.shape and numpy.isfinite(values).all()
            if fits and numpy.allclose(values.ravel()[some], expected, rtol=close, atol=0):
                return values
        except Exception:
            pass
        return numpy.array([self._number_at(p) for p in flat.tolist()]).reshape(progress.shape)

    def _number_at(self, progress: float) -> float:
        value = self.function(progress)
        if type(value) is float and math.isfinite(value):  # the fast path of updates
            return value
        name = "function(progress) of LambdaValue at progress"
        return checks.value(lambda: f"{name} {progress!r}", value)
