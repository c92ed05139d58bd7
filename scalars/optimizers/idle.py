"""What is said of scalars that stay as they are while an optimizer makes updates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mlx.nn as nn

from ..number.scalar import Leaf
from ..words import UPDATES_UNTIL_IDLE, warn
from . import words
from .discover import in_model

UPDATES_UNTIL_UNCOUNTED = 10 * UPDATES_UNTIL_IDLE
"""More, because an optimizer may accumulate the gradients of many updates before it counts one."""


class IdleWatch:
    """Watches whether the scalars of an attached optimizer, and those in its model, change.

    Args:
        leaves: The attached scalars by name.
        step: Returns the step of the optimizer, as it is in its state; ``None`` if the scalars
            follow it.
    """

    def __init__(self, leaves: Mapping[str, Leaf], step: Callable[[], Any] | None) -> None:
        self._leaves = leaves
        self._step = step
        self._watching = step is not None
        self._paused = False
        self._eager_updates = 0
        self._counted = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count no updates within a block, which undoes them."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def updated(self, counted: bool) -> None:
        """Count an eager update, and warn if many were made and nothing changed.

        Args:
            counted: Whether the step that drives the scalars has changed.
        """
        if self._paused:
            return
        self._eager_updates += 1
        self._counted = self._counted or counted
        if self._eager_updates == UPDATES_UNTIL_UNCOUNTED and not self._counted:
            warn(words.UNCOUNTED.format(updates=self._eager_updates))
        if self._watching and self._eager_updates == UPDATES_UNTIL_IDLE:
            self._warn(self._eager_updates)

    def look(self) -> None:
        """Warn if many compiled updates were made and scalars were never updated."""
        if not self._watching or self._paused:
            return
        if not any(leaf._cell.fresh for leaf in self._leaves.values()):
            self._watching = False
        elif (made := _made(self._step)) >= UPDATES_UNTIL_IDLE:
            self._warn(made)

    def _warn(self, updates: int) -> None:
        self._watching = False
        if idle := [name for name, leaf in self._leaves.items() if leaf.idle]:
            warn(words.NEVER_UPDATED.format(names=", ".join(idle), updates=updates))

    def check_layers(self, model: nn.Module, traced: bool) -> None:
        """Look for scalars in the layers of an updated model that were not attached.

        Raises:
            ValueError: The update is traced and captures the optimizer, but not such a scalar.
        """
        if not traced and (self._paused or self._eager_updates != UPDATES_UNTIL_IDLE):
            return
        known = {id(leaf) for leaf in self._leaves.values()}
        used = {n: x for n, scalar in in_model(model, only_training=True) for x in scalar.leaves}
        others = {n: x for n, x in used.items() if id(x) not in known and x.held is None}
        if traced:
            uncaptured = {n: x for n, x in others.items() if not x._cell.is_traced()}
            if frozen := [n for n, x in uncaptured.items() if x.changes and x._cell.progress < 1]:
                raise ValueError(words.BLIND_LAYERS.format(names=", ".join(frozen)))
        elif idle := [n for n, x in others.items() if x.idle]:
            names = ", ".join(idle)
            warn(words.IDLE_LAYERS.format(names=names, updates=self._eager_updates))


def _made(step: Any) -> int:
    """Return how many updates an optimizer has made, or 0 while the step is a placeholder."""
    try:
        return int(step().item())
    except (AttributeError, LookupError, ValueError, RuntimeError):
        return 0
