"""Live arithmetic: an expression of scalars is a scalar."""

from __future__ import annotations

from typing import Any, TypeAlias, Union, overload

import mlx.core as mx

from . import checks, functions
from .functions import HOST
from .leaf import Leaf
from .operators import OPERATIONS, Operation, is_number
from .scalar import ScheduledScalar, leaves_of

Operand: TypeAlias = Union[ScheduledScalar, float]  # noqa: UP007 - evaluated at run time


def _operand(value: Any) -> Operand:
    """Return an operand whose repr is an expression: not a Fraction or a NumPy scalar."""
    return value if isinstance(value, ScheduledScalar) else float(value)


class Expression(ScheduledScalar):
    """An operation on scalars and numbers, which follows its operands.

    It is made by arithmetic, not by hand. It holds no progress of its own: updating
    it updates its scalars, and ``at`` composes theirs.

    Example:
        >>> from scalars import Linear
        >>> beta = Linear(0.9, 0.99)
        >>> rest = 1 - beta
        >>> round(float(rest), 3), round(float(rest.update(1)), 3), float(beta)
        (0.1, 0.01, 0.99)
        >>> rest
        1 - Linear(start=0.9, end=0.99)
    """

    def __init__(self, operation: Operation, *operands: Any) -> None:
        self.operation = operation
        self.operands = tuple([x if type(x) in HOST else _operand(x) for x in operands])

    @property
    def own_dtype(self) -> mx.Dtype | None:
        """The dtype of a view among the operands."""
        own = (x.own_dtype for x in self.operands if isinstance(x, ScheduledScalar))
        return next((dtype for dtype in own if dtype is not None), None)

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The scalars that hold a progress, each once."""
        return leaves_of(x for x in self.operands if isinstance(x, ScheduledScalar))

    def value_at(self, progress: functions.P) -> functions.P:
        """Return the operation on the operands' values at ``progress``."""
        result: functions.P = self.operation.function(
            *[x.value_at(progress) if isinstance(x, ScheduledScalar) else x for x in self.operands]
        )
        return result

    def _read(self) -> float | mx.array:
        values = [x if isinstance(x, HOST) else x._read() for x in self.operands]
        result: float | mx.array = self.operation.function(*values)
        if isinstance(result, mx.array) and self.operation.exact_remainder:
            # In the graph values are float32: 1 - beta has lost digits of beta.
            first, second = map(_traced_remainder, self.operands)
            result = result if first is None else result + first
            result = result if second is None else self.operation.function(result, second)
        return result

    def __float__(self) -> float:
        """Return the value now, in double precision."""
        return float(self.operation.function(*map(float, self.operands)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle the operation and its operands."""
        return Expression, (self.operation, *self.operands)

    def __repr__(self) -> str:
        """Return the expression as it would be written."""
        symbol = self.operation.symbol
        if not symbol:
            name = "abs" if self.operation.name == "absolute" else self.operation.name
            return f"{name}({', '.join(map(repr, self.operands))})"
        shown = [f"({x!r})" if _is_infix(x) else repr(x) for x in self.operands]
        return f" {symbol} ".join(shown) if len(shown) > 1 else symbol + shown[0]


def _traced_remainder(operand: Operand) -> mx.array | None:
    return operand.remainder if isinstance(operand, Leaf) else None


def _is_infix(operand: Any) -> bool:
    if isinstance(operand, Expression):
        return bool(operand.operation.symbol)
    return not isinstance(operand, ScheduledScalar) and operand < 0


class View(ScheduledScalar):
    """A scalar that MLX sees as an array of another dtype: what ``astype`` returns."""

    def __init__(self, scalar: ScheduledScalar, dtype: mx.Dtype) -> None:
        if not isinstance(dtype, mx.Dtype) or not mx.issubdtype(dtype, mx.floating):
            way_out = "Pass mx.float32, mx.bfloat16 or mx.float16."
            checks.fail("dtype", "a floating point mx.Dtype", dtype, way_out, wrong_type=True)
        self.scalar = scalar
        self._dtype = dtype

    @property
    def own_dtype(self) -> mx.Dtype:
        """The dtype that the view was made for."""
        return self._dtype

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The scalars that hold a progress, each once."""
        return self.scalar.leaves

    def value_at(self, progress: functions.P) -> functions.P:
        """Return the scalar's value at ``progress``."""
        return self.scalar.value_at(progress)

    def _read(self) -> float | mx.array:
        return self.scalar._read()

    def __float__(self) -> float:
        """Return the value now, in double precision."""
        return float(self.scalar)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle what the view is of."""
        return _view, (self.scalar, str(self.dtype).rpartition(".")[2])  # MLX pickles no Dtype

    def __repr__(self) -> str:
        """Return the call that made the view."""
        shown = f"({self.scalar!r})" if _is_infix(self.scalar) else repr(self.scalar)
        return f"{shown}.astype({self.dtype!r})"


def _view(scalar: ScheduledScalar, dtype: str) -> View:
    return View(scalar, getattr(mx, dtype))


ScheduledScalar._node = Expression
ScheduledScalar._view = View


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
