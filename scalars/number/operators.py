"""The one table of operations, and the operators of a scalar made from it."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import mlx.core as mx

from . import functions

if TYPE_CHECKING:
    from typing import Protocol, overload

    from .expression import Expression
    from .scalar import ScheduledScalar

    class _BinaryMethod(Protocol):
        @overload
        def __call__(self, other: float | ScheduledScalar, /) -> Expression: ...
        @overload
        def __call__(self, other: mx.array, /) -> mx.array: ...

    class _Binary(Protocol):
        def __get__(self, scalar: Arithmetic, owner: type[Arithmetic], /) -> _BinaryMethod: ...

    class _ComparisonMethod(Protocol):
        @overload
        def __call__(self, other: float | ScheduledScalar, /) -> bool: ...
        @overload
        def __call__(self, other: mx.array, /) -> mx.array: ...

    class _Comparison(Protocol):
        def __get__(self, scalar: Arithmetic, owner: type[Arithmetic], /) -> _ComparisonMethod: ...


class Operation(NamedTuple):
    """A named function of one or two numbers: floats, NumPy arrays or ``mx.array``.

    The name is the one that both MLX and NumPy use.
    """

    name: str
    symbol: str
    function: Callable[..., Any]
    exact_remainder: bool = False
    """Whether it distributes over a sum of a value and what its rounding left over."""

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


def _binary(name: str) -> _Binary:
    operation = OPERATIONS[name]
    function = operation.function

    def method(self: Arithmetic, other: Any) -> Any:
        if isinstance(other, mx.array):
            return function(self._beside(other), other)
        return self._node(operation, self, other) if is_number(other) else NotImplemented

    method.__name__, method.__qualname__ = name, f"Arithmetic.{name}"
    return cast("_Binary", method)


def _reflected(name: str) -> _Binary:
    operation = OPERATIONS[name]

    def method(self: Arithmetic, other: Any) -> Any:
        return self._node(operation, other, self) if is_number(other) else NotImplemented

    method.__name__, method.__qualname__ = name, f"Arithmetic.{name}"
    return cast("_Binary", method)


def _comparison(compare: Callable[[Any, Any], Any]) -> _Comparison:
    def method(self: Arithmetic, other: Any) -> Any:
        if isinstance(other, mx.array):
            return compare(self._beside(other), other)
        return self._compare(compare, other) if is_number(other) else NotImplemented

    method.__name__ = method.__qualname__ = compare.__name__
    return cast("_Comparison", method)


def is_number(value: Any) -> bool:
    """Return whether ``value`` can be an operand: a real number or a scalar."""
    return isinstance(value, (float, int, Arithmetic, Real))


class Arithmetic(ABC):
    """Python's operators: a scalar with a number is a live scalar, with an array an array."""

    _node: Callable[..., Expression]
    """Makes the scalar that an operation gives: ``expression.py`` fills it in."""

    @abstractmethod
    def _beside(self, array: mx.array) -> float | mx.array:
        """Return what stands for the value in an operation with ``array``."""

    @abstractmethod
    def _compare(self, compare: Callable[[Any, Any], bool], other: Any) -> bool:
        """Return the answer of a comparison with a number or a scalar."""

    __add__ = _binary("add")
    __sub__ = _binary("subtract")
    __mul__ = _binary("multiply")
    __truediv__ = _binary("divide")
    __floordiv__ = _binary("floor_divide")
    __mod__ = _binary("remainder")
    __pow__ = _binary("power")

    __radd__ = _reflected("add")
    __rsub__ = _reflected("subtract")
    __rmul__ = _reflected("multiply")
    __rtruediv__ = _reflected("divide")
    __rfloordiv__ = _reflected("floor_divide")
    __rmod__ = _reflected("remainder")
    __rpow__ = _reflected("power")

    __lt__ = _comparison(operator.lt)
    __le__ = _comparison(operator.le)
    __gt__ = _comparison(operator.gt)
    __ge__ = _comparison(operator.ge)
    __eq__ = _comparison(operator.eq)  # type: ignore[assignment]
    __ne__ = _comparison(operator.ne)  # type: ignore[assignment]
    # Equal values, different objects: as with mx.array the hash is the identity.
    __hash__ = object.__hash__

    def __neg__(self) -> Expression:
        """Return the scalar with its sign changed."""
        return self._node(OPERATIONS["negative"], self)

    def __pos__(self) -> Arithmetic:
        """Return the scalar itself."""
        return self

    def __abs__(self) -> Expression:
        """Return the scalar without its sign."""
        return self._node(OPERATIONS["absolute"], self)

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        """Return the floored quotient and the remainder."""
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Any, Any]:
        """Return the floored quotient and the remainder, operands swapped."""
        return other // self, other % self
