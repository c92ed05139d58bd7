"""Finding the scalars in an optimizer and in a model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import mlx.nn as nn
from mlx.optimizers import Optimizer

from .. import checks
from ..number.mlx_protocol import KEEPING
from ..number.scalar import Expression, ScheduledScalar
from ..training.group import Grouped, ScalarGroup
from . import words
from .containers import Place, inside, is_container, is_scheduled, places, scalars_of

Found = Iterable[tuple[str, ScheduledScalar]]
PRIVATE = ("_schedulers", "_state")
"""Internal attributes of MLX's optimizers."""


def own_class(optimizer: Optimizer) -> type:
    """Return the class of an optimizer while it is not attached."""
    plain: type = getattr(optimizer, "_plain", type(optimizer))
    return plain


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
            yield from [(found, scalar) for scalar in scalars_of(item)]
        else:
            yield from (item if isinstance(item, ScalarGroup) else item.group).items()


def viewed(scalar: ScheduledScalar) -> ScheduledScalar:
    """Return the scalar that a view in a layer stands for, and any other one as it is."""
    before: ScheduledScalar = getattr(scalar, "viewed", scalar)
    return before


Items = list[tuple[Place, Any]]
"""Places and what is there."""


class Kept:
    """What an optimizer keeps while it is attached.

    Args:
        optimizer: The optimizer, which is looked through, but not the optimizers in it.
    """

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self.plain = own_class(optimizer)
        self._attributes: dict[str, tuple[Items, Items]] = {}
        """The scalars in each attribute that contains some, and these and the containers."""
        for name in vars(optimizer):
            if name not in PRIVATE and (found := self._in(name))[0]:
                self._attributes[name] = found

    @property
    def names(self) -> Collection[str]:
        """The names of the attributes that contain scalars."""
        return self._attributes

    def _in(self, name: str) -> tuple[Items, Items]:
        """Return the scalars in an attribute, or itself, and these together with containers."""
        own = Place(vars(self.optimizer), name)
        items = [(place, place.item) for place in (own, *places(own.item))]
        scalars = [(place, item) for place, item in items if is_scheduled(item)]
        return scalars, scalars + [one for one in items if is_container(one[1])]

    def scheduled(self) -> dict[str, Items]:
        """Return the places with scalars and what is there, by the name of the attribute.

        Raises:
            ValueError: Scalars in a container, such as ``betas``, were replaced.
        """
        for name in self._moved():
            found = self._in(name)
            if _ids(found[0]) != _ids(self._attributes[name][0]):
                rule = "left to its schedules while attached"
                value = vars(self.optimizer).get(name)
                checks.fail(f"optimizer.{name}", rule, value, words.AGAIN)
            self._attributes[name] = found
        return {name: scalars for name, (scalars, _) in self._attributes.items()}

    def _moved(self) -> list[str]:
        """Return the names of the attributes with scalars or containers in other places."""
        moved = []
        for name, (_, items) in self._attributes.items():
            for place, item in items:
                if place.item is not item:
                    moved.append(name)
                    break
        return moved

    def missing(self) -> Iterator[tuple[Place, Any, ScheduledScalar]]:
        """Yield each scalar that an attribute lacks: the attribute, its key and the scalar."""
        for name in self._moved():
            present = _ids(self._in(name)[0])
            for place, item in self._attributes[name][0]:
                for scalar in scalars_of(item):
                    if id(scalar) in present:
                        present.remove(id(scalar))
                    else:
                        yield Place(vars(self.optimizer), name), place.key, scalar


def _ids(found: Items) -> list[int]:
    return [id(scalar) for _, item in found for scalar in scalars_of(item)]


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
