"""Named curves from one value to another."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

import mlx.core as mx

from .. import checks
from ..functions import P, cos, growth, sqrt, where

RISES: dict[str, Callable[[Any], Any]] = {
    "linear": lambda x: x,
    "cosine": lambda x: (1 - cos(math.pi * x)) / 2,
    "one_minus_sqrt": sqrt,
    "smoothstep": lambda x: x * x * (3 - 2 * x),
    "polynomial": lambda x: 1 - (1 - x) ** 2,
    "exponential": lambda x: (1 - 0.1**x) / 0.9,
}
"""Curves from 0 to 1; "exponential" is only used if the sign changes or one value is 0."""


def curve_name(name: str, value: Any) -> str:
    """Check that ``value`` is the name of a curve."""
    return checks.one_of(name, value, RISES)


CurveName = Annotated[str, curve_name]


def mix(start: float, end: float, rise: P) -> P:
    """Return start + (end - start) rise, exact at both ends."""
    span = end - start
    if type(rise) is float:  # the fast path of updates; ``where`` also takes numbers
        return start + span * rise if rise < 0.5 else end - span * (1 - rise)
    return where(rise < 0.5, start + span * rise, end - span * (1 - rise))  # type: ignore[no-any-return]


def geometric(start: float, end: float, x: P) -> P:
    """Return start (end / start)^x, exact at both ends, except in a graph."""
    ratio = end / start
    if type(x) is float:  # the fast path of updates
        return start * ratio**x if x < 0.5 else end * ratio ** (x - 1)  # type: ignore[no-any-return]
    if isinstance(x, mx.array):
        root = growth(ratio, 0.5 * x)  # the ratio itself may be too large or small for float32
        return root * start * root
    early = x < 0.5
    return where(early, start, end) * growth(ratio, where(early, x, x - 1))  # type: ignore[no-any-return]


def along(curve: str, start: float, end: float, x: P) -> P:
    """Return the value on the curve from ``start`` to ``end``, at ``x`` from 0 to 1."""
    if curve == "exponential" and start * end > 0:
        return geometric(start, end, x)
    rise: P = RISES[curve](x)
    return mix(start, end, rise)
