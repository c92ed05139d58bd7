"""What the arguments of schedules are called in other libraries."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from .. import checks

FRACTIONS = "fractions of the run, as Horizon.fraction(steps=..., epochs=...) gives them"
RUN = (
    "not given to a schedule: call update(step / total), or pass Horizon(total) to attach. For a "
    "part of the run, use Sequence"
)
RATE = ("peak", "value", "schedule", "start")
CALLED: dict[str, tuple[str, ...]] = {
    # The name there, and the names here. The first one that a schedule has is meant.
    "T_0": ("first_cycle",),
    "T_mult": ("cycle_mult",),
    "base_lr": ("low", *RATE),
    "decay_rate": ("factor",),
    "decay_steps": ("every",),
    "end_lr": ("end",),
    "end_value": ("end",),
    "eta_min": ("end",),
    "gamma": ("factor",),
    "init": ("start",),
    "init_value": ("start",),
    "initial_learning_rate": ("value", "start"),
    "learning_rate": RATE,
    "lr": RATE,
    "lr_min": ("minimum", "end"),
    "max_lr": ("peak", "high"),
    "min_delta": ("threshold",),
    "min_lr": ("minimum", "end"),
    "num_cycles": ("times",),
    "num_decay_steps": ("decay",),
    "num_warmup_steps": ("fraction", "warmup"),
    "peak_lr": ("peak",),
    "peak_value": ("peak",),
    "pct_start": ("warmup",),
    "step_size": ("every",),
    "steps": ("fraction",),
    "total_iters": ("fraction",),
    "transition_steps": ("fraction",),
    "warmup_steps": ("fraction", "warmup"),
}
LENGTHS = ("T_max", "decay_steps", "max_steps", "num_training_steps", "steps", "total_iters",
           "total_steps", "transition_steps")  # fmt: skip
PARTS = ("T_0", "decay_steps", "num_decay_steps", "pct_start", "step_size")
"""The names whose arguments here are fractions of the run, and nothing else."""
TIMES = ("decay_rate", "decay_steps", "transition_steps")
OTHERWISE = {
    # Names that mean something else for a schedule, by the name of its class.
    "DynamicLossScale": ("decay_rate", "gamma", "lr_min", "min_lr"),
    "Exponential": TIMES,  # in other libraries it need not end with the run
    "InverseSqrt": TIMES,
    "InverseTime": TIMES,
    "NewBob": ("min_delta",),
    "OneCycle": ("base_lr",),
    "Truncated": ("end_lr", "end_value", "eta_min", "lr_min", "min_lr"),
    "WarmupStableDecay": ("decay_steps",),
}


def hint(schedule: type[Any], known: Mapping[str, tuple[Any, ...]], named: Any) -> str:
    """Return what to write instead of arguments that a schedule does not have, and its call.

    Args:
        schedule: The class.
        known: The checks of its fields, by name.
        named: The names of the arguments that it was called with.
    """
    parameters = inspect.signature(schedule).parameters
    others = (*parameters, *OTHERWISE.get(schedule.__name__, ()))
    hints = [_hint(known, name) for name in named if name not in others]
    shown = ", ".join([str(p.replace(annotation=p.empty)) for p in parameters.values()])
    return " ".join([*filter(None, hints), f"The call is {schedule.__name__}({shown})."])


def _hint(fields: Mapping[str, tuple[Any, ...]], name: str) -> str:
    """Return what an argument of another library is called, or nothing if that is not known."""
    for field in [one for one in CALLED.get(name, ()) if one in fields]:
        is_fraction = bool({checks.fraction, checks.span}.intersection(fields[field]))
        if name in PARTS and not is_fraction:
            continue
        unit = f", in {FRACTIONS}" if is_fraction else ""
        if name == "min_delta":
            unit = ', with threshold_mode="abs"'
        return f"{name!r} is called {field!r} here{unit}."
    return f"{name!r} is {RUN}." if name in LENGTHS else ""
