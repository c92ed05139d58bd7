"""What a scalar looks like: to type checkers, and at a prompt."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Iterable
from numbers import Real
from typing import TYPE_CHECKING, Any

PACKAGE = __name__.partition(".")[0]

if TYPE_CHECKING:
    from typing_extensions import Self

    class _Number(float):
        """What type checkers take a scalar for: MLX annotates what it accepts as ``float``.

        So pyright takes ``0.5 * scalar`` for a float; ``scalar * 0.5`` is a scalar for it too.
        """

        def __new__(cls, *arguments: Any, **named: Any) -> Self: ...
else:
    _Number = Real  # a float itself would be read by C, once

FOR_USERS = (
    "array as_integer_ratio astype at by_step conjugate dtype held hold imag is_integer item "
    "load_state_dict observe progress real release state state_dict update"
)
"""What users call of every scalar."""


class Listed(ABCMeta):
    """What ``dir``, ``help`` and completion show of a class: not what scalars are made of.

    That is what users call of all scalars, of the class what it names in ``for_users``, and
    what a class outside of the package adds.
    """

    def __dir__(cls) -> list[str]:
        """Return those of all names that are shown."""
        return cls.shown(super().__dir__())

    def shown(cls, names: Iterable[str]) -> list[str]:
        """Return those of some names that are shown."""
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
    """What a scalar looks like: see ``Listed``."""

    def __dir__(self) -> list[str]:
        """Return those of all names that are shown."""
        return type(self).shown(super().__dir__())
