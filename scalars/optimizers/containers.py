"""Containers and configs: what is in them, and copies with other objects in it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import is_dataclass
from operator import is_
from types import SimpleNamespace
from typing import Any

import mlx.nn as nn

from ..number.scalar import ScheduledScalar

PLAIN = (float, int, str, bool, type(None))


def record(value: Any) -> dict[str, Any] | None:
    """Return the attributes of an object that only keeps values, such as a config, or ``None``."""
    keeps = is_dataclass(value) or isinstance(value, (SimpleNamespace, Namespace))
    return vars(value) if keeps and hasattr(value, "__dict__") else None


def children(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return the items of a container or a config with their names, or nothing."""
    if isinstance(value, (list, tuple)):
        return enumerate(value)
    if isinstance(value, dict):
        return () if isinstance(value, nn.Module) else value.items()
    fields = None if isinstance(value, type) else record(value)
    return () if fields is None else fields.items()


def inside(
    name: str, value: Any, kind: type | tuple[type, ...], around: tuple[int, ...] = ()
) -> Iterator[tuple[str, Any]]:
    """Yield the objects of a kind in a value by name, also from containers and configs."""
    if isinstance(value, kind):
        yield name, value
    elif id(value) not in around:
        for key, item in children(value):
            if type(item) not in PLAIN:
                yield from inside(f"{name}.{key}", item, kind, (*around, id(value)))


class Copies:
    """Copies of containers and configs with other objects in place of the scalars in them.

    Args:
        of: Returns what a copy has in the place of a scalar.
    """

    def __init__(self, of: Callable[[ScheduledScalar], Any]) -> None:
        self._of = of
        self._made: list[tuple[Any, Any, tuple[list[Any], list[Any]]]] = []
        """An original, its copy, and what the copy contained at first."""
        self._before: dict[int, Any] = {}
        """What the items of the copies stand for, by their ``id``."""
        self._known: dict[int, Any] = {}

    @property
    def scalars(self) -> list[ScheduledScalar]:
        """The scalars that were found in containers."""
        return [one for one in self._before.values() if isinstance(one, ScheduledScalar)]

    @classmethod
    def scalars_in(cls, value: Any) -> list[ScheduledScalar]:
        """Return the scalars that a copy of a value would replace."""
        copies = cls(lambda scalar: object())
        copies.of(value)
        return copies.scalars

    def of(self, value: Any) -> Any:
        """Replace the scalars in a value, and in copies of what contains it."""
        if type(value) in PLAIN:
            return value
        if isinstance(value, ScheduledScalar):
            given = self._of(value)
            given = given * 1.0 if type(given) is float else given  # a new object
            self._before[id(given)] = value
            return given
        if id(value) in self._known:
            return self._known[id(value)]
        self._known[id(value)] = value  # if it contains itself
        keys, items = _parts(value)
        given = [self.of(item) for item in items]
        if all(map(is_, given, items)):
            return value
        made = self._known[id(value)] = _with_parts(value, keys, given)
        self._before[id(made)] = value
        if not isinstance(value, tuple):
            self._made.append((value, made, (keys, given)))
        return made

    def restored(self, value: Any) -> Any:
        """Put the scalars back into a value that was made of the items of copies."""
        if id(value) in self._before:
            return self._before[id(value)]
        keys, items = _parts(value)
        restored = [self.restored(item) for item in items]
        return value if all(map(is_, restored, items)) else _with_parts(value, keys, restored)

    def hand_back(self) -> None:
        """Make changes of the copies in the originals, too."""
        for original, copied, (first_keys, first) in self._made:
            keys, items = _parts(copied)
            if len(items) != len(first) or keys != first_keys or not all(map(is_, items, first)):
                _refill(original, keys, [self._before.get(id(item), item) for item in items])


def replaced(value: Any, of: Callable[[ScheduledScalar], Any]) -> Any:
    """Replace each scalar x by ``of(x)`` in a value, and in copies of what contains it."""
    return Copies(of).of(value)


def _parts(value: Any) -> tuple[list[Any], list[Any]]:
    """Return the keys, which a list has none of, and the items of a container or a config."""
    if isinstance(value, (list, tuple)):
        return [], [*value]
    items = dict(children(value))
    return [*items], [*items.values()]


def _with_parts(value: Any, keys: list[Any], items: list[Any]) -> Any:
    """Return a copy of a container or a config with other items."""
    if isinstance(value, tuple):
        make = getattr(type(value), "_make", type(value))  # of a named tuple
        return make(items)
    try:
        made = copy(value)
    except KeyError:  # Python 3.10 asks a dict whose items are its attributes for __getstate__
        kind: Any = type(value)
        made = kind.__new__(kind)
    _refill(made, keys, items)
    return made


def _refill(value: Any, keys: list[Any], items: list[Any]) -> None:
    """Replace the items of a list, a dict or a config."""
    if isinstance(value, list):
        value[:] = items
        return
    attributes = value if isinstance(value, dict) else vars(value)
    for key in [key for key in attributes if key not in keys]:
        del attributes[key]
    attributes.update(zip(keys, items, strict=True))
