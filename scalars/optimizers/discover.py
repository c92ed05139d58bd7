"""Finding the scalars in an optimizer and in a model."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import is_dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import mlx.nn as nn
from mlx.optimizers import Optimizer

from .. import checks
from ..number.mlx_protocol import KEEPING
from ..number.scalar import Expression, ScheduledScalar
from ..training.group import Grouped, ScalarGroup
from . import words

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
        for _, member in _held("", vars(waiting.pop())):
            if id(member) not in found:
                found[id(member)] = member
                waiting.append(member)
    return list(found.values())


def _held(name: str, value: Any) -> Iterator[tuple[str, Optimizer]]:
    """Yield the optimizers in a value by name, also from lists, tuples and dicts."""
    if isinstance(value, Optimizer):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _held(f"{name}.{i}", item)
    elif isinstance(value, dict) and not isinstance(value, nn.Module):
        for key, item in value.items():
            if key not in PRIVATE:
                yield from _held(f"{name}.{key}" if name else str(key), item)


def record(value: Any) -> dict[str, Any] | None:
    """Return the attributes of an object that only keeps values, such as a config, or ``None``."""
    keeps = is_dataclass(value) or isinstance(value, (SimpleNamespace, Namespace))
    return vars(value) if keeps and hasattr(value, "__dict__") else None


def within(name: str, value: Any) -> Found:
    """Yield the scalars in a value by name, also from containers and configs."""
    if isinstance(value, ScheduledScalar):
        yield name, value
    elif isinstance(value, (ScalarGroup, Grouped)):
        yield from (value if isinstance(value, ScalarGroup) else value.group).items()
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from within(f"{name}.{i}", item)
    elif isinstance(value, dict) and not isinstance(value, nn.Module):
        for key, item in value.items():
            yield from within(f"{name}.{key}", item)
    elif not isinstance(value, type) and (fields := record(value)) is not None:
        yield from within(name, fields)


def replaced(value: Any, of: Callable[[Any], Any], kind: type = ScheduledScalar) -> Any:
    """Replace each x of a kind by ``of(x)`` in a value, also in copies of what contains it."""
    if isinstance(value, kind):
        return of(value)
    if isinstance(value, (list, tuple)):
        items = [replaced(item, of, kind) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict) and not isinstance(value, nn.Module):
        return {key: replaced(item, of, kind) for key, item in value.items()}
    if not isinstance(value, type) and (fields := record(value)) is not None:
        changed = copy(value)
        vars(changed).update(replaced(fields, of, kind))
        return changed
    return value


def viewed(scalar: ScheduledScalar) -> ScheduledScalar:
    """Return the scalar that a view in a layer stands for, and any other one as it is."""
    before: ScheduledScalar = getattr(scalar, "viewed", scalar)
    return before


class Kept(NamedTuple):
    """The attributes in which an optimizer keeps scalars and other optimizers, by name."""

    scheduled: tuple[str, ...]
    """The attributes that contain scalars."""
    optimizers: tuple[str, ...]
    """The attributes that contain optimizers."""
    lists: Mapping[str, list[int]]
    """The ``id`` of each scalar in the attributes that are containers of scalars."""

    @classmethod
    def by(cls, optimizer: Optimizer) -> Kept:
        """Look through an optimizer, but not through the optimizers in it."""
        own = {name: value for name, value in vars(optimizer).items() if name not in PRIVATE}
        found = {n: [id(s) for _, s in within(n, value)] for n, value in own.items()}
        return cls(
            tuple([name for name in own if found[name]]),
            tuple([name for name, value in own.items() if any(_held(name, value))]),
            {n: ids for n, ids in found.items() if ids and not isinstance(own[n], ScheduledScalar)},
        )

    def check_lists(self, optimizer: Optimizer) -> None:
        """Raise ``ValueError`` if scalars in a list, such as ``betas``, were replaced in place."""
        for name, scalars in self.lists.items():
            value = vars(optimizer).get(name)
            if [id(scalar) for _, scalar in within(name, value)] != scalars:
                rule = "left to its schedules while attached"
                checks.fail(f"optimizer.{name}", rule, value, words.AGAIN)


def rates(optimizer: Optimizer) -> dict[str, ScheduledScalar]:
    """Return the scalars that MLX calls at each step, such as the learning rate, by name."""
    called = optimizer._schedulers.items()
    return {name: rate for name, rate in called if isinstance(rate, ScheduledScalar)}


def in_optimizer(optimizer: Optimizer, prefix: str = "") -> Found:
    """Yield the scalars in the attributes of an optimizer and its members, by name."""
    scheduled = {name: vars(optimizer)[name] for name in Kept.by(optimizer).scheduled}
    for name, value in {**rates(optimizer), **scheduled}.items():
        yield from within(prefix + name.strip("_"), value)
    for name, member in _held("", vars(optimizer)):
        yield from in_optimizer(member, f"{prefix}{name}.")


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
