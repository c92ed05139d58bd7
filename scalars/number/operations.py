"""The one table of operations, on numbers of all kinds: floats, arrays, and pairs in a graph."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from . import functions
from .cell import Pair


class Operation(NamedTuple):
    """A named function of one or two numbers: floats, NumPy arrays or ``mx.array``.

    The name is the one that both MLX and NumPy use.
    """

    name: str
    symbol: str
    function: Callable[..., Any]
    exact_remainder: bool = False
    """Whether it distributes over a sum of a value and what its rounding left over."""

    def of(self, numbers: Sequence[Any]) -> Any:
        """Return the result for numbers, of which some may be a ``Pair``."""
        if Pair not in map(type, numbers):
            return self.function(*numbers)
        result = self.function(*[x.value if isinstance(x, Pair) else x for x in numbers])
        if self.exact_remainder:
            # In the graph values are float32: 1 - beta has lost digits of beta.
            rests = [x.rest if isinstance(x, Pair) else 0.0 for x in numbers]
            if any(not isinstance(rest, float) for rest in rests):
                result = result + self.function(*rests)
        return Pair(result)

    def __reduce__(self) -> tuple[Callable[[str], Operation], tuple[str]]:
        """Pickle by name."""
        return _operation, (self.name,)


def _operation(name: str) -> Operation:
    return OPERATIONS[name]


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("add", "+", operator.add, exact_remainder=True),
        Operation("subtract", "-", operator.sub, exact_remainder=True),
        Operation("multiply", "*", operator.mul),
        Operation("divide", "/", operator.truediv),
        Operation("floor_divide", "//", operator.floordiv),
        Operation("remainder", "%", operator.mod),
        Operation("power", "**", functions.power),
        Operation("negative", "-", operator.neg),
        Operation("absolute", "", operator.abs),
        Operation("minimum", "", functions.minimum),
        Operation("maximum", "", functions.maximum),
    )
}
