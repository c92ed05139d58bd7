"""Functions of scalars that have no operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Union, cast, overload

import mlx.core as mx

from . import checks
from .number.operations import OPERATIONS
from .number.scalar import Expression, ScheduledScalar, is_number

if TYPE_CHECKING:
    from typing import Protocol

    import numpy as np

    class _Elementary(Protocol):
        @overload
        def __call__(self, x: ScheduledScalar) -> Expression: ...
        @overload
        def __call__(self, x: float) -> float: ...
        @overload
        def __call__(self, x: mx.array) -> mx.array: ...
        @overload
        def __call__(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]: ...


Array = TypeVar("Array", bound="mx.array | np.ndarray[Any, Any]")


def _operand(name: str, value: Any) -> Any:
    """Check that a function has a value for ``value``: a number, a scalar or an array."""
    if isinstance(value, (mx.array, ScheduledScalar)) or hasattr(value, "__array_ufunc__"):
        return value
    if not is_number(value):
        rule = "given numbers, scalars or an mx.array"
        checks.fail(name, rule, value, checks.A_NUMBER, wrong_type=True)
    return value if isinstance(value, int) else float(value)


def _function(name: str, a: Any, b: Any) -> Any:
    operation, a, b = OPERATIONS[name], _operand(name, a), _operand(name, b)
    for one, other in ((a, b), (b, a)):
        if isinstance(one, ScheduledScalar):
            if isinstance(other, mx.array):
                return operation.function(one._beside(other), other)
            return (
                Expression(operation, a, b)
                if is_number(other)
                else operation.function(float(one), other)
            )
    return operation.function(a, b)


@overload
def minimum(a: ScheduledScalar, b: ScheduledScalar | float) -> Expression: ...
@overload
def minimum(a: float, b: ScheduledScalar) -> Expression: ...
@overload
def minimum(a: float, b: float) -> float: ...
@overload
def minimum(a: Array, b: ScheduledScalar | Array | float) -> Array: ...
@overload
def minimum(a: ScheduledScalar | float, b: Array) -> Array: ...
def minimum(a: Any, b: Any) -> Any:
    """Return a live scalar: the smaller of ``a`` and ``b`` at any time.

    Args:
        a: A scalar or a number; or an ``mx.array``, for an array. Without a scalar the
            result is a number, or an array of MLX or NumPy: the function serves formulas.
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
def maximum(a: ScheduledScalar, b: ScheduledScalar | float) -> Expression: ...
@overload
def maximum(a: float, b: ScheduledScalar) -> Expression: ...
@overload
def maximum(a: float, b: float) -> float: ...
@overload
def maximum(a: Array, b: ScheduledScalar | Array | float) -> Array: ...
@overload
def maximum(a: ScheduledScalar | float, b: Array) -> Array: ...
def maximum(a: Any, b: Any) -> Any:
    """Return a live scalar: the larger of ``a`` and ``b`` at any time.

    Args:
        a: A scalar or a number; or an ``mx.array``, for an array. Without a scalar the
            result is a number, or an array of MLX or NumPy: the function serves formulas.
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


Bound: TypeAlias = Union[ScheduledScalar, float, None]  # noqa: UP007 - evaluated at run time


@overload
def clip(scalar: ScheduledScalar, low: Bound = None, high: Bound = None) -> ScheduledScalar: ...
@overload
def clip(scalar: float, low: float | None = None, high: float | None = None) -> float: ...
@overload
def clip(scalar: Array, low: float | None = None, high: float | None = None) -> Array: ...
def clip(scalar: Any, low: Any = None, high: Any = None) -> Any:
    """Return a live scalar: ``scalar``, kept between ``low`` and ``high``.

    Args:
        scalar: The scalar to keep in bounds; in a formula a number or an array.
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


def _elementary(name: str, what: str, raises: str, example: str, values: str) -> _Elementary:
    operation = OPERATIONS[name]

    def function(x: Any) -> Any:
        x = _operand(name, x)
        return Expression(operation, x) if isinstance(x, ScheduledScalar) else operation.function(x)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""Return a live scalar: {what} of ``x`` at any time.

    The same function serves a formula, in ``value_at`` of a schedule of your own and in a
    ``LambdaValue``: of a number it gives a number, and of an array of NumPy or MLX an array.

    Args:
        x: A scalar, a number, a NumPy array or an ``mx.array``.

    Raises:
        ValueError: {raises}.
        TypeError: ``x`` is something else.

    Example:
        >>> from scalars import {name}, Linear
        >>> [round({example}.at(p), 4) for p in (0, 0.5, 1)]
        {values}
    """
    return cast("_Elementary", function)


FINITE = "``x`` is infinite, or so large somewhere in the run that the result is"
exp = _elementary("exp", "e to the power", FINITE, "exp(Linear(0, -2))", "[1.0, 0.3679, 0.1353]")
log = _elementary(
    "log",
    "the natural logarithm",
    "``x`` is not above 0 somewhere in the run",
    "log(Linear(1, 10))",
    "[0.0, 1.7047, 2.3026]",
)
sqrt = _elementary(
    "sqrt",
    "the square root",
    "``x`` is below 0 somewhere in the run",
    "sqrt(Linear(0, 4))",
    "[0.0, 1.4142, 2.0]",
)
sin = _elementary("sin", "the sine", FINITE, "sin(Linear(0, 2))", "[0.0, 0.8415, 0.9093]")
cos = _elementary("cos", "the cosine", FINITE, "cos(Linear(0, 2))", "[1.0, 0.5403, -0.4161]")
tanh = _elementary(
    "tanh", "the hyperbolic tangent", FINITE, "tanh(Linear(-1, 1))", "[-0.7616, 0.0, 0.7616]"
)
floor = _elementary(
    "floor",
    "the largest whole number up to that",
    "``x`` is infinite",
    "floor(Linear(0, 3))",
    "[0.0, 1.0, 3.0]",
)
