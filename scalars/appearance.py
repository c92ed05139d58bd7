"""How scalars appear to type checkers, ``dir``, ``help`` and completion, and as Python code."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Iterable
from numbers import Real
from typing import TYPE_CHECKING, Any

PACKAGE = __name__.partition(".")[0]

if TYPE_CHECKING:
    from typing_extensions import Self

    class _Number(float):
        """The base class for type checkers: a float, which MLX's annotations require.

        So pyright infers a float for ``0.5 * scalar``, but a scalar for ``scalar * 0.5``.
        """

        def __new__(cls, *arguments: Any, **named: Any) -> Self: ...
else:
    _Number = Real  # not float, whose value C code would read directly, and only once

FOR_USERS = (
    "array as_integer_ratio astype at by_step conjugate dtype held hold imag is_integer item "
    "load_state_dict observe progress real release state state_dict update"
)
"""The attributes of every scalar that are meant for users."""


class Listed(ABCMeta):
    """A metaclass that hides internals from ``dir``, ``help`` and completion.

    They show the names in ``FOR_USERS``, those in ``for_users`` of a class, and those that a
    class outside of this package adds.
    """

    def __dir__(cls) -> list[str]:
        """Return the names that are shown."""
        return cls.shown(super().__dir__())

    def shown(cls, names: Iterable[str]) -> list[str]:
        """Return those of ``names`` that are shown."""
        known, ours, others = set(FOR_USERS.split()), set[str](), set[str]()
        for one in cls.__mro__:
            if one.__module__.startswith(f"{PACKAGE}."):
                known.update(vars(one).get("for_users", ()))
                ours.update(vars(one))
            elif one not in Real.__mro__:
                others.update(vars(one))
        known |= others - ours
        return [name for name in names if name in known or name.startswith("__")]


class Appearance(_Number, metaclass=Listed):
    """The base of scalars, which hides internals from ``dir``: see ``Listed``."""

    def __dir__(self) -> list[str]:
        """Return the names that are shown."""
        return type(self).shown(super().__dir__())


LONGEST = 100_000
"""The parts of the longest text: if operands are shared, there may be far more than operations."""


def written(expression: Any, kind: type) -> str:
    """Return an expression of scalars as Python code, which ends in ``...`` if it is too long.

    Args:
        expression: The expression.
        kind: The class of expressions.
    """
    pieces: list[str] = []
    waiting: list[Any] = [expression]
    while waiting and len(pieces) < LONGEST:
        piece = waiting.pop()
        if isinstance(piece, kind):
            waiting += reversed(_pieces(piece, kind))
        else:
            pieces.append(piece if isinstance(piece, str) else repr(piece))
    return "".join(pieces) + "..." * bool(waiting)


def _pieces(expression: Any, kind: type) -> list[Any]:
    """Return the parts of the text: its own texts, numbers and scalars."""
    name, symbol, *_ = expression.operation
    first, *others = expression.operands
    if not symbol:
        name = "abs" if name == "absolute" else name
        return [f"{name}(", first, *[x for one in others for x in (", ", one)], ")"]
    inside = [["(", x, ")"] if _is_infix(x, kind) else [x] for x in expression.operands]
    if expression.operation.dtype is not None:  # a view: scalar.astype(dtype)
        return [*inside[0], symbol]
    return [*inside[0], f" {symbol} ", *inside[1]] if others else [symbol, *inside[0]]


def _is_infix(operand: Any, kind: type) -> bool:
    if isinstance(operand, kind):
        operation: Any = operand.operation  # type: ignore[attr-defined]
        return bool(operation.symbol) and operation.dtype is None
    return isinstance(operand, (float, int)) and operand < 0
