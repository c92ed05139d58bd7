"""Functions of scalars that have no operator."""

from __future__ import annotations

from typing import Any, overload

import mlx.core as mx

from . import checks
from .number.operations import OPERATIONS
from .number.scalar import Expression, ScheduledScalar, is_number


def _function(name: str, a: Any, b: Any) -> Any:
    operation = OPERATIONS[name]
    for one, other in ((a, b), (b, a)):
        if isinstance(one, ScheduledScalar) and isinstance(other, mx.array):
            return operation.function(one._beside(other), other)
    if not (is_number(a) and is_number(b)):
        wrong = b if is_number(a) else a
        checks.fail(
            name, "given numbers, scalars or an mx.array", wrong, checks.A_NUMBER, wrong_type=True
        )
    return Expression(operation, a, b)


@overload
def minimum(a: ScheduledScalar | float, b: ScheduledScalar | float) -> Expression: ...
@overload
def minimum(a: ScheduledScalar, b: mx.array) -> mx.array: ...
@overload
def minimum(a: mx.array, b: ScheduledScalar) -> mx.array: ...
def minimum(a: Any, b: Any) -> Any:
    """Return a live scalar: the smaller of ``a`` and ``b`` at any time.

    Args:
        a: A scalar or a number; or an ``mx.array``, for an array.
        b: The same.

    Raises:
        TypeError: An argument is something else.

    Example:
        >>> from scalars import Linear, minimum
        >>> capped = minimum(Linear(0.0, 1.0), 0.25)
        >>> [capped.at(p) for p in (0, 0.2, 0.5)]
        [0.0, 0.2, 0.25]
    """
    return _function("minimum", a, b)


@overload
def maximum(a: ScheduledScalar | float, b: ScheduledScalar | float) -> Expression: ...
@overload
def maximum(a: ScheduledScalar, b: mx.array) -> mx.array: ...
@overload
def maximum(a: mx.array, b: ScheduledScalar) -> mx.array: ...
def maximum(a: Any, b: Any) -> Any:
    """Return a live scalar: the larger of ``a`` and ``b`` at any time.

    Args:
        a: A scalar or a number; or an ``mx.array``, for an array.
        b: The same.

    Raises:
        TypeError: An argument is something else.

    Example:
        >>> from scalars import Linear, maximum
        >>> floored = maximum(Linear(1.0, 0.0), 0.25)
        >>> [floored.at(p) for p in (0, 0.5, 1)]
        [1.0, 0.5, 0.25]
    """
    return _function("maximum", a, b)


def clip(
    scalar: ScheduledScalar,
    low: ScheduledScalar | float | None = None,
    high: ScheduledScalar | float | None = None,
) -> ScheduledScalar:
    """Return a live scalar: ``scalar``, kept between ``low`` and ``high``.

    Args:
        scalar: The scalar to keep in bounds.
        low: The least value, a number or a scalar. Default: ``None``, no bound.
        high: The largest value, which wins where the two cross. Default: ``None``.

    Raises:
        TypeError: An argument is neither a scalar nor a number.

    Example:
        >>> from scalars import Linear, clip
        >>> kept = clip(Linear(0.0, 1.0), 0.2, 0.6)
        >>> [kept.at(p) for p in (0, 0.5, 1)]
        [0.2, 0.5, 0.6]
    """
    raised = scalar if low is None else maximum(scalar, low)
    return raised if high is None else minimum(raised, high)
