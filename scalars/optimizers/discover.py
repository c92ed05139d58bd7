"""Finding the scalars in an optimizer and in a model."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import is_dataclass
from operator import is_
from types import SimpleNamespace
from typing import Any, NamedTuple

import mlx.nn as nn
from mlx.optimizers import Optimizer

from .. import checks
from ..number.mlx_protocol import KEEPING
from ..number.scalar import Expression, ScheduledScalar
from ..training.group import Grouped, ScalarGroup
from . import words
from .stand_in import StandIn

Found = Iterable[tuple[str, ScheduledScalar]]
PRIVATE = ("_schedulers", "_state", "_attachment")
"""Internal attributes of optimizers, of MLX and of this package."""


def members(optimizer: Optimizer) -> list[Optimizer]:
    """Return an optimizer and all optimizers nested in it, as in a ``MultiOptimizer``.

    Each one is listed once, even if it is held in two places.
    """
    found = {id(optimizer): optimizer}
    waiting = [optimizer]
    while waiting:
        for _, member in held(waiting.pop()):
            if id(member) not in found:
                found[id(member)] = member
                waiting.append(member)
    return list(found.values())


def held(optimizer: Optimizer) -> Iterator[tuple[str, Optimizer]]:
    """Yield the optimizers in the attributes of another one by name."""
    for name, value in vars(optimizer).items():
        if name not in PRIVATE:
            yield from _inside(name, value, Optimizer)


def record(value: Any) -> dict[str, Any] | None:
    """Return the attributes of an object that only keeps values, such as a config, or ``None``."""
    keeps = is_dataclass(value) or isinstance(value, (SimpleNamespace, Namespace))
    return vars(value) if keeps and hasattr(value, "__dict__") else None


def _children(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return the items of a container or a config with their names, or nothing."""
    if isinstance(value, (list, tuple)):
        return enumerate(value)
    if isinstance(value, dict):
        return () if isinstance(value, nn.Module) else value.items()
    fields = None if isinstance(value, type) else record(value)
    return () if fields is None else fields.items()


def _inside(
    name: str, value: Any, kind: type | tuple[type, ...], around: tuple[int, ...] = ()
) -> Iterator[tuple[str, Any]]:
    """Yield the objects of a kind in a value by name, also from containers and configs."""
    if isinstance(value, kind):
        yield name, value
    elif id(value) not in around:
        for key, item in _children(value):
            if type(item) is not float:
                yield from _inside(f"{name}.{key}", item, kind, (*around, id(value)))


def within(name: str, value: Any) -> Found:
    """Yield the scalars in a value by name, also from containers and configs."""
    for found, item in _inside(name, value, (ScheduledScalar, ScalarGroup, Grouped)):
        if isinstance(item, ScheduledScalar):
            if not (isinstance(item, StandIn) and item.passing):
                yield found, item
        else:
            yield from (item if isinstance(item, ScalarGroup) else item.group).items()


PLAIN = (float, int, str, bool, type(None))


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
    items = dict(_children(value))
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


def viewed(scalar: ScheduledScalar) -> ScheduledScalar:
    """Return the scalar that a view in a layer stands for, and any other one as it is."""
    before: ScheduledScalar = getattr(scalar, "viewed", scalar)
    return before


class Kept(NamedTuple):
    """The attributes in which an optimizer keeps scalars, by name."""

    direct: tuple[str, ...]
    """The attributes that are scalars."""
    containers: Mapping[str, list[int]]
    """The ``id`` of each scalar in the attributes that contain scalars."""

    @classmethod
    def by(cls, optimizer: Optimizer) -> Kept:
        """Look through an optimizer, but not through the optimizers in it."""
        own = {name: value for name, value in vars(optimizer).items() if name not in PRIVATE}
        found = {n: [id(s) for _, s in within(n, value)] for n, value in own.items()}
        direct = [name for name in own if found[name] and isinstance(own[name], ScheduledScalar)]
        return cls(tuple(direct), {n: ids for n, ids in found.items() if ids and n not in direct})

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all these attributes."""
        return (*self.direct, *self.containers)

    def check(self, name: str, value: Any, scalars: Iterable[ScheduledScalar]) -> None:
        """Raise ``ValueError`` if scalars in a container, such as ``betas``, were replaced."""
        if [*map(id, scalars)] != self.containers[name]:
            rule = "left to its schedules while attached"
            checks.fail(f"optimizer.{name}", rule, value, words.AGAIN)


def rates(optimizer: Optimizer) -> dict[str, ScheduledScalar]:
    """Return the scalars that MLX calls at each step, such as the learning rate, by name."""
    called = optimizer._schedulers.items()
    return {name: rate for name, rate in called if isinstance(rate, ScheduledScalar)}


def in_optimizer(
    optimizer: Optimizer, prefix: str = "", around: tuple[Optimizer, ...] = ()
) -> Found:
    """Yield the scalars in the attributes of an optimizer and its members, by name."""
    scheduled = {name: vars(optimizer)[name] for name in Kept.by(optimizer).names}
    for name, value in {**rates(optimizer), **scheduled}.items():
        yield from within(prefix + name.strip("_"), value)
    around = (*around, optimizer)
    for name, member in held(optimizer):
        if all(member is not one for one in around):
            yield from in_optimizer(member, f"{prefix}{name}.", around)


def in_model(model: nn.Module | None, only_training: bool = False) -> Found:
    """Yield the scalars in the modules of a model by name.

    An expression of several scalars is not yielded itself, but each of these, by number.
    """
    modules: Any = model.named_modules() if model is not None else ()  # type: ignore[no-untyped-call]
    for path, module in modules:
        if only_training and not module.training:
            continue
        prefix = f"{path}." if path else ""
        for name, value in {**vars(module), **module}.items():
            for found, scalar in within(prefix + name.strip("_"), value):
                scalar, shown = viewed(scalar), found
                if name == KEEPING and (rate := _of_dropout(scalar)) is not None:
                    scalar, shown = rate, f"{prefix}p"
                if len(scalar.leaves) == 1:
                    yield shown, scalar
                else:
                    yield from [(f"{shown}.{i}", leaf) for i, leaf in enumerate(scalar.leaves)]


def _of_dropout(kept: ScheduledScalar) -> ScheduledScalar | None:
    """Return the rate p of a dropout layer of MLX, which keeps 1 - p."""
    if not isinstance(kept, Expression) or kept.operation.name != "subtract":
        return None
    rate: Any = kept.operands[1]
    return rate if kept.operands[0] == 1 and isinstance(rate, ScheduledScalar) else None
