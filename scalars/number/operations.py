"""The table of operations on numbers: floats, arrays, and pairs in a graph."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import mlx.core as mx

from .. import functions
from .cell import Pair


class Operation(NamedTuple):
    """A named function of one or two numbers: floats, NumPy arrays or ``mx.array``.

    The name is the one that both MLX and NumPy use.
    """

    name: str
    symbol: str
    function: Callable[..., Any]
    exact_remainder: bool = False
    """Whether the remainder of the result is the function of the remainders of the operands."""
    partial: bool = False
    """Whether it is undefined or infinite for some numbers."""
    of_scalars: Callable[..., Any] | None = None
    """The function for expressions of scalars, if it differs from that for arrays."""
    operands: int = 2
    increasing: bool = False
    """Whether it increases with its one operand, where it is defined."""
    wave: bool = False
    """Whether it oscillates between -1 and 1."""
    dtype: mx.Dtype | None = None
    """The dtype that MLX sees, of the operation of a view."""

    def of(self, numbers: Sequence[Any]) -> Any:
        """Return the result for numbers, some of which may be a ``Pair``."""
        function = self.of_scalars or self.function
        traced = isinstance(numbers[0], Pair) or isinstance(numbers[-1], Pair)
        if not traced or self.dtype is not None:
            return function(*numbers)
        result = function(*[x.value if isinstance(x, Pair) else x for x in numbers])
        if self.exact_remainder:
            # Values in the graph are float32, so that 1 - beta alone loses digits of beta.
            rests = [x.rest if isinstance(x, Pair) else 0.0 for x in numbers]
            if any(not isinstance(rest, float) for rest in rests):
                result = result + self.function(*rests)
        return Pair(result)

    def bounds(self, of_operands: Sequence[Any]) -> tuple[float, float]:
        """Return bounds of the result, from operands that are numbers or pairs of bounds.

        The extremes of the result are at ends of the ranges of the operands.
        """
        pairs = [x if isinstance(x, tuple) else (x, x) for x in of_operands]
        if self.wave and pairs[0][0] != pairs[0][1]:
            return -1.0, 1.0
        zero = pairs[-1][0] <= 0 <= pairs[-1][1]
        if self.name == "absolute" and zero:
            return 0.0, max(-pairs[0][0], pairs[0][1])
        simple = self.increasing or (self.name == "power" and pairs[0][0] > 0)
        if self.partial and not simple and (zero or self.name != "divide"):
            return -math.inf, math.inf
        function = self.of_scalars if self.increasing and self.of_scalars else self.function
        try:
            corners = [function(*corner) for corner in product(*pairs)]
        except (OverflowError, ValueError):
            return -math.inf, math.inf
        if any(map(math.isnan, corners)):
            return -math.inf, math.inf
        return min(corners), max(corners)

    def is_steady(self, of_operands: Sequence[Any]) -> bool:
        """Return whether the result neither jumps nor turns where its operands do not.

        A wave counts if its operand moves by at most pi, over which it turns at most once.
        """
        low, high = of_operands[0] if isinstance(of_operands[0], tuple) else (0.0, 0.0)
        return self.name not in JUMPING and (not self.wave or high - low <= math.pi)


JUMPING = ("floor_divide", "remainder", "floor")
VIEWS = {
    str(dtype): Operation(str(dtype), f".astype({dtype})", lambda number: number, dtype=dtype)
    for dtype in (mx.float32, mx.bfloat16, mx.float16, mx.float64)
}
"""The operations of ``astype``: the number is the same, and MLX sees an array of a dtype."""
OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("add", "+", operator.add, exact_remainder=True),
        Operation("subtract", "-", operator.sub, exact_remainder=True),
        Operation("multiply", "*", operator.mul),
        Operation("divide", "/", operator.truediv, partial=True),
        Operation("floor_divide", "//", operator.floordiv, False, True, functions.floor_divide),
        Operation("remainder", "%", operator.mod, False, True, functions.remainder),
        Operation("power", "**", functions.power, False, True, functions.power_of_scalars),
        Operation("negative", "-", operator.neg, operands=1),
        Operation("absolute", "", operator.abs, operands=1),
        Operation("exp", "", functions.exp, partial=True, operands=1, increasing=True),
        Operation("log", "", functions.log, partial=True, operands=1, increasing=True),
        Operation("sqrt", "", functions.sqrt, partial=True, operands=1, increasing=True),
        Operation("sin", "", functions.sin, operands=1, wave=True),
        Operation("cos", "", functions.cos, operands=1, wave=True),
        Operation("tanh", "", functions.tanh, operands=1, increasing=True),
        Operation("floor", "", functions.floor, False, False, functions.floor_of_scalar, 1, True),
        Operation("minimum", "", functions.minimum),
        Operation("maximum", "", functions.maximum),
    )
}
