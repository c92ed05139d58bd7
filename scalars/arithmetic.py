"""Functions of scalars for which Python has no operator."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Union, cast, overload

import mlx.core as mx

from . import checks
from .number.operations import OPERATIONS
from .number.scalar import Expression, ScheduledScalar, is_number

Array = TypeVar("Array", bound="mx.array | np.ndarray[Any, Any]")
Plain = TypeVar("Plain", bound="float | mx.array | np.ndarray[Any, Any]")
Bound: TypeAlias = Union[ScheduledScalar, float, None]  # noqa: UP007 - evaluated at run time

if TYPE_CHECKING:
    from typing import Protocol

    import numpy as np

    class _OfOne(Protocol):
        @overload
        def __call__(self, x: ScheduledScalar) -> Expression: ...
        @overload
        def __call__(self, x: Plain) -> Plain: ...

    class _OfTwo(Protocol):
        @overload
        def __call__(self, a: ScheduledScalar, b: ScheduledScalar | float) -> Expression: ...
        @overload
        def __call__(self, a: float, b: ScheduledScalar) -> Expression: ...
        @overload
        def __call__(self, a: Array, b: ScheduledScalar | float) -> Array: ...
        @overload
        def __call__(self, a: ScheduledScalar | float, b: Array) -> Array: ...
        @overload
        def __call__(self, a: Plain, b: Plain) -> Plain: ...


def _of_one(described: Callable[[Any], Any]) -> _OfOne:
    name = described.__name__
    operation = OPERATIONS[name]

    @wraps(described)
    def function(x: Any) -> Any:
        x = checks.operand(name, x)
        if isinstance(x, ScheduledScalar):
            return Expression(operation, x)
        try:
            return operation.function(x)
        except ArithmeticError:
            rule = f"a number for which {name}(x) is finite"
            return checks.fail(f"x of {name}", rule, x, "Pass a number such as 0.5.")

    return cast("_OfOne", function)


def _of_two(described: Callable[[Any, Any], Any]) -> _OfTwo:
    name = described.__name__
    operation = OPERATIONS[name]

    @wraps(described)
    def function(a: Any, b: Any) -> Any:
        a, b = checks.operand(name, a), checks.operand(name, b)
        for one, other in ((a, b), (b, a)):
            if isinstance(one, ScheduledScalar):
                if is_number(other):
                    return Expression(operation, a, b)
                number = one._beside(other) if isinstance(other, mx.array) else float(one)
                return operation.function(number, other)
        return operation.function(a, b)

    return cast("_OfTwo", function)


@_of_two
def minimum(a: Any, b: Any) -> Any:
    """Return a live scalar: the smaller of ``a`` and ``b``.

    Args:
        a: A scalar, a number, or an array of MLX or NumPy. An array gives an array. Two
            numbers give a number, so that formulas can use the function.
        b: As ``a``.

    Raises:
        TypeError: An argument is none of these.

    Example:
        >>> from scalars import Linear, minimum
        >>> capped = minimum(Linear(0.0, 1.0), 0.25)
        >>> [capped.at(p) for p in (0, 0.2, 0.5)]
        [0.0, 0.2, 0.25]
    """


@_of_two
def maximum(a: Any, b: Any) -> Any:
    """Return a live scalar: the larger of ``a`` and ``b``.

    Args:
        a: A scalar, a number, or an array of MLX or NumPy. An array gives an array. Two
            numbers give a number, so that formulas can use the function.
        b: As ``a``.

    Raises:
        TypeError: An argument is none of these.

    Example:
        >>> from scalars import Linear, maximum
        >>> floored = maximum(Linear(1.0, 0.0), 0.25)
        >>> [floored.at(p) for p in (0, 0.5, 1)]
        [1.0, 0.5, 0.25]
    """


@overload
def clip(scalar: ScheduledScalar, low: Bound = None, high: Bound = None) -> ScheduledScalar: ...
@overload
def clip(scalar: Plain, low: float | None = None, high: float | None = None) -> Plain: ...
def clip(scalar: Any, low: Any = None, high: Any = None) -> Any:
    """Return a live scalar: ``scalar``, kept between ``low`` and ``high``.

    Args:
        scalar: The scalar to keep in bounds; in a formula, a number or an array.
        low: The least value, a number or a scalar. Default: ``None``, no bound, as -inf.
        high: The largest value, also where ``low`` is above it. Default: ``None``.

    Raises:
        TypeError: An argument is neither a scalar nor a number.

    Example:
        >>> from scalars import Linear, clip
        >>> kept = clip(Linear(0.0, 1.0), 0.2, 0.6)
        >>> [kept.at(p) for p in (0, 0.5, 1)]
        [0.2, 0.5, 0.6]
    """
    raised = scalar if low is None or _is(low, -math.inf) else maximum(scalar, low)
    return raised if high is None or _is(high, math.inf) else minimum(raised, high)


def _is(bound: Any, infinity: float) -> bool:
    return isinstance(bound, float) and bound == infinity


@_of_one
def exp(x: Any) -> Any:
    """Return a live scalar: e to the power of ``x``.

    It also serves formulas, in ``value_at`` of your own schedules and in ``LambdaValue``: a
    number gives a number, and an array of NumPy or MLX gives an array.

    Args:
        x: A scalar, a number, a NumPy array or an ``mx.array``.

    Raises:
        ValueError: The result is infinite somewhere in the run.
        TypeError: ``x`` is none of these.

    Example:
        >>> from scalars import Linear, exp
        >>> [round(exp(Linear(0, -2)).at(p), 4) for p in (0, 0.5, 1)]
        [1.0, 0.3679, 0.1353]
    """


@_of_one
def log(x: Any) -> Any:
    """Return a live scalar: the natural logarithm of ``x``.

    It also serves formulas, in ``value_at`` of your own schedules and in ``LambdaValue``: a
    number gives a number, and an array of NumPy or MLX gives an array.

    Args:
        x: A scalar, a number, a NumPy array or an ``mx.array``.

    Raises:
        ValueError: ``x`` is not above 0 somewhere in the run.
        TypeError: ``x`` is none of these.

    Example:
        >>> from scalars import Linear, log
        >>> [round(log(Linear(1, 10)).at(p), 4) for p in (0, 0.5, 1)]
        [0.0, 1.7047, 2.3026]
    """


@_of_one
def sqrt(x: Any) -> Any:
    """Return a live scalar: the square root of ``x``.

    It also serves formulas, in ``value_at`` of your own schedules and in ``LambdaValue``: a
    number gives a number, and an array of NumPy or MLX gives an array.

    Args:
        x: A scalar, a number, a NumPy array or an ``mx.array``.

    Raises:
        ValueError: ``x`` is below 0 somewhere in the run.
        TypeError: ``x`` is none of these.

    Example:
        >>> from scalars import Linear, sqrt
        >>> [round(sqrt(Linear(0, 4)).at(p), 4) for p in (0, 0.5, 1)]
        [0.0, 1.4142, 2.0]
    """


@_of_one
def sin(x: Any) -> Any:
    """Return a live scalar: the sine of ``x``.

    It also serves formulas, in ``value_at`` of your own schedules and in ``LambdaValue``: a
    number gives a number, and an array of NumPy or MLX gives an array.

    Args:
        x: A scalar, a number, a NumPy array or an ``mx.array``.

    Raises:
        ValueError: ``x`` is infinite or NaN.
        TypeError: ``x`` is none of these.

    Example:
        >>> from scalars import Linear, sin
        >>> [round(sin(Linear(0, 2)).at(p), 4) for p in (0, 0.5, 1)]
        [0.0, 0.8415, 0.9093]
    """


@_of_one
def cos(x: Any) -> Any:
    """Return a live scalar: the cosine of ``x``.

    It also serves formulas, in ``value_at`` of your own schedules and in ``LambdaValue``: a
    number gives a number, and an array of NumPy or MLX gives an array.

    Args:
        x: A scalar, a number, a NumPy array or an ``mx.array``.

    Raises:
        ValueError: ``x`` is infinite or NaN.
        TypeError: ``x`` is none of these.

    Example:
        >>> from scalars import Linear, cos
        >>> [round(cos(Linear(0, 2)).at(p), 4) for p in (0, 0.5, 1)]
        [1.0, 0.5403, -0.4161]
    """


@_of_one
def tanh(x: Any) -> Any:
    """Return a live scalar: the hyperbolic tangent of ``x``.

    It also serves formulas, in ``value_at`` of your own schedules and in ``LambdaValue``: a
    number gives a number, and an array of NumPy or MLX gives an array.

    Args:
        x: A scalar, a number, a NumPy array or an ``mx.array``.

    Raises:
        ValueError: ``x`` is infinite or NaN.
        TypeError: ``x`` is none of these.

    Example:
        >>> from scalars import Linear, tanh
        >>> [round(tanh(Linear(-1, 1)).at(p), 4) for p in (0, 0.5, 1)]
        [-0.7616, 0.0, 0.7616]
    """


@_of_one
def floor(x: Any) -> Any:
    """Return a live scalar: the largest whole number that is not above ``x``.

    It also serves formulas, in ``value_at`` of your own schedules and in ``LambdaValue``: a
    number gives a number, and an array of NumPy or MLX gives an array.

    A value of a scalar that is within rounding of a whole number counts as that number, as
    with ``//``: ``floor(Linear(0, total))`` is the step.

    Args:
        x: A scalar, a number, a NumPy array or an ``mx.array``.

    Raises:
        ValueError: ``x`` is infinite or NaN.
        TypeError: ``x`` is none of these.

    Example:
        >>> from scalars import Linear, floor
        >>> [round(floor(Linear(0, 3)).at(p), 4) for p in (0, 0.5, 1)]
        [0.0, 1.0, 3.0]
    """
