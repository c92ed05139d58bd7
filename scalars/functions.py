"""Elementary functions of a Python float, a NumPy array or an ``mx.array``.

A formula written with them works for all three: in double precision on the host,
vectorized over NumPy arrays, and traceable inside a compiled MLX graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import mlx.core as mx

from . import checks

if TYPE_CHECKING:
    import numpy as np

P = TypeVar("P", float, "np.ndarray[Any, Any]", mx.array)
"""The type of a progress, and of the value there."""

HOST = (float, int)
BLOCK = 1 << 14


def library(*values: Any) -> Any:
    """Return the module, ``mlx.core`` or NumPy, whose arrays are among ``values``."""
    if any(isinstance(value, mx.array) for value in values):
        return mx
    import numpy  # installed, as one of the values is a NumPy array

    return numpy


def _elementary(
    name: str, on_host: Callable[..., float], rule: str = "a finite number"
) -> Callable[[P], P]:
    def function(x: Any) -> Any:
        if type(x) is not float and not isinstance(x, HOST):
            return getattr(library(x), name)(x)
        try:
            return on_host(x)
        except ValueError:
            return checks.fail(f"the argument of {name}", rule, x, checks.A_NUMBER)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Return {name}(x)."
    return function


exp = _elementary("exp", math.exp)
log = _elementary("log", math.log, "above 0")
sqrt = _elementary("sqrt", math.sqrt, "at least 0")
sin = _elementary("sin", math.sin)
cos = _elementary("cos", math.cos)
tanh = _elementary("tanh", math.tanh)
floor = _elementary("floor", math.floor)


def where(condition: Any, yes: Any, no: Any) -> Any:
    """Return ``yes`` where ``condition`` holds and ``no`` elsewhere."""
    if isinstance(condition, bool):
        return yes if condition else no
    return library(condition).where(condition, yes, no)


def minimum(a: Any, b: Any) -> Any:
    """Return the smaller of ``a`` and ``b``."""
    if isinstance(a, HOST) and isinstance(b, HOST):
        return min(a, b)
    return library(a, b).minimum(a, b)


def maximum(a: Any, b: Any) -> Any:
    """Return the larger of ``a`` and ``b``."""
    if isinstance(a, HOST) and isinstance(b, HOST):
        return max(a, b)
    return library(a, b).maximum(a, b)


def power(a: P, b: Any) -> P:
    """Return ``a ** b``; raise ``ValueError`` where Python would return a complex number."""
    result: Any = a**b
    if isinstance(result, complex):
        checks.fail(
            "the base of a power", "at least 0 for a fractional exponent", a, checks.A_NUMBER
        )
    return result  # type: ignore[no-any-return]


def power_of_scalars(a: Any, b: Any) -> Any:
    """Return ``a ** b``; in a graph a constant base keeps its double precision."""
    if isinstance(a, HOST) and a > 0 and isinstance(b, mx.array):
        return growth(a, b)
    return power(a, b)


def floor_of_scalar(x: Any) -> Any:
    """Return ``floor(x)``; a value within rounding of a whole number counts as that number."""
    return floor_divide(x, 1.0)


def floor_divide(a: Any, b: Any) -> Any:
    """Return ``a // b``; a quotient within rounding of a whole number counts as that number.

    So a count of steps written as a schedule, ``Linear(0, total) // every``, is exact.
    """
    quotient = a / b
    near, is_near = _nearest(quotient)
    if isinstance(quotient, HOST):
        return float(near if is_near else math.floor(quotient))
    module = library(quotient)
    return module.where(is_near, near, module.floor(quotient))


def remainder(a: Any, b: Any) -> Any:
    """Return ``a % b``, which is 0 where ``a / b`` is within rounding of a whole number."""
    rest = a % b
    return where(_nearest(a / b)[1], 0.0 * rest, rest)


def _nearest(quotient: Any) -> tuple[Any, Any]:
    """Return the nearest whole number, and whether ``quotient`` is within rounding of it."""
    on_host = isinstance(quotient, HOST)
    near = round(quotient) if on_host else library(quotient).round(quotient)
    tolerance = 4e-7 if isinstance(quotient, mx.array) else 1e-12
    return near, abs(quotient - near) <= tolerance * maximum(abs(quotient), 1.0)


def growth(factor: float, x: P) -> P:
    """Return ``factor ** x`` for a factor above 0, even if it is too small for float32."""
    if isinstance(x, mx.array):
        return mx.exp(math.log(factor) * x)
    return factor**x  # type: ignore[no-any-return]


def in_blocks(function: Callable[[Any], Any], x: Any) -> Any:
    """Return ``function(x)`` of a NumPy array, computed in blocks that fit the CPU cache."""
    if x.size <= BLOCK:
        return function(x)
    flat, result = x.ravel(), library(x).empty(x.size)
    for begin in range(0, x.size, BLOCK):
        result[begin : begin + BLOCK] = function(flat[begin : begin + BLOCK])
    return result.reshape(x.shape)


def broadcast(value: Any, like: P) -> P:
    """Return ``value`` in the shape of ``like``: a formula may return a constant."""
    if isinstance(like, HOST):
        return float(value)
    module = library(like)
    if isinstance(value, type(like)) and value.shape == like.shape:
        result: P = value
        return result
    return module.broadcast_to(module.array(value, dtype=like.dtype), like.shape)  # type: ignore[no-any-return]
