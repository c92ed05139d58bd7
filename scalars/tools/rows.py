"""The rows of a ``Recorder``."""

from __future__ import annotations

from typing import Any

from .. import checks
from ..number.scalar import ScheduledScalar
from ..training.group import ScalarGroup

Row = dict[str, Any]


def by_formula(step: int, group: ScalarGroup) -> Row:
    """Return a row with the values that a group driven by an optimizer has at a step.

    A scalar that changes in compiled steps has no formula, and no value here.
    """
    horizon: Any = group.horizon
    progress = horizon.progress(step)
    known = {name: scalar for name, scalar in group.items() if not is_on_device(scalar)}
    values = {name: float(x.in_force(min(progress, 1.0))) for name, x in known.items()}
    return {"step": step, "progress": progress, **values}


def is_on_device(scalar: ScheduledScalar) -> bool:
    """Return whether a scalar changes in compiled steps."""
    return any(leaf.on_device for leaf in scalar.leaves)


def checked_row(name: str, value: Any) -> Row:
    """Check a row of a saved record."""
    if not isinstance(value, dict) or not {"step", "progress"} <= set(value):
        checks.fail(name, "a row", value, "Load a file that Recorder.save wrote.")
    checks.count(f"step of {name}", value["step"], least=0)
    return {key: value[key] if key == "step" else checks.metric(value[key], key) for key in value}
