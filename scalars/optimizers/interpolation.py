"""The check of the interpolation of Schedule-Free optimizers, for all values it may take."""

from __future__ import annotations

from typing import Any

from .. import checks
from ..number.scalar import ScheduledScalar
from .staying import Stays

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
        stays = Stays(name, value, inside)
        stays.check()
        stays.register()
    number: Number = value
    return number
