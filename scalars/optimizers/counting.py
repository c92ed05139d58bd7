"""Whose step counts the updates, among an optimizer and the optimizers that it holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import mlx.core as mx
from mlx.optimizers import Optimizer

from .. import checks
from ..words import PACKAGE
from . import words
from .discover import held, own_class

METHODS = frozenset({"update", "apply_gradients", "apply_single"})


class Counting:
    """Finds the step of the run.

    All members of a ``MultiOptimizer`` make each update together, so that of the first one is as
    good as any. But an optimizer that passes its updates on to another one may not count them.

    Args:
        optimizer: The attached optimizer.
        members: The optimizer and those that it holds.
    """

    def __init__(self, optimizer: Optimizer, members: Sequence[Optimizer]) -> None:
        self._optimizer = optimizer
        self._counting: list[Any] = [one for one in members if "step" in one._state]
        if not self._counting:
            way_out = "Assign what optimizer.state was when it was saved."
            checks.fail("optimizer.state", "a state with 'step'", sorted(optimizer._state), way_out)
        self.first = self._counting[0]
        self._chosen = self.first
        self._has_counted = False
        self.choose()
        self._known = [optimizer, *self._counting]
        self._by_one = all(map(_counts_by_one, self._known)) and _each_held_once(members)

    @property
    def by_one(self) -> bool:
        """Whether an update surely adds 1 to the step, so that it need not be read."""
        return self._by_one and all(METHODS.isdisjoint(vars(one)) for one in self._known)

    def choose(self) -> None:
        """Take the step that has counted most, until an update shows which one counts."""
        if len(self._counting) > 1 and not self._has_counted:
            with suppress(RuntimeError, ValueError):  # some are placeholders, as after an error
                self._chosen = max(self._counting, key=lambda one: int(one._state["step"].item()))

    @property
    def step(self) -> mx.array:
        """The step array of the run."""
        step: Any = self._chosen._state["step"]
        if not isinstance(step, mx.array):  # a number that the user has assigned
            step = mx.array(checks.count('optimizer.state["step"]', step, least=0), mx.uint64)
            self.put(step)
        return step  # type: ignore[no-any-return]

    def put(self, step: mx.array) -> None:
        """Replace the step array of the run."""
        self._chosen._state["step"] = step

    def step_of(self, member: Any) -> mx.array:
        """Return the step array of an update that a member makes."""
        alone = member is not self._optimizer and member is not self._chosen
        if alone and "step" in member._state:  # one of several that are updated one by one
            step: mx.array = member._state["step"]
            return step
        return self.step

    def arrays(self) -> list[mx.array]:
        """Return all step arrays, to pass to ``counted`` after an update."""
        return [one._state["step"] for one in self._counting]

    def counted(self, before: list[mx.array], traced: bool) -> bool:
        """Return whether an update has counted the step of the run; choose another if it did not.

        Raises:
            ValueError: The update was traced, with the wrong step in its graph.
        """
        pairs = zip(self._counting, before, strict=True)
        moved = [one for one, step in pairs if one._state["step"] is not step]
        if any(one is self._chosen for one in moved):
            self._has_counted = True
        elif moved and not self._has_counted:
            if traced:
                outer, inner = (type(one).__name__ for one in (self._chosen, moved[0]))
                raise ValueError(words.OTHER_STEP.format(outer=outer, inner=inner))
            self._chosen = moved[0]
        return any(one is self._chosen for one in moved)


def _each_held_once(members: Iterable[Optimizer]) -> bool:
    """Return whether no optimizer is held in two places, so that it makes one update."""
    places = [id(one) for member in members for _, one in held(member)]
    return len(places) == len(set(places))


def _counts_by_one(optimizer: Any) -> bool:
    """Return whether the class of an optimizer is one of MLX or of this package.

    The step of others is read after each update, as they may skip one or set the step.
    """
    return own_class(optimizer).__module__.partition(".")[0] in ("mlx", PACKAGE)
