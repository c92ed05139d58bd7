"""Containers and configs: where in them the scalars are."""

from __future__ import annotations

from argparse import Namespace
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import mlx.nn as nn
from mlx.optimizers import Optimizer

from ..number.scalar import ScheduledScalar
from .stand_in import StandIn

PLAIN = (float, int, str, bool, type(None))


class Place(NamedTuple):
    """A place in a list or a dict, which may be the attributes of a config."""

    container: Any
    key: Any

    @property
    def item(self) -> Any:
        """What is there, or ``None`` if the place is gone."""
        container, key = self
        if isinstance(container, dict):
            return container.get(key)
        return container[key] if key < len(container) else None

    def put(self, item: Any) -> None:
        """Put an item there, whatever a subclass of the container does."""
        container, key = self
        if type(container) in (dict, list):
            container[key] = item
        else:
            kinds: Any = (OrderedDict, dict, list, deque)
            kind = next(one for one in kinds if isinstance(container, one))
            kind.__setitem__(container, key, item)


def places(value: Any, seen: set[int] | None = None) -> Iterator[Place]:
    """Yield the places in a container or a config, and in those in it, each once.

    A tuple is one item, but the containers in it are looked through.
    """
    seen = set() if seen is None else seen
    if type(value) in PLAIN or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, tuple):
        for item in value:
            yield from places(item, seen)
    elif (container := _container(value)) is not None:
        yield from places_in(container, seen)


def places_in(container: Any, seen: set[int] | None = None) -> Iterator[Place]:
    """Yield the places in a list or a dict, which may be a module, and in what it contains."""
    seen = set() if seen is None else seen
    for key in [*container] if isinstance(container, dict) else range(len(container)):
        yield Place(container, key)
        yield from places(container[key], seen)


def _container(value: Any) -> Any:
    """Return a list or a dict, or the attributes of an object that only keeps values."""
    if isinstance(value, (list, deque)):
        return value
    if isinstance(value, dict):
        return None if isinstance(value, nn.Module) else value
    keeps = is_dataclass(value) or isinstance(value, (SimpleNamespace, Namespace))
    if not keeps or isinstance(value, (type, Optimizer, ScheduledScalar)):
        return None
    return getattr(value, "__dict__", None)


def inside(name: str, value: Any, kind: type | tuple[type, ...]) -> Iterator[tuple[str, Any]]:
    """Yield the objects of a kind in a value by name, also from containers and configs."""
    yield from _inside(name, value, kind, set())


def _inside(
    name: str, value: Any, kind: type | tuple[type, ...], seen: set[int]
) -> Iterator[tuple[str, Any]]:
    if issubclass(type(value), kind):  # and not what a weak reference refers to
        yield name, value
    elif type(value) not in PLAIN and id(value) not in seen:
        seen.add(id(value))
        container = value if isinstance(value, tuple) else _container(value) or ()
        items: Any = container.items() if isinstance(container, dict) else enumerate(container)
        for key, item in items:
            yield from _inside(f"{name}.{key}", item, kind, seen)


def is_container(item: Any) -> bool:
    """Return whether there are places in an item."""
    return isinstance(item, tuple) or _container(item) is not None


def is_scheduled(item: Any) -> bool:
    """Return whether an item is a scalar, or a tuple that has one in it or in a tuple in it."""
    return any(True for _ in scalars_of(item))


def scalars_of(item: Any) -> Iterator[ScheduledScalar]:
    """Yield the scalars of an item: itself, or those of a tuple."""
    if isinstance(item, ScheduledScalar):
        if not (isinstance(item, StandIn) and item.passing):
            yield item
    elif isinstance(item, tuple):
        for one in item:
            yield from scalars_of(one)


def replaced(item: Any, of: Callable[[ScheduledScalar], Any]) -> Any:
    """Replace each scalar x by ``of(x)`` in an item: a scalar, or a tuple with scalars."""
    if isinstance(item, tuple):
        return _like(item, [replaced(one, of) for one in item])
    return of(item) if isinstance(item, ScheduledScalar) else item


def with_one(item: Any, before: Any, after: Any) -> Any:
    """Replace an object in an item, itself or the first one in a tuple; or return ``item``."""
    if item is before:
        return after
    if isinstance(item, tuple):
        for i, one in enumerate(item):
            if (changed := with_one(one, before, after)) is not one:
                return _like(item, [*item[:i], changed, *item[i + 1 :]])
    return item


def _like(item: tuple[Any, ...], items: list[Any]) -> Any:
    """Return a tuple of the same kind, whatever its own ``__new__`` takes."""
    made = tuple.__new__(type(item), items)
    if own := getattr(item, "__dict__", None):
        vars(made).update(own)
    return made
