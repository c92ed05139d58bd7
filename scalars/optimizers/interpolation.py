"""The check of the interpolation of Schedule-Free optimizers, for all values it may take."""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import checks
from ..number.scalar import ScheduledScalar

Number = ScheduledScalar | float


def inside(name: str, value: Any) -> Number:
    """Check that an interpolation is above 0 and below 1 during the whole run.

    Later calls of ``hold`` on the scalars in it are checked in the same way.
    """
    rule, way_out = "above 0 and below 1", "Pass a number such as 0.9."
    ends = value.extent if isinstance(value, ScheduledScalar) else (checks.real(name, value),) * 2
    if not (ends[0] > 0 and ends[1] < 1):
        checks.fail(name, rule, value, way_out)
    if isinstance(value, ScheduledScalar):
        stays = _StaysInside(f"{name}, as it is held,", value)
        stays.check()
        for leaf in value.leaves:
            leaf.answers[f"{name}: {value!r}"] = stays
    number: Number = value
    return number


class _StaysInside(NamedTuple):
    """The check of held values: the interpolation must stay above 0 and below 1."""

    name: str
    scalar: ScheduledScalar

    def check(self) -> None:
        """Raise ``ValueError`` if the interpolation leaves this range while a value is held."""
        if any(leaf.held is not None for leaf in self.scalar.leaves):
            for knot in self.scalar.knots:
                inside(self.name, float(self.scalar.in_force(knot)))
