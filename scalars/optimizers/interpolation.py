"""The interpolation of Schedule-Free optimizers: a number above 0 and below 1, held or not."""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import checks
from ..number.scalar import ScheduledScalar

Number = ScheduledScalar | float


def inside(name: str, value: Any) -> Number:
    """Check that an interpolation is above 0 and below 1, all the time."""
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
    """What an interpolation must be also where a value is held by hand."""

    name: str
    scalar: ScheduledScalar

    def check(self) -> None:
        """Raise ``ValueError`` if it is not."""
        if any(leaf.held is not None for leaf in self.scalar.leaves):
            for knot in self.scalar.knots:
                inside(self.name, float(self.scalar.in_force(knot)))
