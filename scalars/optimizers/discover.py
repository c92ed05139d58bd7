"""Where scalars are in an optimizer and in a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import mlx.nn as nn
from mlx.optimizers import MultiOptimizer, Optimizer

from ..number.scalar import ScheduledScalar


def members(optimizer: Optimizer) -> Iterator[Optimizer]:
    """Yield an optimizer and, at any depth, the members of a ``MultiOptimizer``."""
    yield optimizer
    if isinstance(optimizer, MultiOptimizer):
        for member in optimizer.optimizers:
            yield from members(member)


Found = Iterable[tuple[str, ScheduledScalar]]


def _within(name: str, value: Any) -> Found:
    """Yield the scalars in a value, by name: in lists, tuples and dicts too."""
    if isinstance(value, ScheduledScalar):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _within(f"{name}.{i}", item)
    elif isinstance(value, dict) and not isinstance(value, nn.Module):
        for key, item in value.items():
            yield from _within(f"{name}.{key}", item)


def in_optimizer(optimizer: Optimizer, prefix: str = "") -> Found:
    """Yield the scalars in the attributes of an optimizer and its members, by name."""
    if isinstance(optimizer, MultiOptimizer):
        for i, member in enumerate(optimizer.optimizers):
            yield from in_optimizer(member, f"{prefix}optimizers.{i}.")
        return
    attributes = {**optimizer._schedulers, **vars(optimizer)}
    for name, value in attributes.items():
        if not name.startswith("_"):
            yield from _within(prefix + name, value)


def in_model(model: nn.Module | None) -> Found:
    """Yield the scalars in the modules of a model, by name; expressions by their leaves."""
    modules: Any = model.named_modules() if model is not None else ()  # type: ignore[no-untyped-call]
    for path, module in modules:
        prefix = f"{path}." if path else ""
        for name, value in {**vars(module), **module}.items():
            # Dropout keeps 1 - p.
            shown = "p" if name == "_p_1" else name.strip("_")
            for found, scalar in _within(prefix + shown, value):
                for i, leaf in enumerate(scalar.leaves):
                    yield found if len(scalar.leaves) == 1 else f"{found}.{i}", leaf
