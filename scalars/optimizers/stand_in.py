"""Objects in the place of a scalar, with a dtype of their own."""

from __future__ import annotations

from ..functions import P
from ..number.scalar import Leaf, ScheduledScalar


class StandIn(ScheduledScalar):
    """The base of what an optimizer or a layer has in the place of a scalar.

    Args:
        scalar: The scalar, whose formula and range it has.
    """

    passing = False
    """Whether it is there only for a moment, so that whoever keeps it has no scalar."""

    def __init__(self, scalar: ScheduledScalar) -> None:
        self.viewed = scalar
        self._size = scalar._size

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The leaves of the scalar."""
        return self.viewed.leaves

    @property
    def bounds(self) -> tuple[float, float]:
        """The bounds of the scalar."""
        return self.viewed.bounds

    @property
    def steady(self) -> bool:
        """Whether the knots show all that the scalar does."""
        return self.viewed.steady

    def value_at(self, progress: P) -> P:
        """Return the scalar's value at ``progress``."""
        return self.viewed.value_at(progress)

    def in_force(self, progress: P) -> P:
        """Return the scalar's value in force at ``progress``."""
        return self.viewed.in_force(progress)

    def __repr__(self) -> str:
        """Return the code that makes the scalar."""
        return repr(self.viewed)
