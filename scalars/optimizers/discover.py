"""Finding the scalars in an optimizer and in a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import mlx.nn as nn
from mlx.optimizers import Optimizer

from .. import checks
from ..number.mlx_protocol import KEEPING
from ..number.scalar import Expression, ScheduledScalar
from ..training.group import Grouped, ScalarGroup
from . import words
from .containers import Copies, inside
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
            yield from inside(name, value, Optimizer)


def within(name: str, value: Any) -> Found:
    """Yield the scalars in a value by name, also from containers and configs."""
    for found, item in inside(name, value, (ScheduledScalar, ScalarGroup, Grouped)):
        if isinstance(item, ScheduledScalar):
            if not (isinstance(item, StandIn) and item.passing):
                yield found, item
        else:
            yield from (item if isinstance(item, ScalarGroup) else item.group).items()


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
        direct: list[str] = []
        containers: dict[str, list[int]] = {}
        for name, value in vars(optimizer).items():
            if name in PRIVATE or not any(within(name, value)):
                continue
            if isinstance(value, ScheduledScalar):
                direct.append(name)
            elif found := Copies.scalars_in(value):
                containers[name] = [*map(id, found)]
        return cls(tuple(direct), containers)

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
    own = {name: value for name, value in vars(optimizer).items() if name not in PRIVATE}
    for name, value in {**rates(optimizer), **own}.items():
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
