"""Which names of a scalar are shown at a prompt."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Iterable
from numbers import Real

PACKAGE = __name__.partition(".")[0]
FOR_USERS = (
    "array as_integer_ratio astype at by_step conjugate dtype held hold imag is_integer item "
    "load_state_dict observe progress real release state state_dict update"
)


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
