"""Where scalars are in an optimizer and in a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import mlx.nn as nn
from mlx.optimizers import Optimizer

from ..number.scalar import ScheduledScalar
from ..training.group import ScalarGroup
from ..training.phases import Phases

Found = Iterable[tuple[str, ScheduledScalar]]
PRIVATE = ("_schedulers", "_state", "_attachment")
"""What MLX and this package keep on an optimizer."""


def members(optimizer: Optimizer) -> list[Optimizer]:
    """Return an optimizer and, at any depth, those that it holds, as a ``MultiOptimizer`` does.

    Each is there once, also one that is held in two places.
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
    """Yield the optimizers in a value, by name: in lists, tuples and dicts too."""
    if isinstance(value, Optimizer):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _held(f"{name}.{i}", item)
    elif isinstance(value, dict) and not isinstance(value, nn.Module):
        for key, item in value.items():
            if key not in PRIVATE:
                yield from _held(f"{name}.{key}" if name else str(key), item)


def within(name: str, value: Any) -> Found:
    """Yield the scalars in a value, by name: in lists, tuples and dicts too."""
    if isinstance(value, ScheduledScalar):
        yield name, value
    elif isinstance(value, (ScalarGroup, Phases)):
        yield from (value if isinstance(value, ScalarGroup) else value.group).items()
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from within(f"{name}.{i}", item)
    elif isinstance(value, dict) and not isinstance(value, nn.Module):
        for key, item in value.items():
            yield from within(f"{name}.{key}", item)


def replaced(value: Any, of: Callable[[Any], Any], kind: type = ScheduledScalar) -> Any:
    """Return a value with ``of(x)`` in place of each x of a kind, also in lists, tuples, dicts."""
    if isinstance(value, kind):
        return of(value)
    if isinstance(value, (list, tuple)):
        items = [replaced(item, of, kind) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict) and not isinstance(value, nn.Module):
        return {key: replaced(item, of, kind) for key, item in value.items()}
    return value


def holding(optimizer: Optimizer) -> dict[str, Any]:
    """Return the attributes of one optimizer that have other optimizers in them, by name."""
    own = {name: value for name, value in vars(optimizer).items() if name not in PRIVATE}
    return {name: value for name, value in own.items() if any(_held(name, value))}


def attributes(optimizer: Optimizer) -> dict[str, Any]:
    """Return the attributes of one optimizer that have scalars in them, by name."""
    own = {name: value for name, value in vars(optimizer).items() if name not in PRIVATE}
    return {name: value for name, value in own.items() if any(within(name, value))}


def rates(optimizer: Optimizer) -> dict[str, ScheduledScalar]:
    """Return the scalars that MLX calls at each step, such as the learning rate, by name."""
    called = optimizer._schedulers.items()
    return {name: rate for name, rate in called if isinstance(rate, ScheduledScalar)}


def in_optimizer(optimizer: Optimizer, prefix: str = "") -> Found:
    """Yield the scalars in the attributes of an optimizer and its members, by name."""
    for name, value in {**rates(optimizer), **attributes(optimizer)}.items():
        yield from within(prefix + name.strip("_"), value)
    for name, member in _held("", vars(optimizer)):
        yield from in_optimizer(member, f"{prefix}{name}.")


def in_model(model: nn.Module | None) -> Found:
    """Yield the scalars in the modules of a model, by name; expressions by their leaves."""
    modules: Any = model.named_modules() if model is not None else ()  # type: ignore[no-untyped-call]
    for path, module in modules:
        prefix = f"{path}." if path else ""
        for name, value in {**vars(module), **module}.items():
            # Dropout keeps 1 - p.
            shown = "p" if name == "_p_1" else name.strip("_")
            for found, scalar in within(prefix + shown, value):
                for i, leaf in enumerate(scalar.leaves):
                    yield found if len(scalar.leaves) == 1 else f"{found}.{i}", leaf
