"""What the arguments of schedules are called in other libraries."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

FRACTIONS = "fractions of the run, as Horizon(total).fraction(steps=...) makes them"
RUN = "not given to a schedule: call update(step / total), or pass Horizon(total) to attach"
CALLED: dict[str, tuple[str, ...]] = {
    # The name there, and the names here, of which a schedule has at most one.
    "base_lr": ("low", "start"),
    "decay_rate": ("factor",),
    "div_factor": ("start",),
    "end_lr": ("end",),
    "end_value": ("end",),
    "eta_min": ("end",),
    "final_div_factor": ("end",),
    "gamma": ("factor",),
    "init": ("start",),
    "init_value": ("start",),
    "initial_learning_rate": ("start",),
    "initial_lr": ("start",),
    "learning_rate": ("start", "peak", "value"),
    "lr": ("start", "peak", "value"),
    "lr_min": ("end", "minimum"),
    "max_lr": ("peak", "high"),
    "min_delta": ("threshold",),
    "min_lr": ("minimum", "end"),
    "num_cycles": ("times",),
    "num_decay_steps": ("decay",),
    "num_warmup_steps": ("fraction", "warmup"),
    "peak_value": ("peak",),
    "pct_start": ("warmup",),
    "step_size": ("every",),
    "step_size_up": ("cycle",),
    "T_0": ("first_cycle",),
    "T_mult": ("cycle_mult",),
    "warmup_steps": ("fraction", "warmup"),
}
LENGTHS = ("T_max", "decay_steps", "max_steps", "num_training_steps", "steps", "total_iters",
           "total_steps", "transition_steps")  # fmt: skip
COUNTS = ("fraction", "warmup", "decay", "every", "cycle", "first_cycle", "milestones")


def hint(schedule: Callable[..., Any], named: Any) -> str:
    """Return what to write instead of arguments that a schedule does not have, and its call."""
    signature = inspect.signature(schedule)
    parameters = signature.parameters
    hints = []
    for name in [name for name in named if name not in parameters]:
        if name in LENGTHS:
            hints.append(f"{name!r} is {RUN}.")
        elif here := [one for one in CALLED.get(name, ()) if one in parameters]:
            unit = f", in {FRACTIONS}" if here[0] in COUNTS else ""
            hints.append(f"{name!r} is called {here[0]!r} here{unit}.")
    shown = ", ".join([str(p.replace(annotation=p.empty)) for p in parameters.values()])
    return " ".join([*hints, f"The call is {schedule.__name__}({shown})."])
