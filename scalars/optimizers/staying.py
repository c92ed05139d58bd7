"""The check that a scalar stays in the range of its argument, also while values are held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..number.scalar import ScheduledScalar


class Stays(NamedTuple):
    """The check of a scalar whose argument is limited to a range."""

    name: str
    scalar: ScheduledScalar
    within: Callable[[str, float], Any]
    """A check of one value, which raises."""

    def register(self) -> None:
        """Check later calls of ``hold`` on the scalars in it."""
        for leaf in self.scalar.leaves:
            leaf.answers[self._question] = self

    def unregister(self) -> None:
        """Check no later calls any more."""
        for leaf in self.scalar.leaves:
            leaf.answers.pop(self._question, None)

    @property
    def _question(self) -> str:
        """The key of this check, as another optimizer may have the same one."""
        return f"{self.name}: {self.scalar!r}, {id(self)}"

    def check(self) -> None:
        """Raise ``ValueError`` if the value leaves its range while a value is held."""
        if any(leaf.held is not None for leaf in self.scalar.leaves):
            for knot in self.scalar.knots:
                self.within(f"{self.name}, as it is held,", float(self.scalar.in_force(knot)))
